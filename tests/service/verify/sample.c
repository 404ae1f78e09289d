#include "sample.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char SAMPLE_TENANT[] = "01920000-0000-7000-8000-00000000000a";
const char SAMPLE_ORIGIN[] = "test.example/audit/01920000-0000-7000-8000-00000000000a";
static const char FAMILY[] = "test.example/audit", WITNESS[] = "witness.example/w1";

static void sha(const void *data, size_t len, uint8_t out[32]) {
    if (EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) != 1)
        abort();
}

void sample_hash(struct sample_log *log) {
    for (unsigned i = 0; i < log->count; i++) {
        uint8_t data[257] = { 0 };
        size_t len = strlen(log->events[i]);
        memcpy(data + 1, log->events[i], len);
        sha(data, 1 + len, log->leaves[i]);
    }
}

void sample_fill(struct sample_log *log, unsigned count) {
    log->count = count;
    for (unsigned i = 0; i < count; i++)
        snprintf(log->events[i], sizeof log->events[i], "{\"action\":\"document.read\",\"detail\":{\"n\":%u,\"seq\":1},\"seq\":%u,\"tenant_id\":\"%s\",\"v\":1}",
                 i * 7919u, i, SAMPLE_TENANT);
    sample_hash(log);
}

static void node(const uint8_t left[32], const uint8_t right[32], uint8_t out[32]) {
    uint8_t data[65] = { 1 };
    memcpy(data + 1, left, 32);
    memcpy(data + 33, right, 32);
    sha(data, sizeof data, out);
}

static unsigned k_of(unsigned n) {
    unsigned k = 1;
    while (k * 2 < n)
        k *= 2;
    return k;
}

static void mth(const uint8_t (*d)[32], unsigned n, uint8_t out[32]) {
    uint8_t left[32], right[32];
    if (n == 0) {
        sha("", 0, out);
    } else if (n == 1) {
        memcpy(out, d[0], 32);
    } else {
        mth(d, k_of(n), left);
        mth(d + k_of(n), n - k_of(n), right);
        node(left, right, out);
    }
}

void sample_root(const struct sample_log *log, unsigned size, uint8_t out[32]) {
    mth(log->leaves, size, out);
}

static size_t path(unsigned m, const uint8_t (*d)[32], unsigned n, uint8_t out[][32]) {
    if (n == 1)
        return 0;
    unsigned k = k_of(n);
    size_t count = m < k ? path(m, d, k, out) : path(m - k, d + k, n - k, out);
    if (m < k)
        mth(d + k, n - k, out[count]);
    else
        mth(d, k, out[count]);
    return count + 1;
}

static size_t subproof(unsigned m, const uint8_t (*d)[32], unsigned n, bool b, uint8_t out[][32]) {
    if (m == n) {
        if (!b)
            mth(d, n, out[0]);
        return !b;
    }
    unsigned k = k_of(n);
    size_t count = m <= k ? subproof(m, d, k, b, out) : subproof(m - k, d + k, n - k, false, out);
    if (m <= k)
        mth(d + k, n - k, out[count]);
    else
        mth(d, k, out[count]);
    return count + 1;
}

size_t sample_path(const struct sample_log *log, unsigned m, unsigned size, uint8_t out[][32]) { return path(m, log->leaves, size, out); }
size_t sample_proof(const struct sample_log *log, unsigned m, unsigned size, uint8_t out[][32]) { return subproof(m, log->leaves, size, true, out); }

/* ---- notes ---- */

static EVP_PKEY *pair_of(unsigned key) {
    uint8_t seed[32] = { (uint8_t)(key + 1) };
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    if (!pair)
        abort();
    return pair;
}

static void public_of(unsigned key, uint8_t out[32]) {
    size_t len = 32;
    EVP_PKEY *pair = pair_of(key);
    if (EVP_PKEY_get_raw_public_key(pair, out, &len) != 1)
        abort();
    EVP_PKEY_free(pair);
}

static void id_of(const char *name, uint8_t type, unsigned key, uint8_t out[4]) {
    uint8_t data[256], digest[32];
    size_t len = strlen(name);
    memcpy(data, name, len);
    data[len] = '\n';
    data[len + 1] = type;
    public_of(key, data + len + 2);
    sha(data, len + 34, digest);
    memcpy(out, digest, 4);
}

static void sign(unsigned key, const char *text, size_t len, uint8_t out[64]) {
    EVP_PKEY *pair = pair_of(key);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t out_len = 64;
    if (EVP_DigestSignInit(ctx, NULL, NULL, NULL, pair) != 1 || EVP_DigestSign(ctx, out, &out_len, (const uint8_t *)text, len) != 1)
        abort();
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pair);
}

static size_t put_line(char *out, const char *name, const uint8_t *bytes, int len) {
    unsigned char text[160];
    EVP_EncodeBlock(text, bytes, len);
    return (size_t)sprintf(out, "\xe2\x80\x94 %s %s\n", name, (const char *)text);
}

static size_t put_body(const struct sample_log *log, unsigned size, char *out) {
    uint8_t root[32];
    unsigned char text[64];
    sample_root(log, size, root);
    EVP_EncodeBlock(text, root, 32);
    return (size_t)sprintf(out, "%s\n%u\n%s\n", SAMPLE_ORIGIN, size, (const char *)text);
}

const char *sample_note(const struct sample_log *log, unsigned size, unsigned key, char out[SAMPLE_NOTE_MAX]) {
    uint8_t bytes[68];
    size_t len = put_body(log, size, out);
    id_of(SAMPLE_ORIGIN, 1, key, bytes);
    sign(key, out, len, bytes + 4);
    out[len] = '\n';
    put_line(out + len + 1, SAMPLE_ORIGIN, bytes, sizeof bytes);
    return out;
}

const char *sample_cosigned(const struct sample_log *log, unsigned size, char out[SAMPLE_NOTE_MAX]) {
    enum { WITNESS_KEY = 9 };
    char text[SAMPLE_NOTE_MAX];
    uint8_t bytes[76] = { 0 };
    size_t head = (size_t)sprintf(text, "cosignature/v1\ntime 1700000000\n"), len = put_body(log, size, text + head);
    id_of(WITNESS, 4, WITNESS_KEY, bytes);
    for (int i = 0; i < 8; i++)
        bytes[4 + i] = (uint8_t)(UINT64_C(1700000000) >> (56 - 8 * i));
    sign(WITNESS_KEY, text, head + len, bytes + 12);
    sample_note(log, size, 0, out);
    put_line(out + strlen(out), WITNESS, bytes, sizeof bytes);
    return out;
}

struct verifier sample_verifier(unsigned key) {
    struct verifier v = { .type = 1 };
    strcpy(v.name, FAMILY);
    v.key_len = 32;
    public_of(key, v.public_key);
    return v;
}

struct verifier sample_witness(void) {
    struct verifier v = { .type = 4 };
    strcpy(v.name, WITNESS);
    v.key_len = 32;
    public_of(9, v.public_key);
    return v;
}

/* ---- exports ---- */

struct text_out { char *data; size_t len, size; };

static void put(struct text_out *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text_out *t, const char *fmt, ...) {
    va_list args;
    if (t->size - t->len < 8192)
        t->data = realloc(t->data, t->size = t->size * 2 + 65536);
    va_start(args, fmt);
    t->len += (size_t)vsnprintf(t->data + t->len, t->size - t->len, fmt, args);
    va_end(args);
}

static void put_hashes(struct text_out *t, const uint8_t (*hashes)[32], size_t count) {
    put(t, "\"hashes\":[");
    for (size_t i = 0; i < count; i++) {
        put(t, i ? ",\"" : "\"");
        for (int k = 0; k < 32; k++)
            put(t, "%02x", hashes[i][k]);
        put(t, "\"");
    }
    put(t, "]}\n");
}

/* The subtrees from `from` to `to`, each as large as alignment and the end allow. */
static size_t rest_of(const struct sample_log *log, unsigned from, unsigned to, uint8_t out[][32]) {
    size_t count = 0;
    while (from < to) {
        unsigned k = from ? from & -from : 1u << 30;
        while (k > to - from)
            k /= 2;
        mth(log->leaves + from, k, out[count++]);
        from += k;
    }
    return count;
}

size_t sample_export(const struct sample_log *log, unsigned first, unsigned last, unsigned size, const char *note, unsigned since, char **out) {
    struct text_out t = { 0 };
    uint8_t hashes[128][32];
    put(&t, "{\"cordon\":\"export\",\"version\":1,\"origin\":\"%s\",\"tenant_id\":\"%s\",\"first\":%u,\"events\":%u,\"size\":%u}\n", SAMPLE_ORIGIN,
        SAMPLE_TENANT, first, last - first, size);
    put(&t, "{\"cordon\":\"checkpoint\",\"note\":\"");
    for (const char *p = note; *p; p++)
        put(&t, "%.*s", *p == '\n' ? 2 : 1, *p == '\n' ? "\\n" : p);
    put(&t, "\"}\n");
    if (first > 0) {
        put(&t, "{\"cordon\":\"range\",\"size\":%u,", first);
        put_hashes(&t, hashes, rest_of(log, 0, first, hashes));
    }
    if (last < size) {
        put(&t, "{\"cordon\":\"rest\",\"from\":%u,", last);
        put_hashes(&t, hashes, rest_of(log, last, size, hashes));
    }
    if (since) {
        put(&t, "{\"cordon\":\"consistency\",\"from\":%u,\"to\":%u,", since, size);
        put_hashes(&t, hashes, sample_proof(log, since, size, hashes));
    }
    for (unsigned at = first; at < last;) {
        unsigned end = at + 64 < last ? at + 64 : last;
        for (unsigned i = at; i < end; i++)
            put(&t, "%s\n", log->events[i]);
        put(&t, "{\"cordon\":\"hashes\",\"first\":%u,", at);
        put_hashes(&t, log->leaves + at, end - at);
        at = end;
    }
    put(&t, "{\"cordon\":\"end\",\"events\":%u}\n", last - first);
    *out = t.data;
    return t.len;
}
