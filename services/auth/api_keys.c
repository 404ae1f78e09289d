#include "api_keys.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "core/text_codec.h"

enum { SECRET_BYTES = 32, SECRET_HEX_BYTES = 64, SECRET_AT = 4 + API_KEY_PREFIX_BYTES + 1 };

bool api_key_is_meant(const char *text) {
    return str_starts_with(text, "cdn_");
}

bool api_key_parse(const char *text, struct api_key *ret_key) {
    static const char PREFIX[] = "abcdefghijklmnopqrstuvwxyz0123456789", HEX[] = "0123456789abcdef";
    if (!api_key_is_meant(text) || strlen(text) != API_KEY_TEXT_BYTES - 1 || strspn(text + 4, PREFIX) != API_KEY_PREFIX_BYTES ||
        text[SECRET_AT - 1] != '_' || strspn(text + SECRET_AT, HEX) != SECRET_HEX_BYTES)
        return false;
    memcpy(ret_key->prefix, text + 4, API_KEY_PREFIX_BYTES);
    ret_key->prefix[API_KEY_PREFIX_BYTES] = '\0';
    sha256(text + SECRET_AT, SECRET_HEX_BYTES, ret_key->secret_hash);
    return true;
}

void api_key_make(char text[API_KEY_TEXT_BYTES], struct api_key *ret_key) {
    uint8_t random[SECRET_BYTES + API_KEY_PREFIX_BYTES / 2];
    char prefix[API_KEY_PREFIX_BYTES + 1], secret[SECRET_HEX_BYTES + 1];
    if (RAND_bytes(random, sizeof random) != 1)
        abort();        /* no key is better than one that can be guessed */
    (void)snprintf(text, API_KEY_TEXT_BYTES, "cdn_%s_%s", hex_encode(random + SECRET_BYTES, API_KEY_PREFIX_BYTES / 2, prefix),
                   hex_encode(random, SECRET_BYTES, secret));
    (void)api_key_parse(text, ret_key);
    explicit_bzero(random, sizeof random);
    explicit_bzero(secret, sizeof secret);
}
