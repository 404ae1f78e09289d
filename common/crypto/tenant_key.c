#include "crypto/tenant_key.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"

struct tenant_key *tenant_key_make(const struct uuid *tenant, unsigned version, struct secret **bytes_p) {
    struct tenant_key *key = xalloc(sizeof *key);
    atomic_init(&key->refs, 1);
    key->tenant = *tenant;
    key->version = version;
    key->bytes = *bytes_p;
    *bytes_p = NULL;
    return key;
}

struct tenant_key *tenant_key_hold(struct tenant_key *key) {
    atomic_fetch_add(&key->refs, 1);
    return key;
}

void tenant_key_release(struct tenant_key **key_p) {
    struct tenant_key *key = *key_p;
    *key_p = NULL;
    if (!key || atomic_fetch_sub(&key->refs, 1) != 1)
        return;
    secret_destroy(&key->bytes);
    free(key);
}

unsigned tenant_key_version(const struct tenant_key *key) {
    return key->version;
}

void tenant_key_blind(const struct tenant_key *key, const char *domain, const void *value, size_t len,
                      uint8_t out[SHA256_BYTES]) {
    /* The key of the domain first: the value may have any length and cannot run into the domain. */
    uint8_t of_domain[SHA256_BYTES];
    hmac_sha256(key->bytes->bytes, key->bytes->len, domain, strlen(domain), of_domain);
    hmac_sha256(of_domain, sizeof of_domain, value, len, out);
    OPENSSL_cleanse(of_domain, sizeof of_domain);
}

static void field_aad(struct aad *aad, const struct tenant_key *key, enum field_kind kind, const struct uuid *row) {
    aad_begin(aad, "cordon tenant field v1");
    aad_add_uuid(aad, &key->tenant);
    aad_add_u64(aad, (uint64_t)kind);
    aad_add_uuid(aad, row);
    aad_add_u64(aad, key->version);
}

enum status tenant_key_seal(const struct tenant_key *key, enum field_kind kind, const struct uuid *row,
                            const void *plain, size_t len, struct arena *mem, struct blob *ret_sealed,
                            struct why *why) {
    struct aad aad;
    field_aad(&aad, key, kind, row);
    return aead_seal(key->bytes, &aad, plain, len, mem, ret_sealed, why);
}

enum status tenant_key_open(const struct tenant_key *key, enum field_kind kind, const struct uuid *row,
                            const void *sealed, size_t len, struct arena *mem, struct blob *ret_plain,
                            struct why *why) {
    struct aad aad;
    field_aad(&aad, key, kind, row);
    return aead_open(key->bytes, &aad, sealed, len, mem, ret_plain, why);
}
