/* kms — keys that never leave AWS. A client is shared by all threads. Every data key is bound to an encryption
 * context of tenant and purpose: KMS refuses to decrypt it under another. */
#ifndef CORDON_AWS_KMS_H
#define CORDON_AWS_KMS_H

#include "aws/aws.h"
#include "crypto/keyring.h"

struct kms;

struct kms *kms_new(struct aws *aws, const char *endpoint);      /* endpoint "": AWS's own */
void kms_destroy(struct kms **kms_p);

/* All: ST_UNAVAILABLE KMS_001 when the key is disabled or pending deletion, KMS_002 when KMS refuses us or cannot
 * be reached; ST_TIMEOUT; ST_INTERNAL when KMS calls the request wrong (another context, a damaged blob). */

/* A new symmetric key with our tags (ends with a name of NULL). *ret_key_id: its ARN, in mem. Not repeated: a lost
 * answer may leave a key behind, found by its tags. */
enum status kms_create_key(struct kms *kms, const char *description, const struct sigv4_pair tags[], int64_t deadline_ms,
                           struct arena *mem, char **ret_key_id, struct why *why) MUST_USE;
/* alias: "alias/cordon/..."; ST_CONFLICT: it exists. */
enum status kms_create_alias(struct kms *kms, const char *alias, const char *key_id, int64_t deadline_ms, struct why *why) MUST_USE;

enum kms_key_state { KMS_KEY_ENABLED, KMS_KEY_DISABLED, KMS_KEY_PENDING_DELETION, KMS_KEY_OTHER };
/* ST_NOT_FOUND: no such key. */
enum status kms_describe_key(struct kms *kms, const char *key_id, int64_t deadline_ms, enum kms_key_state *ret_state,
                             struct why *why) MUST_USE;

struct kms_key { char *arn, *description; enum kms_key_state state; };
/* The same for a key by id, ARN or alias, with what it is called; texts in mem. */
enum status kms_find_key(struct kms *kms, const char *key_id, int64_t deadline_ms, struct arena *mem, struct kms_key *ret_key,
                         struct why *why) MUST_USE;

/* For operators (cordon-offboard). Deletion after `days`, 7 to 30, during which the key opens nothing and the deletion may be
 * cancelled; a key whose deletion was cancelled is enabled again here. Either may be repeated. */
enum status kms_schedule_deletion(struct kms *kms, const char *key_id, unsigned days, int64_t deadline_ms, struct why *why) MUST_USE;
enum status kms_cancel_deletion(struct kms *kms, const char *key_id, int64_t deadline_ms, struct why *why) MUST_USE;

/* A fresh tenant key that nobody has seen, wrapped; in mem. */
enum status kms_generate_tenant_key(struct kms *kms, const char *key_id, const struct uuid *tenant, enum tenant_key_kind kind,
                                    int64_t deadline_ms, struct arena *mem, struct blob *ret_wrapped, struct why *why) MUST_USE;
/* Unwrap it. The caller owns *ret_key. */
enum status kms_decrypt_tenant_key(struct kms *kms, const struct tenant_key_blob *blob, const struct uuid *tenant,
                                   int64_t deadline_ms, struct secret **ret_key, struct why *why) MUST_USE;
/* The same as the keyring wants it. */
struct key_unwrapper kms_unwrapper(struct kms *kms);

/* An asymmetric key's public half: SubjectPublicKeyInfo, DER; in mem. */
enum status kms_public_key(struct kms *kms, const char *key_id, int64_t deadline_ms, struct arena *mem, struct blob *ret_spki,
                           struct why *why) MUST_USE;
/* Sign at most 4,096 bytes with an asymmetric key (ECDSA_SHA_256, DER; KMS hashes them); in mem. */
enum status kms_sign(struct kms *kms, const char *key_id, const void *text, size_t len, int64_t deadline_ms, struct arena *mem,
                     struct blob *ret_signature, struct why *why) MUST_USE;

#endif
