// links: bench
/* What storing a document can cost at the least: its chunks and vectors, sealed and computed elsewhere, put by libpq alone into
 * tables with the keys of ours, pipelined, a transaction each. BENCH_CHUNKS to a document, BENCH_CHUNK_BYTES in each.
 * ingest.py sets these to what it saw, and runs this between its own runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/str.h"
#include "core/uuid.h"
#include "support/database.h"
#include "support/measure.h"

enum { CHUNKS_MAX = 4096, CHUNK_BYTES_MAX = 65536, VECTOR_BYTES = 4 + 2 * 1024, TEXT_BYTES = 16 };
#define TENANT "66666666-6666-7666-8666-666666666666"

/* The checks, keys and indexes are those of app; no triggers. */
#define TABLES(schema) \
    "CREATE SCHEMA " schema "; GRANT USAGE ON SCHEMA " schema " TO cordon_ingest; SET search_path = " schema ";" \
    "CREATE TABLE chunks (LIKE app.chunks INCLUDING ALL);" \
    "CREATE TABLE text_vectors (LIKE app.text_vectors INCLUDING ALL) PARTITION BY LIST (home);" \
    "CREATE TABLE text_vectors_default PARTITION OF text_vectors DEFAULT;" \
    "GRANT SELECT, INSERT ON chunks, text_vectors TO cordon_ingest;"
#define POLICIES \
    "ALTER TABLE chunks ENABLE ROW LEVEL SECURITY; ALTER TABLE text_vectors ENABLE ROW LEVEL SECURITY;" \
    "CREATE POLICY usual ON chunks USING (tenant_id = current_setting('app.tenant')::uuid);" \
    "CREATE POLICY usual ON text_vectors USING (tenant_id = current_setting('app.tenant')::uuid);"

struct storer { PGconn *conn; int chunks, text_bytes; uint8_t *text, vector[VECTOR_BYTES]; };

static int setting(const char *name, int max) {
    int64_t value = 0;
    if (!str_to_i64(bench_setting(name), 1, max, &value))
        bench_fail("%s is no number from 1 to %d", name, max);
    return (int)value;
}

static void prepare(PGconn *conn, const char *name, const char *sql) {
    PGresult *rows = PQprepare(conn, name, sql, 0, NULL);
    if (PQresultStatus(rows) != PGRES_COMMAND_OK)
        bench_fail("%s", PQresultErrorMessage(rows));
    PQclear(rows);
}

static void *begin(void *schema, unsigned caller) {
    struct storer *s = xalloc(sizeof *s);
    *s = (struct storer){ .conn = bench_connect("BENCH_INGEST_URL"), .chunks = setting("BENCH_CHUNKS", CHUNKS_MAX),
                          .text_bytes = setting("BENCH_CHUNK_BYTES", CHUNK_BYTES_MAX) };
    s->text = xalloc((size_t)s->text_bytes);
    memset(s->text, (int)caller, (size_t)s->text_bytes);
    s->vector[0] = 4;           /* 1024, big endian */
    for (size_t i = 4; i < VECTOR_BYTES; i += 2)
        s->vector[i] = 0x24;    /* about 1/64 */
    char settings[256];
    (void)snprintf(settings, sizeof settings, "SELECT set_config('app.tenant', '" TENANT "', false), set_config('search_path', '%s', false)", (const char *)schema);
    bench_do(s->conn, settings);
    prepare(s->conn, "begin", "BEGIN");
    prepare(s->conn, "commit", "COMMIT");
    prepare(s->conn, "chunk", "INSERT INTO chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc, text_blind) "
                              "VALUES ($1, $2, $3, $4, 0, 1000, 250, $5, sha256($3::text::bytea))");
    prepare(s->conn, "vector", "INSERT INTO text_vectors (tenant_id, text_blind, model, embedding) "
                               "VALUES ($1, sha256($2::text::bytea), 'amazon.titan-embed-text-v2:0', $3)");
    if (!PQenterPipelineMode(s->conn))
        bench_fail("pipeline");
    return s;
}

static void send(struct storer *s, const char *name, int n, const char *const values[], const int lengths[], const int formats[]) {
    if (!PQsendQueryPrepared(s->conn, name, n, values, lengths, formats, 0))
        bench_fail("%s: %s", name, PQerrorMessage(s->conn));
}

/* One document. */
static void store(void *state, struct stopwatch *watch) {
    struct storer *s = state;
    char document[UUID_TEXT_BYTES], chunk[CHUNKS_MAX][UUID_TEXT_BYTES], ordinal[TEXT_BYTES];
    struct uuid id = uuid_v7();
    uuid_format(&id, document);
    for (int i = 0; i < s->chunks; i++) {
        id = uuid_v7();
        uuid_format(&id, chunk[i]);
    }
    stopwatch_restart(watch);
    send(s, "begin", 0, NULL, NULL, NULL);
    for (int i = 0; i < s->chunks; i++) {
        (void)snprintf(ordinal, sizeof ordinal, "%d", i);
        send(s, "chunk", 5, (const char *const[]){ TENANT, document, chunk[i], ordinal, (const char *)s->text },
             (const int[]){ 0, 0, 0, 0, s->text_bytes }, (const int[]){ 0, 0, 0, 0, 1 });
    }
    for (int i = 0; i < s->chunks; i++)
        send(s, "vector", 3, (const char *const[]){ TENANT, chunk[i], (const char *)s->vector }, (const int[]){ 0, 0, VECTOR_BYTES }, (const int[]){ 0, 0, 1 });
    send(s, "commit", 0, NULL, NULL, NULL);
    if (!PQpipelineSync(s->conn))
        bench_fail("%s", PQerrorMessage(s->conn));
    for (;;) {
        PGresult *rows = PQgetResult(s->conn);      /* NULL between two statements */
        ExecStatusType status = PQresultStatus(rows);
        if (rows && status != PGRES_COMMAND_OK && status != PGRES_PIPELINE_SYNC)
            bench_fail("%s", PQresultErrorMessage(rows));
        PQclear(rows);
        if (rows && status == PGRES_PIPELINE_SYNC)
            return;
    }
}

static void end(void *state) {
    struct storer *s = state;
    PQfinish(s->conn);
    free(s->text);
    free(s);
}

#define ROW(label, n, reference, schema) { label, n, (double)chunks, "chunks", reference, schema, begin, store, end }

int main(void) {
    int chunks = setting("BENCH_CHUNKS", CHUNKS_MAX);
    static char open[] = "bench_open", usual[] = "bench_usual";
    bench_prepare("DROP SCHEMA IF EXISTS bench_open, bench_usual CASCADE");
    bench_prepare(TABLES("bench_open"));
    bench_prepare(TABLES("bench_usual") POLICIES);
    const struct bench_row rows[] = {
        ROW("libpq, pipelined, no policies", 1, NO_ROW, open),
        ROW("the same", 4, NO_ROW, open),
        ROW("libpq, pipelined, the usual policy on a session variable", 1, 0, usual),
        ROW("the same", 4, 1, usual),
    };
    measure("rows", NULL, rows, sizeof rows / sizeof *rows);
    return 0;
}
