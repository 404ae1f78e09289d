// links: jwt
/* jws_verify TOKEN-FILE KEYS-FILE [ISSUER AUDIENCE UNIX-TIME] — run any vector through the verifier that
 * auth uses. KEYS-FILE holds a key set or a single key. Without ISSUER only the signature is checked.
 * Prints "accepted ..." or "refused <reason>"; exit status 0, 1, or 2 when a file cannot be used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "core/str.h"
#include "jwt/claims.h"
#include "jwt/jws.h"

static bool read_file(const char *path, struct buffer *out) {
    FILE *file = fopen(path, "rb");
    char block[4096];
    size_t n;
    if (!file)
        return false;
    while ((n = fread(block, 1, sizeof block, file)) > 0)
        if (!buffer_add(out, block, n))
            break;
    bool is_read = !ferror(file) && !out->is_overfull && out->len > 0;
    (void)fclose(file);
    return is_read;
}

static enum status read_keys(const struct buffer *text, struct jwks **ret_keys, struct why *why) {
    if (jwks_parse(text->data, text->len, ret_keys, why) == ST_OK)
        return ST_OK;
    CLEANUP(buffer_end) struct buffer set = { 0 };
    struct why second = { 0 };
    if (!buffer_add_str(&set, "{\"keys\":[") || !buffer_add(&set, text->data, text->len) || !buffer_add_str(&set, "]}"))
        return ST_INVALID;
    enum status st = jwks_parse(set.data, set.len, ret_keys, &second);
    if (strcmp(why->text, "not a key set") == 0)
        *why = second;
    return st;
}

int main(int argc, char **argv) {
    if (argc != 3 && argc != 6) {
        (void)fprintf(stderr, "usage: jws_verify TOKEN-FILE KEYS-FILE [ISSUER AUDIENCE UNIX-TIME]\n");
        return 2;
    }
    CLEANUP(buffer_end) struct buffer token = { .limit_bytes = 1 << 20 }, keys_text = { .limit_bytes = 1 << 20 };
    int64_t now_s = 0;
    if (!read_file(argv[1], &token) || !read_file(argv[2], &keys_text) || (argc == 6 && !str_to_i64(argv[5], 0, INT64_MAX / 2, &now_s))) {
        (void)fprintf(stderr, "jws_verify: a file cannot be read, or the time is no number\n");
        return 2;
    }
    while (token.len && (token.data[token.len - 1] == '\n' || token.data[token.len - 1] == '\r'))
        token.len--;
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    struct why why = { 0 };
    if (read_keys(&keys_text, &keys, &why) != ST_OK) {
        (void)printf("refused keys: %s\n", why.text);
        return 1;
    }
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct jws jws = { 0 };
    struct jwt_claims claims = { 0 };
    enum jwt_refusal refusal = jws_verify(mem, keys, token.data, token.len, &jws);
    if (refusal == JWT_ACCEPTED && argc == 6) {
        struct jwt_policy policy = { .issuer = argv[3], .audience = argv[4], .audience_claim = "aud", .tenant_claim = "tenant", .roles_claim = "roles" };
        refusal = jwt_claims_read(mem, &jws, &policy, now_s, &claims);
    }
    if (refusal != JWT_ACCEPTED) {
        (void)printf("refused %s\n", jwt_refusal_name(refusal));
        return 1;
    }
    (void)printf("accepted %s %s\n", jws.algorithm, claims.subject ? claims.subject : "");
    return 0;
}
