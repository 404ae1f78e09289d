#include "crypto/cosignature.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text_codec.h"
#include "crypto/digest.h"

enum { TYPE_ECDSA = 2, TYPE_COSIGNATURE = 4, KEY_BYTES = 32, ID_BYTES = 4, TIME_BYTES = 8, SIGNATURE_BYTES = 64,
       STAMPED_BYTES = ID_BYTES + TIME_BYTES + SIGNATURE_BYTES };

static const char DASH[] = "\xe2\x80\x94 ";

enum status witness_read(const char *text, size_t len, struct witness *ret_witness, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *plus = memchr(text, '+', len);
    size_t name_len = plus ? (size_t)(plus - text) : 0, key_len = 0;
    uint8_t *typed = NULL, own[SHA256_BYTES];
    struct witness w = { 0 };
    for (size_t i = 0; i < name_len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return fail(why, ST_INVALID, "witness key: its name has a space or another odd character");
    if (!plus || name_len == 0 || name_len > NOTE_NAME_MAX_BYTES || len - name_len < 2 + 2 * ID_BYTES || plus[1 + 2 * ID_BYTES] != '+' ||
        !hex_decode(plus + 1, 2 * ID_BYTES, w.id) ||
        !base64_decode(mem, plus + 2 + 2 * ID_BYTES, len - name_len - 2 - 2 * ID_BYTES, &typed, &key_len) ||
        key_len != 1 + KEY_BYTES || typed[0] != TYPE_COSIGNATURE)
        return fail(why, ST_INVALID, "witness key: not of the form name+id+key with a key of type 4");
    memcpy(w.name, text, name_len);
    memcpy(w.public_key, typed + 1, KEY_BYTES);
    CLEANUP(sha256_destroy) struct sha256 *digest = sha256_new();
    sha256_update(digest, w.name, name_len);
    sha256_update(digest, "\n", 1);
    sha256_update(digest, typed, key_len);
    sha256_peek(digest, own);
    if (memcmp(own, w.id, ID_BYTES) != 0)
        return fail(why, ST_INVALID, "witness key: its id is another's");
    *ret_witness = w;
    return ST_OK;
}

size_t note_text_len(const char *note) {
    const char *empty = strstr(note, "\n\n");
    return empty ? (size_t)(empty - note) + 1 : 0;
}

static bool verify(const uint8_t public_key[KEY_BYTES], const uint8_t signature[SIGNATURE_BYTES], const char *text, size_t len) {
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, KEY_BYTES);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_good = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
                   EVP_DigestVerify(ctx, signature, SIGNATURE_BYTES, (const uint8_t *)text, len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return is_good;
}

bool witness_has_signed(const struct witness *w, const char *note, const char *line, uint64_t *ret_time_s) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    size_t len = strlen(line), name_len = strlen(w->name), before = strlen(DASH) + name_len + 1, stamped_len = 0, text_len = note_text_len(note);
    uint8_t *stamped = NULL;
    if (text_len == 0 || len <= before + 1 || line[len - 1] != '\n' || memcmp(line, DASH, strlen(DASH)) != 0 ||
        memcmp(line + strlen(DASH), w->name, name_len) != 0 || line[before - 1] != ' ' ||
        !base64_decode(mem, line + before, len - before - 1, &stamped, &stamped_len) || stamped_len != STAMPED_BYTES ||
        memcmp(stamped, w->id, ID_BYTES) != 0)
        return false;
    uint64_t time_s = 0;
    for (int i = 0; i < TIME_BYTES; i++)
        time_s = time_s << 8 | stamped[ID_BYTES + i];
    char *text = arena_printf(mem, "cosignature/v1\ntime %" PRIu64 "\n%.*s", time_s, (int)text_len, note);
    if (!verify(w->public_key, stamped + ID_BYTES + TIME_BYTES, text, strlen(text)))
        return false;
    *ret_time_s = time_s;
    return true;
}

char *ecdsa_verifier(const char *name, const uint8_t *spki, size_t spki_len, struct arena *mem) {
    uint8_t digest[SHA256_BYTES], *typed = arena_alloc(mem, spki_len + 1);
    char id[2 * ID_BYTES + 1];
    sha256(spki, spki_len, digest);
    typed[0] = TYPE_ECDSA;
    memcpy(typed + 1, spki, spki_len);
    return arena_printf(mem, "%s+%s+%s", name, hex_encode(digest, ID_BYTES, id), base64_encode(mem, typed, spki_len + 1));
}

char *ecdsa_line(const char *name, const uint8_t *spki, size_t spki_len, const uint8_t *signature, size_t len, struct arena *mem) {
    uint8_t digest[SHA256_BYTES], *bytes = arena_alloc(mem, ID_BYTES + len);
    sha256(spki, spki_len, digest);
    memcpy(bytes, digest, ID_BYTES);
    memcpy(bytes + ID_BYTES, signature, len);
    return arena_printf(mem, "%s%s %s\n", DASH, name, base64_encode(mem, bytes, ID_BYTES + len));
}
