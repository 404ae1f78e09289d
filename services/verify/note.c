#include "note.h"

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_ED25519 = 1, TYPE_ECDSA = 2, TYPE_COSIGNATURE = 4, ID_BYTES = 4, RAW_KEY_BYTES = 32, SIGNATURE_BYTES = 64, TIME_BYTES = 8,
       DER_SIGNATURE_MAX_BYTES = 160 };

/* Strict: padded, nothing but its letters, no stray bits. Returns the length, -1 when it is none or too long. */
static int base64_read(struct text t, uint8_t *out, size_t size) {
    static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = 0;
    if (t.len == 0 || t.len % 4 != 0)
        return -1;
    for (size_t i = 0; i < t.len; i += 4) {
        uint32_t group = 0;
        int padding = 0;
        for (size_t k = 0; k < 4; k++) {
            char c = t.data[i + k];
            const char *at = c ? strchr(LETTERS, c) : NULL;
            if (c == '=' && i + 4 == t.len && k >= 2)
                padding++;
            else if (!at || padding)
                return -1;
            group = group << 6 | (at ? (uint32_t)(at - LETTERS) : 0);
        }
        if (padding && (group & (padding == 1 ? 0xffu : 0xffffu)))
            return -1;
        for (int k = 0; k < 3 - padding; k++) {
            if (len == size)
                return -1;
            out[len++] = (uint8_t)(group >> (16 - 8 * k));
        }
    }
    return (int)len;
}

/* The first bytes of SHA-256(name || 0x0a || type || key); of an ECDSA key's SubjectPublicKeyInfo alone. */
static void key_id(const char *name, const struct verifier *v, uint8_t out[ID_BYTES]) {
    uint8_t data[NAME_MAX_BYTES + 2 + PUBLIC_KEY_MAX_BYTES], digest[HASH_BYTES];
    size_t len = 0;
    if (v->type != TYPE_ECDSA) {
        len = strlen(name);
        memcpy(data, name, len);
        data[len++] = '\n';
        data[len++] = v->type;
    }
    memcpy(data + len, v->public_key, v->key_len);
    if (EVP_Digest(data, len + v->key_len, digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    memcpy(out, digest, ID_BYTES);
}

static bool name_copy(struct text t, char out[NAME_MAX_BYTES]) {
    if (t.len == 0 || t.len >= NAME_MAX_BYTES)
        return false;
    for (size_t i = 0; i < t.len; i++)
        if ((unsigned char)t.data[i] <= ' ' || t.data[i] == '+' || t.data[i] == 0x7f)
            return false;
    memcpy(out, t.data, t.len);
    out[t.len] = '\0';
    return true;
}

bool verifier_read(struct text t, struct verifier *out) {
    uint8_t id[ID_BYTES], own[ID_BYTES], typed[1 + PUBLIC_KEY_MAX_BYTES];
    while (t.len > 0 && (t.data[t.len - 1] == '\n' || t.data[t.len - 1] == '\r'))
        t.len--;
    const char *plus = memchr(t.data, '+', t.len);
    if (!plus)
        return false;
    struct text name = { t.data, (size_t)(plus - t.data) }, rest = { plus + 1, t.len - name.len - 1 };
    if (rest.len < 2 * ID_BYTES + 1 || rest.data[2 * ID_BYTES] != '+' || !hex_read((struct text){ rest.data, 2 * ID_BYTES }, id, ID_BYTES))
        return false;
    struct text key = { rest.data + 2 * ID_BYTES + 1, rest.len - 2 * ID_BYTES - 1 };
    int len = name_copy(name, out->name) ? base64_read(key, typed, sizeof typed) : -1;
    if (len < 2 || (typed[0] != TYPE_ECDSA && len != 1 + RAW_KEY_BYTES))
        return false;
    out->type = typed[0];
    out->key_len = (size_t)len - 1;
    memcpy(out->public_key, typed + 1, out->key_len);
    key_id(out->name, out, own);
    return memcmp(id, own, ID_BYTES) == 0;
}

/* Cut the next line off. False: none is left, or it has no end. */
static bool next_line(struct text *rest, struct text *out) {
    const char *newline = rest->len ? memchr(rest->data, '\n', rest->len) : NULL;
    if (!newline)
        return false;
    *out = (struct text){ rest->data, (size_t)(newline - rest->data) };
    rest->data += out->len + 1;
    rest->len -= out->len + 1;
    return true;
}

static bool decimal(struct text t, uint64_t *out) {
    uint64_t value = 0;
    if (t.len == 0 || t.len > 18 || (t.data[0] == '0' && t.len > 1))
        return false;
    for (size_t i = 0; i < t.len; i++) {
        if (t.data[i] < '0' || t.data[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(t.data[i] - '0');
    }
    *out = value;
    return true;
}

bool checkpoint_read(struct text note, struct checkpoint *out) {
    struct text rest = note, origin, size, root, line;
    if (!next_line(&rest, &origin) || !next_line(&rest, &size) || !next_line(&rest, &root) || !name_copy(origin, out->origin) ||
        !decimal(size, &out->size) || base64_read(root, out->root.bytes, HASH_BYTES) != HASH_BYTES)
        return false;
    do {                        /* extension lines, up to the empty one */
        if (!next_line(&rest, &line))
            return false;
    } while (line.len > 0);
    out->body = (struct text){ note.data, (size_t)(line.data - note.data) };
    out->signatures = rest;
    return rest.len > 0;
}

static bool is_good(const struct verifier *v, const uint8_t *signature, size_t len, struct text signed_text) {
    const uint8_t *der = v->public_key;
    EVP_PKEY *key = v->type == TYPE_ECDSA ? d2i_PUBKEY(NULL, &der, (long)v->key_len)
                                          : EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, v->public_key, v->key_len);
    bool is_ours = key && (v->type != TYPE_ECDSA || (EVP_PKEY_is_a(key, "EC") && der == v->public_key + v->key_len));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool is_valid = is_ours && ctx && EVP_DigestVerifyInit(ctx, NULL, v->type == TYPE_ECDSA ? EVP_sha256() : NULL, NULL, key) == 1 &&
                    EVP_DigestVerify(ctx, signature, len, (const uint8_t *)signed_text.data, signed_text.len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    return is_valid;
}

/* The next signature line by this name with this key id; its bytes behind the id. Length, or -1 when there is none. */
static int next_signature(struct text *rest, const char *name, const uint8_t id[ID_BYTES], uint8_t *out, size_t size) {
    static const char DASH[] = "\xe2\x80\x94 ";
    struct text line;
    size_t name_len = strlen(name), before = strlen(DASH) + name_len + 1;
    while (next_line(rest, &line)) {
        uint8_t bytes[ID_BYTES + DER_SIGNATURE_MAX_BYTES];
        if (line.len <= before || memcmp(line.data, DASH, strlen(DASH)) != 0 || memcmp(line.data + strlen(DASH), name, name_len) != 0 ||
            line.data[before - 1] != ' ')
            continue;
        int len = base64_read((struct text){ line.data + before, line.len - before }, bytes, sizeof bytes);
        if (len <= ID_BYTES || memcmp(bytes, id, ID_BYTES) != 0 || (size_t)len - ID_BYTES > size)
            continue;
        memcpy(out, bytes + ID_BYTES, (size_t)len - ID_BYTES);
        return len - ID_BYTES;
    }
    return -1;
}

static bool is_member(const char *origin, const char *family) {
    size_t len = strlen(family);
    return strncmp(origin, family, len) == 0 && (origin[len] == '\0' || origin[len] == '/');
}

bool checkpoint_is_signed(const struct checkpoint *c, const struct verifier *v) {
    uint8_t id[ID_BYTES], signature[DER_SIGNATURE_MAX_BYTES];
    if ((v->type != TYPE_ED25519 && v->type != TYPE_ECDSA) || !is_member(c->origin, v->name))
        return false;
    key_id(c->origin, v, id);
    for (struct text rest = c->signatures;;) {
        int len = next_signature(&rest, c->origin, id, signature, sizeof signature);
        if (len < 0)
            return false;
        if ((v->type == TYPE_ECDSA || len == SIGNATURE_BYTES) && is_good(v, signature, (size_t)len, c->body))
            return true;
    }
}

bool checkpoint_is_witnessed(const struct checkpoint *c, const struct verifier *v, uint64_t *out_time) {
    uint8_t id[ID_BYTES], stamped[TIME_BYTES + SIGNATURE_BYTES];
    char text[64 + NOTE_MAX_BYTES];
    if (v->type != TYPE_COSIGNATURE || c->body.len > NOTE_MAX_BYTES)
        return false;
    key_id(v->name, v, id);
    for (struct text rest = c->signatures;;) {
        int len = next_signature(&rest, v->name, id, stamped, sizeof stamped);
        if (len < 0)
            return false;
        if (len != sizeof stamped)
            continue;
        uint64_t seconds = 0;
        for (int i = 0; i < TIME_BYTES; i++)
            seconds = seconds << 8 | stamped[i];
        int head = snprintf(text, 64, "cosignature/v1\ntime %" PRIu64 "\n", seconds);
        memcpy(text + head, c->body.data, c->body.len);
        if (is_good(v, stamped + TIME_BYTES, SIGNATURE_BYTES, (struct text){ text, (size_t)head + c->body.len })) {
            *out_time = seconds;
            return true;
        }
    }
}
