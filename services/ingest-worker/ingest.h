/* ingest — what the process holds, shared by its handlers and job threads. */
#ifndef CORDON_INGEST_INGEST_H
#define CORDON_INGEST_INGEST_H

#include "aws/kms.h"
#include "aws/s3.h"
#include "aws/sts.h"
#include "crypto/keyring.h"
#include "db/listen.h"
#include "db/pool.h"
#include "extract.h"
#include "job_metrics.h"
#include "job_pool.h"
#include "keystore/keystore.h"
#include "schedule.h"
#include "service/service.h"

struct ingest_settings {
    struct live_secret *database_url, *database_password, *jobs_database_url, *jobs_database_password;
    int64_t db_connections_count;
    const char *bucket, *share_bucket, *anchor_bucket;
    int64_t upload_max_bytes, upload_lease_ms, upload_parts_count;
    const char *sandbox_path, *pdftotext_path;
    bool is_without_landlock;
    int64_t extract_memory_bytes, extract_time_ms, text_max_bytes;
    int64_t job_threads_count, lease_ms, poll_ms;
    int64_t key_cache_ms, share_cache_ms, backup_days, key_rotation_days, partition_chunks_count;
    struct aws_settings aws;
    const char *s3_endpoint, *kms_endpoint;
};

struct ingest {
    const struct ingest_settings *settings;
    struct runtime *runtime;
    struct db_pool *db;             /* cordon_ingest: tenant tables under a ticket */
    struct db_pool *jobs_db;        /* cordon_jobs: claim, renew, reap, depth */
    struct db_listener *listener;
    struct extract_options extract;
    struct keyring *keyring;
    struct shares *shares;
    struct aws *aws;
    struct s3 *s3, *anchor;         /* anchor: NULL without a bucket of archived months */
    struct kms *kms;
    struct job_pool *jobs;
    struct schedule *schedule;
    struct job_gauges gauges;
};

extern const struct service INGEST_WORKER;

/* One function per rpc of proto/ingest.proto. */
/* upload.c */
enum status on_upload(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* handlers.c */
enum status on_delete_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_update_document(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);     /* labels.c */
/* erasure.c */
enum status on_create_erasure(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_place_hold(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_release_hold(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* reembed.c */
enum status on_create_reembedding(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* evidence.c */
enum status on_create_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_delete_evidence(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
/* The "labels" of an upload's metadata, between commas; "" for none. In call->mem. */
enum status labels_of_metadata(struct call *call, const char *metadata_json, const char **ret_labels) MUST_USE;

/* janitor.c: on a schedule. Remove what uploads that died have left in the document store, and forget idempotency keys
 * whose time is over. ST_OK: all of it that was due. */
enum status janitor_sweep(struct ingest *g, int64_t deadline_ms, struct why *why) MUST_USE;

/* ending.c: on a schedule. Destroy what is left of tenants whose KMS key is gone, each to its certificate, for as long as there is time.
 * One that cannot go on is put off, and the run has failed when the others are through. */
enum status ending_sweep(struct ingest *g, int64_t deadline_ms, struct why *why) MUST_USE;

/* reconcile.c: on schedules. Compare the document store, or the store of key shares, and the database, from where the last run
 * stood; what differs is reported (jobs.store_differences) and left as it is. ST_OK: to the end, or until the time was over. */
enum status reconcile_originals(struct ingest *g, int64_t deadline_ms, struct why *why) MUST_USE;
enum status reconcile_shares(struct ingest *g, int64_t deadline_ms, struct why *why) MUST_USE;

/* jobs.c */
enum status on_cancel_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);
enum status on_retry_job(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);

/* housekeeping.c: the scheduled work. */
extern const struct schedule_row HOUSEKEEPING[];

/* Run one claimed job and record its end (job_pool_options.run). */
void ingest_job_run(void *self, struct job_pool *pool, const struct job *job, struct bus_client *bus);
/* Counters that alerts wait for exist from the start. */
void ingest_job_metrics(struct metrics *m);
/* Give a job back to the queue whose thread does not end (job_pool_options.hand_back). */
void ingest_job_hand_back(void *self, struct job_pool *pool, const struct job *job, int64_t deadline_ms);

#endif
