// links: query_lib db bench
/* Search under tenancy: the statement that query runs, through the door to tenant tables, beside the same
 * statement run by the superuser, whom no policy holds, and the bare scan that is the least it can cost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "db/halfvec.h"
#include "db/tenant_tx.h"
#include "query.h"
#include "support/database.h"
#include "support/measure.h"

enum { ANSWER_MS = 30000, TOP_K = 8, CHECKED = 20, BIGGEST = 3, QUESTION_COUNT = 64 };

/* "bench-0" to "bench-3" have the sizes that are measured; 50 others have 500 chunks each. Twenty chunks to a document. The biggest
 * has a partition of its own, and vectors with a structure that an index can follow: each is the sum of one of 512 topics, one of 4,096
 * documents and one of 4,096 details; and besides 20,000 chunks that say one thing. */
static const char *const LAYOUT[] = {
    "INSERT INTO auth.tenants (id, slug, name) SELECT gen_random_uuid(), 'bench-' || n, 'Bench' FROM generate_series(0, 53) n;"
    "INSERT INTO app.documents (tenant_id, id, status, content_type, bytes, name_enc, key_version, created_by)"
    " SELECT t.id, gen_random_uuid(), 'ready', 'text/plain', 20000, sha256(t.id::text::bytea), 1, gen_random_uuid() FROM auth.tenants t,"
    " generate_series(1, CASE t.slug WHEN 'bench-1' THEN 100 WHEN 'bench-2' THEN 500 WHEN 'bench-3' THEN 6000 ELSE 25 END) n WHERE t.slug ~ '^bench-[0-9]+$';",
    "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc)"
    " SELECT d.tenant_id, d.id, gen_random_uuid(), n, n * 900, n * 900 + 1000, 200, decode(repeat(md5(d.id::text || n), 63), 'hex')"
    " FROM app.documents d JOIN auth.tenants t ON t.id = d.tenant_id, generate_series(0, 19) n WHERE t.slug ~ '^bench-[0-9]+$';",
    "UPDATE app.chunks SET text_blind = sha256('again') WHERE document_id IN (SELECT d.id FROM app.documents d"
    " WHERE d.tenant_id = (SELECT id FROM auth.tenants WHERE slug = 'bench-3') LIMIT 1000)",
    "INSERT INTO app.text_vectors (tenant_id, text_blind, model, embedding) SELECT c.tenant_id, c.text_blind, 'bench',"
    " ARRAY(SELECT (random() - 0.5)::real FROM generate_series(1, 1024) WHERE c.id IS NOT NULL)::ext.halfvec(1024) FROM app.chunks c"
    " WHERE c.tenant_id <> (SELECT id FROM auth.tenants WHERE slug = 'bench-3');"
    "INSERT INTO app.vector_sets (tenant_id, model) SELECT id, 'bench' FROM auth.tenants WHERE slug ~ '^bench-[0-9]+$';",
    "SELECT app.make_vector_partition(id) FROM auth.tenants WHERE slug = 'bench-3';"
    "CREATE UNLOGGED TABLE public.parts AS SELECT k.kind, n, ARRAY(SELECT ((random() + random() + random() - 1.5) * k.weight)::real"
    " FROM generate_series(1, 1024) WHERE n >= 0)::ext.halfvec(1024) AS v FROM (VALUES ('topic', 512, 1.0), ('document', 4096, 0.7), ('detail', 4096, 0.6))"
    " k (kind, count, weight), generate_series(0, k.count - 1) n; ALTER TABLE public.parts ADD PRIMARY KEY (kind, n);"
    "CREATE VIEW public.mixed AS SELECT t.n AS topic, d.n AS document, e.n AS detail, (t.v OPERATOR(ext.+) d.v) OPERATOR(ext.+) e.v AS v"
    " FROM public.parts t, public.parts d, public.parts e WHERE t.kind = 'topic' AND d.kind = 'document' AND e.kind = 'detail'",
    "INSERT INTO app.text_vectors (tenant_id, text_blind, model, home, embedding)"
    " SELECT DISTINCT ON (c.text_blind) c.tenant_id, c.text_blind, 'bench', c.tenant_id, m.v FROM (SELECT k.*, dense_rank() OVER (ORDER BY k.document_id) AS nth,"
    " row_number() OVER (ORDER BY k.document_id, k.ordinal) AS at FROM app.chunks k WHERE k.tenant_id = (SELECT id FROM auth.tenants WHERE slug = 'bench-3')) c"
    " JOIN public.mixed m ON m.topic = c.nth * 7919 % 512 AND m.document = c.nth * 104729 % 4096 AND m.detail = c.at * 48271 % 4096;"
    "UPDATE app.vector_sets SET home = tenant_id WHERE tenant_id = (SELECT id FROM auth.tenants WHERE slug = 'bench-3')",
    "SET maintenance_work_mem = '512MB'; SELECT app.index_vectors(id, 'bench') FROM auth.tenants WHERE slug = 'bench-3'",
    "VACUUM ANALYZE app.documents", "VACUUM ANALYZE app.chunks", "VACUUM ANALYZE app.text_vectors",
};
static const char BARE[] = "SELECT c.id FROM (SELECT n.text_blind, n.embedding OPERATOR(ext.<=>) $2::ext.halfvec AS distance FROM app.text_vectors n"
    " WHERE n.tenant_id = $1 ORDER BY (n.embedding OPERATOR(ext.<=>) $2::ext.halfvec) + 0 LIMIT 8) x"
    " JOIN app.chunks c ON c.tenant_id = $1 AND c.text_blind = x.text_blind ORDER BY x.distance, c.document_id, c.id LIMIT 8";
/* Questions about documents of the biggest: details that none of their chunks has. */
static const char QUESTIONS[] = "SELECT m.v FROM generate_series(1, 64) i JOIN public.mixed m ON m.topic = i * 37 * 7919 % 512 AND m.document = i * 37::bigint * 104729 % 4096"
    " AND m.detail = i * 77773 % 4096";

struct tenant { const char *slug; char id[UUID_TEXT_BYTES]; };
static struct tenant tenants[] = { { .slug = "bench-0" }, { .slug = "bench-1" }, { .slug = "bench-2" }, { .slug = "bench-3" } };
static struct db_pool *pool;
static uint8_t questions[QUESTION_COUNT][HALFVEC_BYTES];

/* One who asks, by the door or by a connection that no policy holds. */
struct asker {
    const struct tenant *tenant;
    uint64_t seed;
    uint8_t question[HALFVEC_BYTES];
    char *ticket;
    PGconn *conn;
};

static struct db_param next_question(struct asker *a) {
    float values[VECTOR_DIMENSIONS];
    if (a->tenant == &tenants[BIGGEST])
        return DB_BYTES(questions[a->seed++ % QUESTION_COUNT], HALFVEC_BYTES);
    for (int i = 0; i < VECTOR_DIMENSIONS; i++) {
        a->seed = a->seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(a->seed >> 40) / (1 << 24) - 0.5f;
    }
    return db_halfvec_param(values, a->question);
}

static void *asker_new(void *ctx, unsigned caller) {
    struct asker *a = xalloc(sizeof *a);
    a->tenant = ctx;
    a->seed = 77 + caller;
    return a;
}

static void *door_begin(void *ctx, unsigned caller) {
    struct asker *a = asker_new(ctx, caller);
    a->ticket = bench_ticket(a->tenant->slug, caller);
    return a;
}

static void *bare_begin(void *ctx, unsigned caller) {
    struct asker *a = asker_new(ctx, caller);
    a->conn = bench_connect("BENCH_ADMIN_URL");
    bench_do(a->conn, "SET hnsw.ef_search = 400; SET hnsw.iterative_scan = relaxed_order");
    return a;
}

static void asker_end(void *state) {
    struct asker *a = state;
    PQfinish(a->conn);
    free(a->ticket);
    free(a);
}

static PGresult *door_ask(struct asker *a, struct db_param question) {
    struct why why = { 0 };
    PGresult *rows = NULL;
    CLEANUP(tenant_tx_end) struct tenant_tx tx = { 0 };
    bench_check(tenant_tx_begin(&tx, pool, a->ticket, NULL, SCOPE_QUERY, clock_mono_ms() + ANSWER_MS, &why), &why, "begin");
    bench_check(tenant_tx_run(&tx, &NEAREST_CHUNKS, (struct db_param[]){ DB_UUID(&tx.claims.tenant_id), question, DB_TEXT("bench"),
                DB_INT(TOP_K) }, &rows, &why), &why, "nearest_chunks");
    bench_check(tenant_tx_commit(&tx, &why), &why, "commit");
    return rows;
}

static PGresult *bare_ask(struct asker *a, const char *sql, int n_params, struct db_param question) {
    bench_do(a->conn, "BEGIN");
    PGresult *rows = PQexecParams(a->conn, sql, n_params, NULL, (const char *const[]){ a->tenant->id, question.data, "bench", "8" },
                                  (const int[]){ 0, question.len, 0, 0 }, (const int[]){ 0, 1, 0, 0 }, 1);
    if (PQntuples(rows) != TOP_K)
        bench_fail("%s", PQresultErrorMessage(rows));
    bench_do(a->conn, "COMMIT");
    return rows;
}

static void door_search(void *state, struct stopwatch *watch) {
    struct db_param question = next_question(state);
    stopwatch_restart(watch);
    PGresult *rows = door_ask(state, question);
    if (db_count(rows) != TOP_K)
        bench_fail("the ticket shows %d chunks", db_count(rows));
    PQclear(rows);
}

static void same_search(void *state, struct stopwatch *watch) {
    struct db_param question = next_question(state);
    stopwatch_restart(watch);
    PQclear(bare_ask(state, NEAREST_CHUNKS.text, 4, question));
}

static void bare_search(void *state, struct stopwatch *watch) {
    struct db_param question = next_question(state);
    stopwatch_restart(watch);
    PQclear(bare_ask(state, BARE, 2, question));
}

static int equal_count(const PGresult *ours, const PGresult *exact) {
    int equal = 0;
    for (int k = 0; k < db_count(exact); k++)
        for (int i = 0; i < db_count(ours); i++)
            equal += memcmp(PQgetvalue(ours, i, 0), PQgetvalue(exact, k, 0), UUID_BYTES) == 0;
    return equal;
}

/* The share of the exact scan's hits that the door finds too, of CHECKED questions: all, where there is no index. */
static double recall(const struct tenant *t) {
    struct asker *door = door_begin((void *)t, 1), *bare = bare_begin((void *)t, 1);
    int found = 0;
    for (int i = 0; i < CHECKED; i++) {
        PGresult *ours = door_ask(door, next_question(door)), *exact = bare_ask(bare, BARE, 2, next_question(bare));
        found += equal_count(ours, exact);
        PQclear(ours);
        PQclear(exact);
    }
    asker_end(door);
    asker_end(bare);
    return (double)found / (CHECKED * TOP_K);
}

static void load_questions(PGconn *conn) {
    PGresult *rows = PQexecParams(conn, QUESTIONS, 0, NULL, NULL, NULL, NULL, 1);
    if (PQntuples(rows) != QUESTION_COUNT || PQgetlength(rows, 0, 0) != HALFVEC_BYTES)
        bench_fail("questions: %s", PQresultErrorMessage(rows));
    for (int i = 0; i < QUESTION_COUNT; i++)
        memcpy(questions[i], PQgetvalue(rows, i, 0), HALFVEC_BYTES);
    PQclear(rows);
}

static void find_tenants(PGconn *conn) {
    for (size_t t = 0; t < sizeof tenants / sizeof *tenants; t++) {
        PGresult *rows = PQexecParams(conn, "SELECT id::text FROM auth.tenants WHERE slug = $1", 1, NULL, &tenants[t].slug, NULL, NULL, 0);
        snprintf(tenants[t].id, sizeof tenants[t].id, "%s", PQgetvalue(rows, 0, 0));
        PQclear(rows);
    }
}

#define ROW(label, t, reference, kind, work) { label, 1, 1, "searches", reference, &tenants[t], kind##_begin, work, asker_end }

int main(void) {
    struct why why = { 0 };
    for (size_t i = 0; i < sizeof LAYOUT / sizeof *LAYOUT; i++)
        bench_prepare(LAYOUT[i]);
    PGconn *conn = bench_connect("BENCH_ADMIN_URL");
    find_tenants(conn);
    load_questions(conn);
    PQfinish(conn);
    static const char *const SETTINGS[] = { "hnsw.ef_search=400", "hnsw.iterative_scan=relaxed_order", NULL };      /* as query's */
    struct db_options options = { .url = bench_setting("BENCH_QUERY_URL"), .process = "bench", .connections = 4, .settings = SETTINGS };
    bench_check(db_pool_new(&options, &pool, &why), &why, "pool");
    for (int t = 0; t < BIGGEST; t++)
        if (recall(&tenants[t]) < 1)
            bench_fail("%s: its hits differ from the exact scan's", tenants[t].slug);
    double share = recall(&tenants[BIGGEST]);
    if (share < 0.95)
        bench_fail("recall by the index is %.3f", share);
    const struct bench_row rows[] = {
        ROW("500 chunks: ticket and nearest_chunks", 0, 1, door, door_search),
        ROW("500 chunks: nearest_chunks without policies", 0, NO_ROW, bare, same_search),
        ROW("500 chunks: ORDER BY distance LIMIT 8 only", 0, NO_ROW, bare, bare_search),
        ROW("2,000 chunks: ticket and nearest_chunks", 1, 4, door, door_search),
        ROW("2,000 chunks: nearest_chunks without policies", 1, NO_ROW, bare, same_search),
        ROW("2,000 chunks: ORDER BY distance LIMIT 8 only", 1, NO_ROW, bare, bare_search),
        ROW("10,000 chunks: ticket and nearest_chunks", 2, 7, door, door_search),
        ROW("10,000 chunks: nearest_chunks without policies", 2, NO_ROW, bare, same_search),
        ROW("10,000 chunks: ORDER BY distance LIMIT 8 only", 2, NO_ROW, bare, bare_search),
        ROW("120,000 chunks, by the index: ticket and nearest_chunks", 3, 10, door, door_search),
        ROW("120,000 chunks, by the index: nearest_chunks without policies", 3, NO_ROW, bare, same_search),
        ROW("120,000 chunks: ORDER BY distance LIMIT 8 only", 3, NO_ROW, bare, bare_search),
    };
    char note[512];
    snprintf(note, sizeof note, "halfvec(1024), 8 hits, tenants in the shared partition with 50 others of 500 chunks, the biggest in its own, with an index of "
             "its 100,001 texts, one of which stands in 20,000 chunks; each search is a whole transaction. Recall is 1 in the shared partition, every hit of 60 questions was the exact scan's; by the index it is %.3f (%d questions).",
             share, CHECKED);
    measure("vectors", note, rows, sizeof rows / sizeof *rows);
    db_pool_destroy(&pool);
    return 0;
}
