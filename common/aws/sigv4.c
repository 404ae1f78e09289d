#include "aws/sigv4.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/buffer.h"
#include "core/text_codec.h"
#include "http/client.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

const char *sigv4_time(int64_t unix_us, char out[SIGV4_TIME_BYTES]) {
    time_t seconds = (time_t)(unix_us / 1000000);
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    (void)strftime(out, SIGV4_TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm);
    return out;
}

char *sigv4_encode(struct arena *mem, const char *text, bool keep_slash) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    (void)http_encode(text, strlen(text), keep_slash, &out);
    return arena_strdup(mem, out.data ? out.data : "");
}

static int by_name_then_value(const void *a, const void *b) {
    const struct sigv4_pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->value, y->value);
}

char *sigv4_query(struct arena *mem, const struct sigv4_pair query[], size_t n) {
    struct sigv4_pair *encoded = arena_alloc(mem, n * sizeof *encoded);
    for (size_t i = 0; i < n; i++)
        encoded[i] = (struct sigv4_pair){ sigv4_encode(mem, query[i].name, false), sigv4_encode(mem, query[i].value, false) };
    if (n > 0)
        qsort(encoded, n, sizeof *encoded, by_name_then_value);
    CLEANUP(buffer_end) struct buffer out = { 0 };
    for (size_t i = 0; i < n; i++)
        (void)buffer_printf(&out, "%s%s=%s", i ? "&" : "", encoded[i].name, encoded[i].value);
    return arena_strdup(mem, out.data ? out.data : "");
}

/* RFC 3986, section 5.2.4, and empty segments too, as the signing rules for all but S3 ask. */
static char *normalize(struct arena *mem, const char *path) {
    char *out = arena_alloc(mem, strlen(path) + 2);
    size_t len = 0;
    bool ends_in_slash = false;
    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t n = strcspn(p, "/");
        ends_in_slash = p[n] == '/' || n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
        if (n == 2 && p[0] == '.' && p[1] == '.') {
            while (len > 0 && out[--len] != '/')
                continue;
        } else if (n > 0 && !(n == 1 && p[0] == '.')) {
            out[len++] = '/';
            memcpy(out + len, p, n);
            len += n;
        }
        p += n;
    }
    if (ends_in_slash || len == 0)
        out[len++] = '/';
    out[len] = '\0';
    return out;
}

static char *canonical_path(struct arena *mem, const struct sigv4_request *request) {
    const char *path = *request->path ? request->path : "/";
    switch (request->path_rule) {
    case SIGV4_PATH_AS_SENT:    break;
    case SIGV4_PATH_ENCODED:    return sigv4_encode(mem, path, true);
    case SIGV4_PATH_NORMALIZED: return sigv4_encode(mem, normalize(mem, path), true);
    }
    return arena_strdup(mem, path);
}

struct header { char *name; const char *value; size_t place; };

static int by_name_then_place(const void *a, const void *b) {
    const struct header *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->place > y->place) - (x->place < y->place);
}

/* Lower-case names, sorted; equal names stay in their order. */
static struct header *sorted_headers(struct arena *mem, const struct sigv4_request *request) {
    struct header *headers = arena_alloc(mem, request->n_headers * sizeof *headers);
    for (size_t i = 0; i < request->n_headers; i++) {
        headers[i] = (struct header){ arena_strdup(mem, request->headers[i].name), request->headers[i].value, i };
        for (char *c = headers[i].name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
    }
    if (request->n_headers > 0)
        qsort(headers, request->n_headers, sizeof *headers, by_name_then_place);
    return headers;
}

/* Trimmed, inner runs of white space as one space. */
static void add_value(struct buffer *out, const char *value) {
    bool has_gap = false, has_text = false;
    for (; *value; value++) {
        if (isspace((unsigned char)*value)) {
            has_gap = has_text;
            continue;
        }
        if (has_gap)
            (void)buffer_add(out, " ", 1);
        (void)buffer_add(out, value, 1);
        has_gap = false;
        has_text = true;
    }
}

static void add_signed_names(struct buffer *out, const struct header headers[], size_t n) {
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(headers[i - 1].name, headers[i].name) != 0)
            (void)buffer_printf(out, "%s%s", i ? ";" : "", headers[i].name);
}

static char *signed_names(struct arena *mem, const struct sigv4_request *request) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    add_signed_names(&out, sorted_headers(mem, request), request->n_headers);
    return arena_strdup(mem, out.data ? out.data : "");
}

char *sigv4_canonical_request(struct arena *mem, const struct sigv4_request *request) {
    struct header *headers = sorted_headers(mem, request);
    CLEANUP(buffer_end) struct buffer out = { 0 };
    (void)buffer_printf(&out, "%s\n%s\n%s\n", request->method, canonical_path(mem, request),
                        sigv4_query(mem, request->query, request->n_query));
    for (size_t i = 0; i < request->n_headers; i++) {
        bool goes_on = i > 0 && strcmp(headers[i - 1].name, headers[i].name) == 0;
        if (!goes_on)
            (void)buffer_printf(&out, "%s%s:", i ? "\n" : "", headers[i].name);
        else
            (void)buffer_add(&out, ",", 1);
        add_value(&out, headers[i].value);
    }
    (void)buffer_add_str(&out, request->n_headers ? "\n\n" : "\n");
    add_signed_names(&out, headers, request->n_headers);
    (void)buffer_printf(&out, "\n%s", request->payload);
    return arena_strdup(mem, out.data);
}

static char *scope_text(struct arena *mem, const struct sigv4_scope *scope) {
    return arena_printf(mem, "%.8s/%s/%s/aws4_request", scope->time, scope->region, scope->service);
}

char *sigv4_string_to_sign(struct arena *mem, const struct sigv4_scope *scope, const char *canonical_request) {
    char digest[SHA256_HEX_BYTES];
    return arena_printf(mem, ALGORITHM "\n%s\n%s\n%s", scope->time, scope_text(mem, scope),
                        sha256_hex(canonical_request, strlen(canonical_request), digest));
}

void sigv4_signature(const struct secret *secret_access_key, const struct sigv4_scope *scope, const char *string_to_sign,
                     char out[SHA256_HEX_BYTES]) {
    struct { char start[4]; uint8_t secret[512]; } first = { { 'A', 'W', 'S', '4' }, { 0 } };
    uint8_t key[SHA256_BYTES], next[SHA256_BYTES];
    size_t len = secret_access_key->len < sizeof first.secret ? secret_access_key->len : sizeof first.secret;
    memcpy(first.secret, secret_access_key->bytes, len);
    hmac_sha256(&first, sizeof first.start + len, scope->time, 8, key);
    hmac_sha256(key, sizeof key, scope->region, strlen(scope->region), next);
    hmac_sha256(next, sizeof next, scope->service, strlen(scope->service), key);
    hmac_sha256(key, sizeof key, "aws4_request", 12, next);
    hmac_sha256(next, sizeof next, string_to_sign, strlen(string_to_sign), key);
    (void)hex_encode(key, sizeof key, out);
    OPENSSL_cleanse(&first, sizeof first);
    OPENSSL_cleanse(next, sizeof next);
}

void sigv4_chunk_signature(const struct secret *secret_access_key, const struct sigv4_scope *scope, const char *previous,
                           const void *data, size_t len, char out[SHA256_HEX_BYTES]) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char nothing[SHA256_HEX_BYTES], digest[SHA256_HEX_BYTES];
    const char *to_sign = arena_printf(mem, ALGORITHM "-PAYLOAD\n%s\n%s\n%s\n%s\n%s", scope->time, scope_text(mem, scope), previous,
                                       sha256_hex("", 0, nothing), sha256_hex(len ? data : "", len, digest));
    sigv4_signature(secret_access_key, scope, to_sign, out);
}

char *sigv4_authorization(struct arena *mem, const struct credentials *c, const struct sigv4_scope *scope,
                          const struct sigv4_request *request) {
    char signature[SHA256_HEX_BYTES];
    const char *to_sign = sigv4_string_to_sign(mem, scope, sigv4_canonical_request(mem, request));
    sigv4_signature(c->secret_access_key, scope, to_sign, signature);
    return arena_printf(mem, ALGORITHM " Credential=%s/%s, SignedHeaders=%s, Signature=%s", c->access_key_id,
                        scope_text(mem, scope), signed_names(mem, request), signature);
}

char *sigv4_presign(struct arena *mem, const struct credentials *c, const struct sigv4_scope *scope,
                    const struct sigv4_request *request, unsigned expires_s, char **ret_canonical_request) {
    struct sigv4_pair *query = arena_alloc(mem, (request->n_query + 6) * sizeof *query);
    size_t n = 0;
    for (; n < request->n_query; n++)
        query[n] = request->query[n];
    query[n++] = (struct sigv4_pair){ "X-Amz-Algorithm", ALGORITHM };
    query[n++] = (struct sigv4_pair){ "X-Amz-Credential", arena_printf(mem, "%s/%s", c->access_key_id, scope_text(mem, scope)) };
    query[n++] = (struct sigv4_pair){ "X-Amz-Date", scope->time };
    query[n++] = (struct sigv4_pair){ "X-Amz-Expires", arena_printf(mem, "%u", expires_s) };
    query[n++] = (struct sigv4_pair){ "X-Amz-SignedHeaders", signed_names(mem, request) };
    if (c->session_token)
        query[n++] = (struct sigv4_pair){ "X-Amz-Security-Token", secret_text(c->session_token) };
    struct sigv4_request whole = *request;
    whole.query = query;
    whole.n_query = n;
    char *canonical_request = sigv4_canonical_request(mem, &whole);
    char signature[SHA256_HEX_BYTES];
    sigv4_signature(c->secret_access_key, scope, sigv4_string_to_sign(mem, scope, canonical_request), signature);
    if (ret_canonical_request)
        *ret_canonical_request = canonical_request;
    return arena_printf(mem, "%s&X-Amz-Signature=%s", sigv4_query(mem, query, n), signature);
}
