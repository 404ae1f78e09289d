/* audit_writer — what the process holds, shared by its handlers and its threads: the committer's two, which put calls
 * on the log, the drain, which moves the outbox there, the signer of its heads, the check of the log against them, and
 * the archiver. */
#ifndef CORDON_AUDIT_WRITER_H
#define CORDON_AUDIT_WRITER_H

#include "archiver.h"
#include "aws/aws.h"
#include "aws/kms.h"
#include "committer.h"
#include "db/pool.h"
#include "outbox.h"
#include "recheck.h"
#include "service/service.h"

extern const struct service AUDIT_WRITER;

/* spend.c: AddModelCosts. */
enum status on_add_model_costs(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out);

struct audit_writer_settings {
    struct live_secret *database_url, *database_password;
    int64_t connections;
    struct secret *checkpoint_key;
    int64_t checkpoint_interval_s, checkpoint_events, anchor_days, recheck_events, live_months, retention_years;
    const char *anchor_bucket, *checkpoint_kms_key;
    struct aws_settings aws;
    const char *s3_endpoint, *kms_endpoint;
};

struct audit_writer {
    struct db_pool *db;
    bool is_production;
    const struct audit_writer_settings *settings;
    struct note_key *key;           /* NULL: heads are not signed */
    struct aws *aws;
    struct s3 *s3;                  /* NULL: no bucket */
    struct kms *kms;                /* NULL: no key in KMS signs too */
    struct signer *signer;
    struct recheck *recheck;        /* NULL: nothing outside to compare with */
    struct archiver *archiver;      /* NULL: nowhere to put closed months */
    struct committer *committer;
    struct outbox *outbox;
    struct gauge *backlog_rows, *backlog_oldest_seconds;
};

#endif
