/* audit-writer/handlers — what the process answers: one function per rpc of proto/audit.proto. */
#include <stdlib.h>
#include <string.h>

#include "audit.pb-c.h"
#include "audit_writer.h"
#include "aws/sts.h"
#include "core/arena.h"
#include "core/clock.h"
#include "crypto/digest.h"
#include "db/boot_check.h"
#include "db/plain_tx.h"
#include "secrets/secrets.h"

enum { OPEN_MAX_MS = 15000, READY_MAX_MS = 1000, SCRAPE_MAX_MS = 500, TICKET_MAX_BYTES = 8192, ANCHOR_DAYS_MIN = 2192 };

/* ---- audit.Append ---- */

static const int64_t EVENT_AGE_MAX_US = INT64_C(24) * 3600 * 1000000;

/* A UUIDv7 of about now: its month's partition exists, and ids stay in the order of time. */
static bool is_fresh_v7(const struct uuid *id) {
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    int64_t age_us = clock_unix_us() - ms * 1000;
    return id->bytes[6] >> 4 == 7 && id->bytes[8] >> 6 == 2 && age_us < EVENT_AGE_MAX_US && age_us > -EVENT_AGE_MAX_US;
}

static bool read_ids(struct arena *mem, const ProtobufCBinaryData *in, size_t count, const struct uuid **ret_ids) {
    struct uuid *ids = arena_alloc(mem, (count + 1) * sizeof *ids);
    for (size_t i = 0; i < count; i++)
        if (!uuid_from_bytes(in[i].data, in[i].len, &ids[i]))
            return false;
    *ret_ids = ids;
    return true;
}

static enum status read_event(struct call *call, const Audit__Event *in, const struct audit_origin *origin,
                              struct audit_event **ret_event) {
    struct audit_record record = { .action = audit_action_find(in->action), .outcome = audit_outcome_find(in->outcome),
                                   .document_count = in->n_document_ids, .chunk_count = in->n_chunk_ids,
                                   .detail_json = in->detail_json };
    if (!uuid_from_bytes(in->event_id.data, in->event_id.len, &record.event_id) || !is_fresh_v7(&record.event_id))
        return fail(&call->why, ST_INVALID, "audit: event_id is no UUIDv7 of about now");
    if (record.action == AUDIT_ACTION_COUNT)
        return fail(&call->why, ST_INVALID, "audit: unknown action '%.64s'", in->action);
    if (in->n_document_ids > AUDIT_DOCUMENTS_MAX || in->n_chunk_ids > AUDIT_CHUNKS_MAX ||
        !read_ids(call->mem, in->document_ids, in->n_document_ids, &record.document_ids) ||
        !read_ids(call->mem, in->chunk_ids, in->n_chunk_ids, &record.chunk_ids) ||
        (in->resource_id.len > 0 && !uuid_from_bytes(in->resource_id.data, in->resource_id.len, &record.resource_id)))
        return fail(&call->why, ST_INVALID, "audit: too many ids, or one is not 16 bytes");
    /* changes record themselves, in their own transaction; nobody may say that one happened. Which model answered only its caller knows. */
    enum audit_kind kind = audit_action_kind(record.action);
    if (kind != AUDIT_KIND_DISCLOSURE && kind != AUDIT_KIND_DENIAL && record.action != AUDIT_MODEL_USE)
        return fail(&call->why, ST_FORBIDDEN, "audit: %s is written by the database only", in->action);
    return audit_event_new(&record, origin, ret_event, &call->why);
}

struct events { struct audit_event *items[AUDIT_EVENTS_PER_CALL_MAX]; size_t count; };

static void events_end(struct events *e) {
    for (size_t i = 0; i < e->count; i++)
        audit_event_destroy(&e->items[i]);
    e->count = 0;
}

static enum status read_events(struct call *call, const Audit__AppendRequest *req, const char *ticket,
                               struct events *events) {
    uint8_t ticket_digest[SHA256_BYTES];
    struct audit_origin origin = { .reported_by = peer_name(call->peer), .request_id = call->request_id };
    if (ticket) {
        sha256(ticket, strlen(ticket), ticket_digest);
        origin.ticket_digest = ticket_digest;
    }
    for (size_t i = 0; i < req->n_events; i++) {
        enum status st = read_event(call, req->events[i], &origin, &events->items[i]);
        if (st != ST_OK)
            return st;
        events->count++;
        for (size_t k = 0; k < i; k++)
            if (uuid_equal(&events->items[k]->event_id, &events->items[i]->event_id))
                return fail(&call->why, ST_INVALID, "audit: one event_id twice in a call");
    }
    return ST_OK;
}

/* One that could not be a ticket would make the database refuse the parameter, and with it the whole batch. */
static bool is_ticket_text(const char *text) {
    size_t len = text ? strlen(text) : 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len > 0 && len <= TICKET_MAX_BYTES;
}

/* AppendRequest{1 to 64 events} -> AppendReply{their places in the log}. All are committed or none is.
 * ST_FORBIDDEN: without_tenant from anybody but auth, or an action that is the database's to write. */
static enum status on_append(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Audit__AppendRequest *req = (const void *)in;
    Audit__AppendReply *reply = (void *)out;
    struct audit_writer *writer = self;

    if (req->n_events < 1 || req->n_events > AUDIT_EVENTS_PER_CALL_MAX)
        return fail(&call->why, ST_INVALID, "audit: %zu events in one call", req->n_events);
    if (req->without_tenant && call->peer != PEER_AUTH)
        return fail(&call->why, ST_FORBIDDEN, "audit: only auth reports events without a tenant");
    const char *ticket = req->without_tenant ? NULL : call->ticket;
    if (!req->without_tenant && !is_ticket_text(ticket))
        return fail(&call->why, ST_UNAUTHENTICATED, "audit: no ticket");

    CLEANUP(events_end) struct events events = { 0 };
    enum status st = read_events(call, req, ticket, &events);
    if (st != ST_OK)
        return st;

    struct audit_stamp *stamps = arena_alloc(call->mem, events.count * sizeof *stamps);
    struct batch_call batch = { .events = events.items, .count = events.count, .ticket = ticket, .stamps = stamps };
    st = signer_permits_by(writer->signer, call->deadline_ms, &call->why);
    if (st != ST_OK)
        return st;
    st = committer_append(writer->committer, &batch, call->deadline_ms);
    if (st != ST_OK) {
        call->why = batch.why;
        return st;
    }
    reply->n_seqs = events.count;
    reply->seqs = arena_alloc(call->mem, events.count * sizeof *reply->seqs);
    for (size_t i = 0; i < events.count; i++)
        reply->seqs[i] = stamps[i].seq;
    return ST_OK;
}

/* RecordStartRequest{} -> RecordStartReply{}: the caller's start, or its end, is on the record, by way of the outbox. */
static enum status on_record_start(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Audit__RecordStartRequest *req = (const void *)in;
    struct audit_writer *writer = self;
    struct uuid instance;
    (void)out;
    if (!uuid_from_bytes(req->instance_id.data, req->instance_id.len, &instance))
        return fail(&call->why, ST_INVALID, "a start without its id");
    if (req->ended)
        return db_record_end(writer->db, peer_name(call->peer), &instance, call->deadline_ms, &call->why);
    return db_record_reported_start(writer->db, peer_name(call->peer), &instance, req->version, req->settings_sha256, req->settings_changed, call->deadline_ms,
                                    &call->why);
}

static const struct route ROUTES[] = {
    /* method          who may call                                scope       request                            reply                            handler */
    { "audit.Append",  PEER_AUTH | PEER_INGEST_WORKER | PEER_QUERY, SCOPE_NONE, &audit__append_request__descriptor, &audit__append_reply__descriptor, on_append },
    { "audit.RecordStart", PEER_EMBEDDING_WORKER,                 SCOPE_NONE, &audit__record_start_request__descriptor, &audit__record_start_reply__descriptor, on_record_start },
    { "audit.AddModelCosts", PEER_EMBEDDING_WORKER,               SCOPE_NONE, &audit__add_model_costs_request__descriptor, &audit__add_model_costs_reply__descriptor, on_add_model_costs },
    { 0 }
};

/* ---- life ---- */

static enum status database_is_ready(void *self, struct why *why) {
    struct audit_writer *writer = self;
    return db_boot_check(writer->db, "cordon_audit", writer->is_production, clock_mono_ms() + READY_MAX_MS, why);
}

static enum status may_append(void *self, struct why *why) {
    return signer_permits(((struct audit_writer *)self)->signer, why);
}

static enum status identity_is_ours(void *self, struct why *why) {
    struct audit_writer *writer = self;
    if (!writer->aws)
        return ST_OK;
    return sts_assert(writer->aws, writer->settings->aws.sts_endpoint, writer->settings->aws.identity, clock_mono_ms() + READY_MAX_MS, why);
}

static const struct ready_check READY[] = {
    { "database", database_is_ready },
    { "anchor", may_append },
    { "aws_identity", identity_is_ours },
    { 0 }
};

#define OFF(member) offsetof(struct audit_writer_settings, member)

static const struct setting SETTINGS[] = {
    /* name                          type        default         min  max      unit    offset                      help */
    { "DATABASE_URL",                SET_LIVE_SECRET, NULL,           0,   0,       "",     OFF(database_url),          "libpq URL of role cordon_audit." },
    { "DATABASE_PASSWORD", SET_LIVE_SECRET, "", 1, 512, "", OFF(database_password), "Its role's password, when it is not in DATABASE_URL; it wins over one that is." },
    { "CORDON_DB_CONNECTIONS",       SET_INT,    "7",            2,   64,      "",     OFF(connections),           "Connections kept: two commit, one drains the outbox, one signs, one checks, one archives, one answers health." },
    { "CORDON_CHECKPOINT_KEY",       SET_SECRET, "",             0,   512,     "",     OFF(checkpoint_key),        "Key that heads of the log are signed with, as cordon-keygen --checkpoint makes it. Required in production; without it nothing is signed." },
    { "CORDON_CHECKPOINT_INTERVAL_S", SET_INT,   "60",           1,   3600,    "s",    OFF(checkpoint_interval_s), "A head that has grown is signed after so long." },
    { "CORDON_CHECKPOINT_EVENTS",    SET_INT,    "10000",        1,   1000000, "",     OFF(checkpoint_events),     "Or once the heads have grown by so many events together." },
    { "CORDON_CHECKPOINT_KMS_KEY",   SET_TEXT,   "",             0,   2048,    "",     OFF(checkpoint_kms_key),    "ARN of a key in KMS (ECC_NIST_P256, SIGN_VERIFY) that signs the newest heads too; empty: none." },
    { "CORDON_ANCHOR_BUCKET",        SET_TEXT,   "",             0,   63,      "",     OFF(anchor_bucket),         "Bucket with Object Lock that signed heads are put into. Required in production." },
    { "CORDON_ANCHOR_DAYS",          SET_INT,    "2557",         1,   36500,   "days", OFF(anchor_days),           "How long nobody may remove them there; at least 2192 (six years) in production." },
    { "CORDON_AUDIT_RECHECK_EVENTS", SET_INT,    "1000",         0,   100000,  "events/s", OFF(recheck_events),    "How fast the log is read again and compared with the heads in the bucket, hour by hour; 0: never." },
    { "CORDON_AUDIT_LIVE_MONTHS",    SET_INT,    "24",           0,   1200,    "months", OFF(live_months),         "How many full months of the log stay in the database; older ones go to CORDON_ANCHOR_BUCKET. 0: all stay." },
    { "CORDON_AUDIT_RETENTION_YEARS", SET_INT,   "7",            6,   100,     "years", OFF(retention_years),      "How long nobody may remove archived months there, from their end." },
    AWS_SETTINGS(struct audit_writer_settings, aws, "audit-writer"),
    AWS_SECRETS_SETTINGS(struct audit_writer_settings, aws),
    AWS_ENDPOINT_SETTING(struct audit_writer_settings, s3_endpoint, "S3"),
    AWS_ENDPOINT_SETTING(struct audit_writer_settings, kms_endpoint, "KMS"),
    { 0 }
};

static void writer_close(void **self_p) {
    struct audit_writer *writer = *self_p;
    if (!writer)
        return;
    outbox_destroy(&writer->outbox);
    committer_destroy(&writer->committer);
    recheck_destroy(&writer->recheck);
    archiver_destroy(&writer->archiver);
    signer_destroy(&writer->signer);
    s3_destroy(&writer->s3);
    kms_destroy(&writer->kms);
    aws_destroy(&writer->aws);
    note_key_destroy(&writer->key);
    db_pool_destroy(&writer->db);
    free(writer);
    *self_p = NULL;
}

static enum status connect(struct audit_writer *writer, const struct db_options *options, const struct runtime *rt, struct why *why) {
    enum status st = db_pool_new(options, &writer->db, why);
    if (st == ST_OK)
        st = db_boot_check(writer->db, "cordon_audit", writer->is_production, clock_mono_ms() + OPEN_MAX_MS, why);
    if (st == ST_OK)
        st = outbox_make_partitions(writer->db, why);
    if (st == ST_OK)
        st = outbox_new(writer->db, options, rt->metrics, &writer->outbox, why);
    if (st == ST_OK)
        st = db_record_start(writer->db, "audit-writer", &rt->instance_id, rt->version,
                             rt->settings_sha256, rt->settings_changed, clock_mono_ms() + OPEN_MAX_MS, why);
    return st;
}

/* What only a laptop may do, said before anything is connected. */
static enum status check_production(const struct audit_writer_settings *s, struct why *why) {
    if (!s->checkpoint_key || !s->anchor_bucket || !*s->anchor_bucket)
        return fail(why, ST_INVALID, "CORDON_CHECKPOINT_KEY and CORDON_ANCHOR_BUCKET are required outside development");
    if (s->anchor_days < ANCHOR_DAYS_MIN)
        return fail(why, ST_INVALID, "CORDON_ANCHOR_DAYS: what proves the log is kept for six years (45 CFR 164.316), %d days, at least", ANCHOR_DAYS_MIN);
    return ST_OK;
}

/* Without a key or a bucket heads stay where they are: fit for a laptop. */
static enum status open_signer(struct audit_writer *writer, struct runtime *rt, struct why *why) {
    const struct audit_writer_settings *settings = writer->settings;
    bool has_bucket = settings->anchor_bucket && *settings->anchor_bucket;
    enum status st = settings->checkpoint_key ? note_key_new(settings->checkpoint_key, &writer->key, why) : ST_OK;
    if (st != ST_OK)
        return st;
    bool has_kms = settings->checkpoint_kms_key && *settings->checkpoint_kms_key;
    if (has_kms && !writer->key)
        return fail(why, ST_INVALID, "CORDON_CHECKPOINT_KMS_KEY signs what CORDON_CHECKPOINT_KEY has signed");
    bool has_anchor = writer->key && (has_bucket || has_kms);
    if (has_anchor || rt->secrets)
        st = secrets_open_aws(&settings->aws, rt, &writer->aws, why);
    if (st != ST_OK)
        return st;
    if (has_anchor) {
        writer->s3 = has_bucket ? s3_new(writer->aws, settings->s3_endpoint, settings->anchor_bucket) : NULL;
        writer->kms = has_kms ? kms_new(writer->aws, settings->kms_endpoint) : NULL;
    }
    struct anchor anchor = { .s3 = writer->s3, .key = writer->key, .keep_days = settings->anchor_days };
    struct checkpoint_pace pace = { .events = settings->checkpoint_events, .wait_ms = settings->checkpoint_interval_s * 1000 };
    struct countersigner kms = { .kms = writer->kms, .key_id = settings->checkpoint_kms_key };
    writer->signer = signer_new(writer->db, writer->key, &anchor, &kms, &pace, rt->metrics);
    if (writer->s3 && settings->recheck_events > 0)
        writer->recheck = recheck_new(writer->db, &anchor, settings->recheck_events, rt->metrics);
    struct archive_terms terms = { .live_months = settings->live_months, .retention_years = settings->retention_years };
    if (writer->s3)
        writer->archiver = archiver_new(writer->db, &anchor, &terms, rt->metrics);
    return ST_OK;
}

static enum status writer_open(void **self_p, const void *settings_in, struct runtime *rt, struct why *why) {
    const struct audit_writer_settings *settings = settings_in;
    struct audit_writer *writer = *self_p = xalloc(sizeof *writer);
    writer->is_production = rt->is_production;
    writer->settings = settings;
    writer->backlog_rows = metrics_gauge(rt->metrics, "cordon_audit_backlog_rows", "Records in the outbox.", "");
    writer->backlog_oldest_seconds = metrics_gauge(rt->metrics, "cordon_audit_backlog_oldest_seconds",
                                                   "Age of the oldest record in the outbox.", "");
    struct db_options options = { .live_url = settings->database_url, .password = settings->database_password, .process = rt->process, .metrics = rt->metrics,
                                  .connections = (int)settings->connections, .is_production = rt->is_production };
    enum status st = rt->is_production ? check_production(settings, why) : ST_OK;
    if (st == ST_OK)
        st = connect(writer, &options, rt, why);
    if (st == ST_OK)
        st = open_signer(writer, rt, why);
    if (st == ST_OK)
        writer->committer = committer_new(writer->db, rt->metrics);
    return st;
}

static enum status writer_start(void *self, struct runtime *rt, struct why *why) {
    (void)rt;
    (void)why;
    struct audit_writer *writer = self;
    signer_start(writer->signer);
    if (writer->recheck)
        recheck_start(writer->recheck);
    if (writer->archiver)
        archiver_start(writer->archiver);
    outbox_start(writer->outbox, writer->signer, committer_memory(writer->committer));
    return ST_OK;
}

/* Calls in hand still need the committer; it ends with close(). */
static void writer_drain(void *self, int64_t deadline_ms) {
    (void)deadline_ms;
    outbox_stop(((struct audit_writer *)self)->outbox);
    signer_stop(((struct audit_writer *)self)->signer);
    if (((struct audit_writer *)self)->recheck)
        recheck_stop(((struct audit_writer *)self)->recheck);
    if (((struct audit_writer *)self)->archiver)
        archiver_stop(((struct audit_writer *)self)->archiver);
}

static void writer_collect(void *self, struct metrics *m) {
    static const struct sql BACKLOG = { "backlog", "SELECT waiting, oldest_age_ms FROM audit.backlog()", 0 };
    struct audit_writer *writer = self;
    struct why ignored = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    (void)m;
    if (db_run(writer->db, &BACKLOG, NULL, clock_mono_ms() + SCRAPE_MAX_MS, &rows, &ignored) != ST_OK || db_count(rows) != 1)
        return;     /* the gauges keep what was last seen; readiness says that the database is away */
    gauge_set(writer->backlog_rows, (double)db_i64(rows, 0, 0));
    gauge_set(writer->backlog_oldest_seconds, (double)db_i64(rows, 0, 1) / 1000);
}

static enum status writer_record_end(void *self, const struct runtime *rt, int64_t deadline_ms, struct why *why) {
    struct audit_writer *writer = self;
    return db_record_end(writer->db, "audit-writer", &rt->instance_id, deadline_ms, why);
}

const struct service AUDIT_WRITER = {
    .name = "audit-writer",
    .peer = PEER_AUDIT_WRITER,
    .about = "appends to the audit log, and nothing else",
    .settings = SETTINGS,
    .settings_size = sizeof(struct audit_writer_settings),
    .secrets = &SECRETS_MANAGER, .aws_offset = offsetof(struct audit_writer_settings, aws),
    .routes = ROUTES,
    .ready = READY,
    .open = writer_open,
    .start = writer_start,
    .drain = writer_drain,
    .record_end = writer_record_end, .close = writer_close,
    .collect = writer_collect,
};
