/* query — what the process holds, shared by its handlers. */
#ifndef CORDON_QUERY_QUERY_H
#define CORDON_QUERY_QUERY_H

#include "aws/kms.h"
#include "aws/s3.h"
#include "aws/sts.h"
#include "crypto/cosignature.h"
#include "crypto/keyring.h"
#include "db/pool.h"
#include "db/sql.h"
#include "keystore/shares.h"
#include "service/service.h"

/* How much of rows' own bytes one reply carries: a frame of the bus is BUS_FRAME_MAX_BYTES, and ids and lengths come on top. */
enum { QUERY_PAGE_MAX_BYTES = 900000 };

struct query_settings {
    struct live_secret *database_url, *database_password, *audit_database_url, *audit_database_password;
    int64_t db_connections_count;
    const char *bucket, *share_bucket, *anchor_bucket;
    int64_t key_cache_ms, share_cache_ms, search_effort_count;
    struct aws_settings aws;
    const char *s3_endpoint, *kms_endpoint;
    const char *witness_keys;
};

struct query {
    const struct query_settings *settings;
    struct runtime *runtime;
    char search_effort[32];         /* settings of db's connections: how an index of vectors is searched */
    const char *search_settings[3];
    struct db_pool *db;             /* cordon_query */
    struct db_pool *audit_db;       /* cordon_audit_reader */
    struct keyring *keyring;
    struct shares *shares;
    struct aws *aws;
    struct s3 *s3, *anchor;         /* anchor: NULL without a bucket of archived months */
    struct kms *kms;
    struct witness *witnesses;      /* whose cosignatures are taken */
    size_t witness_count;
};

extern const struct service QUERY;
extern const struct sql NEAREST_CHUNKS;         /* retrieval.c; tests/bench measures it */

/* One function per rpc of proto/query.proto, in files by subject. */
/* documents.c */
enum status on_list_documents(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_content(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* vectors.c */
enum status on_get_vectors(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* subjects.c */
enum status on_find_subject(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* jobs.c */
enum status on_get_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_list_jobs(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* answers.c */
enum status on_search(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_query(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_answer(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* conversations.c */
enum status on_list_conversations(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_conversation(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_delete_conversation(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* receipts.c */
enum status on_get_receipt(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_audit_receipt(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* erasures.c */
enum status on_list_erasures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_erasure(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_erasure_certificate(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* offboarding.c */
enum status on_get_offboarding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_list_holds(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* evidence.c */
enum status on_list_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_evidence_content(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);    /* documents.c */
/* audit_events.c */
enum status on_list_audit_events(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* disclosures.c */
enum status on_list_disclosures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_export_disclosures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* audit_proofs.c */
enum status on_get_audit_checkpoint(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_audit_proof(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_audit_consistency(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_get_audit_tile(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* witnesses.c */
enum status on_add_cosignatures(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* Take the setting apart: verifier keys with commas between them. The caller's to free. ST_INVALID. */
enum status witnesses_read(const char *setting, struct witness **ret_witnesses, size_t *ret_count, struct why *why) MUST_USE;
/* audit_export.c */
enum status on_export_audit(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);

#endif
