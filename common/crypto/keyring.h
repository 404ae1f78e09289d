/* keyring — the key ladder: the tenant's KMS key opens the tenant key, the tenant key opens a document key,
 * the document key opens the document's original and its fields. Tenant keys are kept a few minutes in
 * locked memory, at most so many of them; a disabled KMS key is noticed when that time is over. Document
 * keys live as long as one request.
 *
 * A keyring is shared by all threads: when many need the same tenant at once, one asks KMS and the others
 * wait for its answer. A tenant_key is counted and may be used by any thread until released; a
 * document_key belongs to one request.
 *
 * A document key is made of two shares: one wrapped in the database, one outside of it (keystore/shares.h).
 * Either alone is random bytes, so destroying the second erases the document from every backup of the
 * database (ADR 0023). What is made from documents and kept, a conversation or a package of evidence, has a
 * key of its own, made and opened exactly like a document's under its own id. */
#ifndef CORDON_CRYPTO_KEYRING_H
#define CORDON_CRYPTO_KEYRING_H

#include "crypto/frames.h"

/* ---- tenant keys ---- */

enum tenant_key_kind { TENANT_KEY_DATA, TENANT_KEY_SEARCH };

/* "data", "search": in keys.tenant_keys, and the `purpose` of the KMS encryption context. */
const char *tenant_key_kind_text(enum tenant_key_kind kind);
bool tenant_key_kind_from_text(const char *text, enum tenant_key_kind *ret_kind);

/* One row of keys.tenant_keys(): what KMS wrapped when the tenant was made. */
struct tenant_key_blob {
    enum tenant_key_kind kind;
    unsigned version;               /* from 1; the highest seals, all open */
    const char *kms_key_id;
    struct blob wrapped;
};

/* KMS Decrypt, behind a vtable so that tests bring their own. context: {"tenant_id": uuid text, "purpose":
 * kind text}. ST_UNAVAILABLE KMS_001: the key is disabled or being deleted; KMS_002: KMS cannot be reached. */
struct key_unwrapper {
    enum status (*decrypt)(void *ctx, const struct tenant_key_blob *blob, const struct uuid *tenant,
                           int64_t deadline_ms, struct secret **ret_key, struct why *why);
    void *ctx;
};

struct keyring;
struct tenant_key;

/* keep_ms: how long a tenant key is reused after KMS gave it; max_keys: how many are kept. */
struct keyring *keyring_new(const struct key_unwrapper *unwrapper, int64_t keep_ms, size_t max_keys);
void keyring_destroy(struct keyring **keyring_p);

/* The tenant's key of `kind` and `version` (0: the highest) among its rows, from the cache or from KMS. Not
 * inside a database transaction: it may call KMS. Failures of KMS as above; ST_TIMEOUT: another thread's
 * call took longer than deadline_ms; ST_INTERNAL: no such row, or not a 32-byte key. */
enum status keyring_tenant(struct keyring *keyring, const struct uuid *tenant, const struct tenant_key_blob rows[],
                           size_t n_rows, enum tenant_key_kind kind, unsigned version, int64_t deadline_ms,
                           struct tenant_key **ret_key, struct why *why) MUST_USE;
void tenant_key_release(struct tenant_key **key_p);
unsigned tenant_key_version(const struct tenant_key *key);

/* Blind index: HMAC of the domain ("mrn") and the value under the tenant's search key. The caller normalises
 * the value. Equal values of one tenant give equal bytes; of two tenants, unrelated ones. */
void tenant_key_blind(const struct tenant_key *key, const char *domain, const void *value, size_t len,
                      uint8_t out[32]);

/* ---- fields ---- */

/* What a sealed field is; part of its associated data, so that one cannot be put in another's place.
 * Numbers are stored in effect and never change. */
enum field_kind {
    FIELD_CHUNK_TEXT = 1,           /* row: chunk */
    FIELD_FILE_NAME = 2,            /* row: document */
    FIELD_METADATA = 3,             /* row: document */
    FIELD_SHA256 = 4,               /* row: document */
    FIELD_QUESTION = 5,             /* row: answer */
    FIELD_ANSWER = 6,               /* row: answer */
    FIELD_MRN = 7,                  /* row: subject; under the tenant key itself */
    FIELD_AUDIT_SALT = 8,           /* row: audit event */
};

/* Seal or open a field under the tenant key itself: for what belongs to no document. ST_INTERNAL. */
enum status tenant_key_seal(const struct tenant_key *key, enum field_kind kind, const struct uuid *row,
                            const void *plain, size_t len, struct arena *mem, struct blob *ret_sealed,
                            struct why *why) MUST_USE;
enum status tenant_key_open(const struct tenant_key *key, enum field_kind kind, const struct uuid *row,
                            const void *sealed, size_t len, struct arena *mem, struct blob *ret_plain,
                            struct why *why) MUST_USE;

/* ---- document keys ---- */

struct document_key;

enum { DOCUMENT_SHARE_BYTES = 32 };

/* A fresh key for document and its wrapped form, in mem, for keys.put_document_key(document, tenant_key_version(key),
 * wrapped). ret_share: the caller's second share, to be kept outside the database; NULL: a key of one share, as they
 * all were before there were two. ST_INTERNAL. */
enum status document_key_new(const struct tenant_key *key, const struct uuid *document, struct arena *mem,
                             struct document_key **ret_key, struct blob *ret_wrapped, struct secret **ret_share,
                             struct why *why) MUST_USE;
/* Does it open only with its second share? */
bool document_key_has_share(const void *wrapped, size_t len);
/* key must have the version that is stored beside the wrapped key. share: NULL where the wrapped key has none.
 * ST_INTERNAL: not this document's, not under this tenant key, altered, or share is missing. A wrong share shows
 * when the key is used. */
enum status document_key_open(const struct tenant_key *key, const struct uuid *document, const void *wrapped,
                              size_t len, const struct secret *share, struct document_key **ret_key,
                              struct why *why) MUST_USE;
/* The same key wrapped under another version of the tenant key, in mem. share: a fresh key of AEAD_KEY_BYTES that a key of
 * one share is split by, and needs from here on; NULL, or a key that has two: its shares stay as they are. ST_INTERNAL. */
enum status document_key_rewrap(const struct tenant_key *from, const struct tenant_key *to, const struct uuid *document,
                                const void *wrapped, size_t len, const struct secret *share, struct arena *mem,
                                struct blob *ret_wrapped, struct why *why) MUST_USE;
void document_key_destroy(struct document_key **key_p);

/* Seal or open a field of the document. row: the id of the row that it stands in. The plaintext is in mem,
 * with a NUL behind it. ST_INTERNAL: altered, or sealed for another tenant, document, row or kind. */
enum status document_key_seal_field(const struct document_key *key, enum field_kind kind, const struct uuid *row,
                                    const void *plain, size_t len, struct arena *mem, struct blob *ret_sealed,
                                    struct why *why) MUST_USE;
enum status document_key_open_field(const struct document_key *key, enum field_kind kind, const struct uuid *row,
                                    const void *sealed, size_t len, struct arena *mem, struct blob *ret_plain,
                                    struct why *why) MUST_USE;

/* The original, as it streams to and from the document store (crypto/frames.h). */
enum status document_key_seal_original(const struct document_key *key, struct frames_sealer **ret_sealer,
                                       struct why *why) MUST_USE;
enum status document_key_open_original(const struct document_key *key, struct frames_opener **ret_opener,
                                       struct why *why) MUST_USE;

#endif
