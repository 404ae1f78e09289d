// links: auth_lib
/* Who somebody is, as others say it: an API key, or what an identity provider answers: its discovery document and, behind a NUL
 * byte, its keys. An endpoint that is taken is a URL with nothing in it that could end a header. */
#include <stdlib.h>
#include <string.h>

#include "api_keys.h"
#include "core/clock.h"
#include "issuer.h"

enum { ANSWER_MS = 10000 };

struct answers { const uint8_t *discovery, *keys; size_t discovery_len, keys_len; };

static enum status fetch(void *ctx, const char *url, struct buffer *body, struct why *why) {
    const struct answers *a = ctx;
    bool is_first = strstr(url, "/.well-known/openid-configuration");
    bool fits = is_first ? buffer_add(body, a->discovery, a->discovery_len) : buffer_add(body, a->keys, a->keys_len);
    return fits ? ST_OK : fail(why, ST_UNAVAILABLE, "too much");
}

static void check_endpoint(const char *url) {
    if (url && (strncmp(url, "https://", 8) != 0 || strpbrk(url, " \r\n\"<>\\")))
        abort();
}

static void check_provider(struct answers *answers) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    const struct issuer_options options = { .url = "https://login.example", .fetch = fetch, .fetch_ctx = answers };
    CLEANUP(issuer_destroy) struct issuer *issuer = issuer_new(&options);
    struct issuer_endpoints at = { 0 };
    struct why why = { 0 };
    uint64_t edition = 0;
    enum status st = issuer_keys(issuer, clock_mono_ms() + ANSWER_MS, &keys, &edition, &why);
    if (st == ST_OK ? !keys || edition != 1 : keys != NULL)
        abort();
    if (issuer_endpoints(issuer, clock_mono_ms() + ANSWER_MS, mem, &at, &why) != st)
        abort();
    check_endpoint(at.authorization);
    check_endpoint(at.token);
    check_endpoint(at.end_session);
    check_endpoint(at.revocation);
}

static void check_api_key(const uint8_t *data, size_t size) {
    struct api_key key;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    if (api_key_parse(text, &key) && (!api_key_is_meant(text) || strlen(key.prefix) != API_KEY_PREFIX_BYTES ||
                                      strncmp(text + 4, key.prefix, API_KEY_PREFIX_BYTES) != 0))
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size ? memchr(data, '\0', size) : NULL;
    struct answers answers = { .discovery = data, .discovery_len = end ? (size_t)(end - data) : size };
    if (end) {
        answers.keys = end + 1;
        answers.keys_len = size - answers.discovery_len - 1;
    }
    check_provider(&answers);
    check_api_key(data, size);
    return 0;
}
