/* rig — ingest-worker as it runs, in the test's process: real PostgreSQL, real buses, its own open() and start(); S3
 * and KMS are fake_cloud, audit-writer and embedding-worker a few lines behind real buses. */
#ifndef CORDON_TESTS_INGEST_RIG_H
#define CORDON_TESTS_INGEST_RIG_H

#include "fake_cloud.h"
#include "ingest.h"
#include "ingest.pb-c.h"
#include "support/pg.h"
#include "unit/bus_fixture.h"

enum { RIG_LEASE_MS = 2000, RIG_POLL_MS = 20, RIG_UPLOAD_MAX_BYTES = 16 << 20, RIG_UPLOAD_LEASE_MS = 4000, TEXTS_MAX = 512 };

struct rig {
    struct fake_cloud cloud;
    struct node writer, model, worker, edge;
    struct ingest_settings settings;
    struct runtime runtime;
    struct ingest *ingest;

    const char *model_name;                     /* of the present model: "m" */
    bool records_disclosures;                   /* on the log itself, too */
    atomic_int audit_status, model_status;      /* what the players answer with; ST_OK: as they should */
    atomic_int budget_ms;                       /* the model's budget is used up for so long; 0: it is not */
    atomic_uint audited, embedded_calls, models_recorded;
    char model_recorded[128];                   /* detail of the last model.use */
    atomic_uint fails_at_call;                  /* this call of embed and those after it answer model_status; 0: all do */
    void (*on_embed)(unsigned call);            /* runs before call number so-and-so (from 1) is answered; or NULL */
    pthread_mutex_t lock;                       /* guards texts */
    uint64_t texts[TEXTS_MAX];                  /* hash of each text that was embedded */
    unsigned text_count;
    bool was_audited_first;                     /* nothing was embedded before it was on the record */
};

extern struct rig rig;

void rig_open(void);            /* without job threads */
void rig_close(void);
/* Begin and end to take jobs, as the process does. */
void rig_start_jobs(void);
void rig_stop_jobs(void);

/* Ask one of the service's rpcs as edge does. */
enum status rig_ask(const char *method, const char *ticket, const ProtobufCMessage *req, const ProtobufCMessageDescriptor *reply, struct why *ret_why);
struct rig_upload { const char *type, *name, *metadata, *mrn, *end_ticket; int64_t announced_bytes; const uint8_t *sha256; size_t sha256_len;
                    const char *key, *priority; const void *id; size_t id_len; };
/* Upload len bytes with tenant A's clinician "ann"'s ticket, in parts. u: NULL for a plain text of the right length. */
enum status rig_upload(const struct rig_upload *u, const void *data, size_t len, struct uuid *ret_document, struct why *ret_why);
enum status rig_upload_as(const char *ticket, const struct rig_upload *u, const void *data, size_t len, struct uuid *ret_document,
                          struct why *ret_why);
/* A document with so many sentences, uploaded; at least one chunk for each 12. */
void rig_add_document(unsigned sentences);

/* One value from the superuser, once it is what is wanted; fails the test after PATIENCE_MS. */
void rig_wait_for(const char *want, const char *sql);
/* How often each embedded text was: the most frequent one. */
unsigned rig_most_embedded(void);
/* End every connection of the services; with is_away, none comes in until it is called without. */
void rig_database(bool is_away);

#define JOB_STATE_SQL "SELECT state || ' ' || attempt || coalesce(' ' || reason_code, '') FROM jobs.jobs"
#define DOCUMENT_SQL "SELECT status || coalesce(' ' || reason_code, '') FROM app.documents"
#define LEFT_SQL "SELECT (SELECT count(*) FROM app.documents) || ' ' || (SELECT count(*) FROM keys.document_keys) || ' ' || (SELECT count(*) FROM jobs.jobs)"
#define DERIVED_SQL "SELECT (SELECT count(*) FROM app.chunks) || ' ' || (SELECT count(*) FROM app.text_vectors)"

#endif
