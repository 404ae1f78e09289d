/* tenant_key — the inside of a tenant key, for the files of this folder only. */
#ifndef CORDON_CRYPTO_TENANT_KEY_H
#define CORDON_CRYPTO_TENANT_KEY_H

#include <stdatomic.h>

#include "crypto/keyring.h"

struct tenant_key {
    atomic_uint refs;
    struct uuid tenant;
    unsigned version;
    struct secret *bytes;
};

/* Takes *bytes_p; one reference, the caller's. */
struct tenant_key *tenant_key_make(const struct uuid *tenant, unsigned version, struct secret **bytes_p);
struct tenant_key *tenant_key_hold(struct tenant_key *key);

#endif
