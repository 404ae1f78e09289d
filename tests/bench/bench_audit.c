// links: audit-writer_lib audit db bench
/* Putting events on the audit log: the group commit that audit-writer runs, with its tickets, tree and
 * checks, by itself and through the bus, beside a writer that commits each row alone, one COPY of the same rows, and the disk. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/client.h"
#include "audit/event.h"
#include "audit_writer.h"
#include "core/arena.h"
#include "core/clock.h"
#include "crypto/digest.h"
#include "support/bus.h"
#include "support/database.h"
#include "support/measure.h"

enum { ANSWER_MS = 20000, COPIED = 8192, CALLERS_MAX = 64, CONNECTIONS = 7, COPY = 14 };     /* COPY: its row, from 0 */
#define COLUMNS "event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, actor_id, session_id, job_id, request_id, " \
                "resource_id, document_ids, ticket_digest, content_digest, event, leaf_hash"

/* bench.rows: the log's columns, checks and indexes, without its triggers, policies and partitions. */
static const char LAYOUT[] =
    "INSERT INTO auth.tenants (id, slug, name) VALUES ('55555555-5555-7555-8555-555555555555', 'bench-audit', 'Bench');"
    "CREATE SCHEMA IF NOT EXISTS bench;"
    "CREATE TABLE bench.rows (LIKE audit.audit_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES);";

static struct audit_writer *writer;
static struct bus *callers;         /* of a process that has a log written */

/* ---- ours ---- */

struct handling { size_t events, tickets; };        /* in a call; among all callers */
struct handler { char *ticket; size_t count; };

static void *handler_begin(void *ctx, unsigned caller) {
    const struct handling *how = ctx;
    struct handler *h = xalloc(sizeof *h);
    h->ticket = bench_ticket("bench-audit", caller % (unsigned)how->tickets);
    h->count = how->events;
    return h;
}

static void handler_end(void *state) {
    struct handler *h = state;
    free(h->ticket);
    free(h);
}

static struct audit_record record_of(const struct uuid *document) {
    return (struct audit_record){ .action = AUDIT_SEARCH_DISCLOSE, .document_ids = document, .document_count = 1, .chunk_ids = document, .chunk_count = 1,
                                  .detail_json = "{\"hits\":1,\"top_k\":8}" };
}

static void append(void *state, struct stopwatch *watch) {
    struct handler *h = state;
    struct why why = { 0 };
    struct audit_event *events[AUDIT_EVENTS_PER_CALL_MAX];
    struct audit_stamp stamps[AUDIT_EVENTS_PER_CALL_MAX];
    struct uuid document = uuid_v7();
    uint8_t ticket_digest[SHA256_BYTES];
    struct audit_origin origin = { .reported_by = "query", .request_id = uuid_v7(), .ticket_digest = ticket_digest };
    (void)watch;
    sha256(h->ticket, strlen(h->ticket), ticket_digest);
    for (size_t i = 0; i < h->count; i++) {
        struct audit_record record = record_of(&document);
        record.event_id = uuid_v7();
        bench_check(audit_event_new(&record, &origin, &events[i], &why), &why, "audit_event_new");
    }
    struct batch_call call = { .events = events, .count = h->count, .ticket = h->ticket, .stamps = stamps };
    enum status st = committer_append(writer->committer, &call, clock_mono_ms() + ANSWER_MS);
    bench_check(st, &call.why, "committer_append");
    for (size_t i = 0; i < h->count; i++)
        audit_event_destroy(&events[i]);
}

/* ---- the same, through the bus ---- */

struct asker { struct handler *handler; struct bus_client *client; };

static enum status dispatch(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    return service_dispatch(&AUDIT_WRITER, ctx, call, call->method, body, ret_reply);
}

static void open_bus(void) {
    static struct bus_options serving, asking;
    static char address[BENCH_ADDRESS_BYTES];
    bench_bus_keys();
    bench_free_address(address);
    serving.listen = address;
    serving.callers = PEER_QUERY;
    bench_bus_serve(bench_bus_open(&serving, PEER_AUDIT_WRITER), CALLERS_MAX, dispatch, writer);
    asking.endpoints[peer_index(PEER_AUDIT_WRITER)] = address;
    callers = bench_bus_open(&asking, PEER_QUERY);
    bench_bus_await(callers, PEER_AUDIT_WRITER);
}

static void *asker_begin(void *ctx, unsigned caller) {
    struct asker *a = xalloc(sizeof *a);
    a->handler = handler_begin(ctx, caller);
    a->client = bus_client_new(callers);
    return a;
}

static void asker_end(void *state) {
    struct asker *a = state;
    handler_end(a->handler);
    bus_client_destroy(&a->client);
    free(a);
}

static void ask(void *state, struct stopwatch *watch) {
    const struct asker *a = state;
    struct audit_record records[AUDIT_EVENTS_PER_CALL_MAX];
    struct uuid document = uuid_v7();
    struct call call = bench_bus_call(a->client, a->handler->ticket, ANSWER_MS);
    (void)watch;
    for (size_t i = 0; i < a->handler->count; i++)
        records[i] = record_of(&document);
    bench_check(audit_append_many(&call, records, a->handler->count, NULL), &call.why, "audit_append_many");
    arena_destroy(&call.mem);
}

/* ---- a row per commit ---- */

static struct { char *values[18]; int lens[18]; } sample;     /* one row of the log, binary */

static void *table_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    return bench_connect("BENCH_ADMIN_URL");
}

static void table_end(void *state) {
    PQfinish(state);
}

static void naive_insert(void *state, struct stopwatch *watch) {
    static const char INSERT[] = "INSERT INTO bench.rows (" COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    static const int BINARY[18] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    const char *values[18];
    struct uuid id = uuid_v7();
    (void)watch;
    memcpy(values, sample.values, sizeof values);
    values[0] = (const char *)id.bytes;
    PGresult *rows = PQexecParams(state, INSERT, 18, NULL, values, sample.lens, BINARY, 1);
    if (PQresultStatus(rows) != PGRES_COMMAND_OK)
        bench_fail("%s", PQresultErrorMessage(rows));
    PQclear(rows);
}

static void keep_sample(PGconn *conn) {
    PGresult *rows = PQexecParams(conn, "SELECT " COLUMNS " FROM audit.audit_logs WHERE action = 'search.disclose' LIMIT 1", 0, NULL, NULL, NULL, NULL, 1);
    if (PQntuples(rows) != 1)
        bench_fail("nothing is on the log: %s", PQresultErrorMessage(rows));
    for (int i = 0; i < 18; i++) {
        sample.lens[i] = PQgetlength(rows, 0, i);
        sample.values[i] = PQgetisnull(rows, 0, i) ? NULL : memcpy(xalloc((size_t)sample.lens[i] + 1), PQgetvalue(rows, 0, i), (size_t)sample.lens[i]);
    }
    PQclear(rows);
}

/* ---- one COPY ---- */

static struct buffer copied;

static void keep_copy(PGconn *conn) {
    char *data;
    PQclear(PQexec(conn, "COPY (SELECT " COLUMNS " FROM audit.audit_logs WHERE action = 'search.disclose' LIMIT 8192) TO STDOUT (FORMAT binary)"));
    for (int n; (n = PQgetCopyData(conn, &data, 0)) > 0; PQfreemem(data))
        buffer_add(&copied, data, (size_t)n);
    PQclear(PQgetResult(conn));
    while (PQgetResult(conn)) {}
}

static void copy_rows(void *state, struct stopwatch *watch) {
    bench_do(state, "TRUNCATE bench.rows");
    stopwatch_restart(watch);
    PQclear(PQexec(state, "COPY bench.rows (" COLUMNS ") FROM STDIN (FORMAT binary)"));
    if (PQputCopyData(state, copied.data, (int)copied.len) != 1 || PQputCopyEnd(state, NULL) != 1)
        bench_fail("COPY: %s", PQerrorMessage(state));
    PGresult *rows = PQgetResult(state);
    if (PQresultStatus(rows) != PGRES_COMMAND_OK || strcmp(PQcmdTuples(rows), "8192") != 0)
        bench_fail("COPY of %s rows: %s", PQcmdTuples(rows), PQresultErrorMessage(rows));
    PQclear(rows);
    while (PQgetResult(state)) {}
}

/* ---- the disk ---- */

static void *disk_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    char path[512];
    snprintf(path, sizeof path, "%s/fsync", bench_setting("BENCH_FOLDER"));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 8192) != 0)
        bench_fail("cannot write %s", path);
    unlink(path);
    return (void *)(intptr_t)fd;
}

static void disk_write(void *state, struct stopwatch *watch) {
    static const char page[8192];
    (void)watch;
    if (pwrite((int)(intptr_t)state, page, sizeof page, 0) != sizeof page || fdatasync((int)(intptr_t)state) != 0)
        bench_fail("cannot write");
}

static void disk_end(void *state) {
    close((int)(intptr_t)state);
}

/* Enough rows for COPY, put there as everybody puts them there. */
static void fill_log(void) {
    struct stopwatch unused = { 0 };
    struct handler *h = handler_begin(&(struct handling){ AUDIT_EVENTS_PER_CALL_MAX, 1 }, 0);
    for (size_t done = 0; done < COPIED; done += h->count)
        append(h, &unused);
    handler_end(h);
}

#define APPEND(label, n, events, tickets, reference) { label, n, (double)(events), "events", reference, \
    &(struct handling){ events, tickets }, handler_begin, append, handler_end }
#define ASK(label, n, events) { label, n, (double)(events), "events", COPY, &(struct handling){ events, CALLERS_MAX }, asker_begin, ask, asker_end }
#define NAIVE(label, n, reference) { label, n, 1, "events", reference, NULL, table_begin, naive_insert, table_end }

int main(void) {
    struct why why = { 0 };
    void *self = NULL;
    bench_prepare(LAYOUT);
    const char *url = bench_setting("BENCH_AUDIT_URL");
    struct audit_writer_settings settings = { .database_url = live_secret_new(url, strlen(url)), .connections = CONNECTIONS };
    struct runtime runtime = { .process = "bench", .metrics = metrics_new(), .version = "bench", .instance_id = uuid_v7() };
    memset(runtime.settings_sha256, '0', sizeof runtime.settings_sha256 - 1);
    bench_check(AUDIT_WRITER.open(&self, &settings, &runtime, &why), &why, "audit-writer");
    writer = self;
    open_bus();
    fill_log();
    PGconn *conn = bench_connect("BENCH_ADMIN_URL");
    keep_sample(conn);
    keep_copy(conn);
    PQfinish(conn);
    const struct bench_row rows[] = {
        APPEND("group commit, 1 event a call", 1, 1, CALLERS_MAX, COPY),
        APPEND("group commit, 1 event a call", 16, 1, CALLERS_MAX, COPY),
        APPEND("group commit, 1 event a call", CALLERS_MAX, 1, CALLERS_MAX, COPY),
        APPEND("group commit, 2 events a call", CALLERS_MAX, 2, CALLERS_MAX, COPY),
        APPEND("group commit, 4 events a call", CALLERS_MAX, 4, CALLERS_MAX, COPY),
        APPEND("group commit, 8 events a call", CALLERS_MAX, 8, CALLERS_MAX, COPY),
        APPEND("group commit, 16 events a call", CALLERS_MAX, 16, CALLERS_MAX, COPY),
        APPEND("group commit, 64 events a call", CALLERS_MAX, AUDIT_EVENTS_PER_CALL_MAX, CALLERS_MAX, COPY),
        APPEND("group commit, 1 event a call, one ticket for all", CALLERS_MAX, 1, 1, COPY),
        ASK("through the bus, 1 event a call", CALLERS_MAX, 1),
        ASK("through the bus, 2 events a call", CALLERS_MAX, 2),
        NAIVE("INSERT and commit of each row, no tree, no ticket", 1, COPY),
        NAIVE("the same, a connection for each caller", 16, COPY),
        NAIVE("the same, a connection for each caller", CALLERS_MAX, COPY),
        { "one COPY of 8,192 of the same rows, one commit", 1, COPIED, "events", NO_ROW, NULL, table_begin, copy_rows, table_end },
        { "8 KiB and fdatasync", 1, 1, "writes", NO_ROW, NULL, disk_begin, disk_write, disk_end },
    };
    measure("audit", "All callers' events go into one tenant's tree, each caller under a ticket of its own where nothing else is said; p50 and p99 are of the "
                     "acknowledgement, which comes after the commit. fsync is on. As many events as callers and events a call make wait at once, and no "
                     "more than the rate are answered in a second: p50 is about the one by the other.", rows, sizeof rows / sizeof *rows);
    _exit(0);       /* measured and done: nothing here is worth a drain */
}
