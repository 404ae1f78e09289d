/* tenant_kms — what a new tenant needs from KMS: a key of its own, and two data keys wrapped by it that nobody
 * has seen (GenerateDataKeyWithoutPlaintext). The key's alias carries the slug and its description the tenant's
 * id, so that a second attempt after a crash finds the half-made tenant and goes on with the same id. A key that
 * lost the race for its alias stays behind, unused and without an alias: deleting keys is an operator's right
 * (docs/runbooks), not ours. */
#ifndef CORDON_AUTH_TENANT_KMS_H
#define CORDON_AUTH_TENANT_KMS_H

#include "aws/kms.h"

enum { TENANT_KMS_KINDS = TENANT_KEY_SEARCH + 1 };      /* by enum tenant_key_kind */

struct tenant_kms {
    struct uuid tenant_id;
    char *key_id;                               /* ARN */
    struct blob wrapped[TENANT_KMS_KINDS];
};

/* Find or make the key of the tenant that will be called slug, and its wrapped keys; in mem.
 * ST_CONFLICT: the alias belongs to a key that is not such a tenant's. ST_UNAVAILABLE KMS_001: the key is
 * disabled or being deleted, so the slug cannot be used; KMS_002: KMS is out of reach. */
enum status tenant_kms_make(struct kms *kms, const char *slug, int64_t deadline_ms, struct arena *mem,
                            struct tenant_kms *ret_made, struct why *why) MUST_USE;

#endif
