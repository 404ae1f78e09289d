/* query.Search over real buses and a real database; audit-writer and embedding-worker are played. */
#include "audit.pb-c.h"
#include "embedding.pb-c.h"
#include "query.h"
#include "support/pg.h"
#include "unit/bus_fixture.h"

#define CHUNKS_EACH_TEXT "20"
#define READY  "aaaaaaaa-0000-7000-8000-000000000001"
#define FAILED "aaaaaaaa-0000-7000-8000-000000000002"

static struct node writer, model, node;
static struct query query;
static size_t named_chunks, named_failed;       /* by the event that was to permit the search */

/* Takes the question's event, and is away for the one that names documents. */
static enum status on_append(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    const Audit__AppendRequest *req = audit__append_request__unpack(arena_wire(call->mem), body.len, body.data);
    if (!req || req->n_events != 1)
        return fail(&call->why, ST_INVALID, "events");
    const Audit__Event *e = req->events[0];
    struct uuid failed;
    (void)uuid_parse(FAILED, strlen(FAILED), &failed);
    for (size_t i = 0; i < e->n_document_ids; i++)
        named_failed += memcmp(e->document_ids[i].data, failed.bytes, UUID_BYTES) == 0;
    named_chunks += e->n_chunk_ids;
    if (str_equal(e->action, "search.disclose"))
        return fail(&call->why, ST_UNAVAILABLE, "away");
    Audit__AppendReply *reply = arena_alloc(call->mem, sizeof *reply);
    audit__append_reply__init(reply);
    reply->n_seqs = 1;
    reply->seqs = arena_alloc(call->mem, sizeof *reply->seqs);
    *ret_reply = &reply->base;
    return ST_OK;
}

static enum status on_embed(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx;
    (void)body;
    Embedding__EmbedReply *reply = arena_alloc(call->mem, sizeof *reply);
    Embedding__Vector *vector = arena_alloc(call->mem, sizeof *vector);
    embedding__embed_reply__init(reply);
    embedding__vector__init(vector);
    vector->n_values = 1024;
    vector->values = arena_alloc(call->mem, vector->n_values * sizeof *vector->values);
    vector->values[0] = 1;
    reply->model = arena_strdup(call->mem, "m");
    reply->n_vectors = 1;
    reply->vectors = arena_alloc(call->mem, sizeof *reply->vectors);
    reply->vectors[0] = vector;
    *ret_reply = &reply->base;
    return ST_OK;
}

/* The failed document's chunks lie exactly where the question does, the ready one's a little beside. */
static void add_documents(void) {
    pg_ticket(PG_SLUG_A, "clinician", "ann");
    pg_ask(pg_admin(),
        "INSERT INTO app.documents (tenant_id, id, content_type, bytes, key_version, created_by, status, reason_code) "
        "  SELECT u.tenant_id, d.id::uuid, 'text/plain', 1, 1, u.id, d.status, d.reason FROM auth.users u,"
        "  (VALUES ('" READY "', 'ready', NULL), ('" FAILED "', 'failed', 'SRV_001')) AS d (id, status, reason) WHERE u.tenant_id = '" PG_TENANT_A "';"
        "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc) "
        "  SELECT tenant_id, id, gen_random_uuid(), i, 0, 9, 2, 'x' FROM app.documents, generate_series(1, " CHUNKS_EACH_TEXT ") i;"
        "INSERT INTO app.chunk_vectors SELECT tenant_id, id, document_id, 'm', "
        "  ('[1,' || CASE document_id WHEN '" READY "' THEN '1' ELSE '0' END || repeat(',0', 1022) || ']')::ext.halfvec FROM app.chunks");
}

static void start(struct node *n, enum peer self, test_handler handle) {
    callee_init(n, self, 0, 1, handle, NULL);
    n->opt.callers = PEER_QUERY;
    node_start(n);
}

static void open_all(void) {
    pg_open();
    add_documents();
    struct why why = { 0 };
    struct db_options options = { .url = pg_url("cordon_query"), .process = "query-test" };
    cr_assert_eq(db_pool_new(&options, &query.db, &why), ST_OK, "%s", why.text);
    make_keys();
    start(&writer, PEER_AUDIT_WRITER, on_append);
    start(&model, PEER_EMBEDDING_WORKER, on_embed);
    node_init(&node, PEER_QUERY);
    node.opt.endpoints[peer_index(PEER_AUDIT_WRITER)] = writer.listen;
    node.opt.endpoints[peer_index(PEER_EMBEDDING_WORKER)] = model.listen;
    node_start(&node);
}

static void close_all(void) {
    node_stop(&node);
    node_stop(&model);
    node_stop(&writer);
    db_pool_destroy(&query.db);
    pg_close();
}

TestSuite(query_search, .init = open_all, .fini = close_all, .timeout = 60);

static enum status search_once(uint32_t top_k, size_t *ret_hits, struct why *ret_why) {
    struct asker a;
    asker_start(&a, &node, PATIENCE_MS);
    a.call.ticket = pg_ticket(PG_SLUG_A, "clinician", "ann");
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    Query__SearchReply reply = QUERY__SEARCH_REPLY__INIT;
    req.question = (char *)"question";
    req.top_k = top_k;
    enum status st = on_search(&query, &a.call, &req.base, &reply.base);
    *ret_hits = reply.n_hits;
    *ret_why = a.call.why;
    asker_end(&a);
    return st;
}

Test(query_search, chunks_of_documents_that_are_not_ready_take_nobodys_place) {
    size_t hits;
    struct why why;
    (void)search_once(8, &hits, &why);
    cr_expect_eq(named_chunks, 8, "%zu chunks were found: %s", named_chunks, why.text);
    cr_expect_eq(named_failed, 0);
}

Test(query_search, nothing_is_shown_that_is_not_on_the_record) {
    size_t hits;
    struct why why;
    cr_expect_eq(search_once(8, &hits, &why), ST_UNAVAILABLE, "%s", why.text);
    cr_expect_eq(why.code, ERR_AUDIT_UNAVAILABLE);
    cr_expect_eq(hits, 0);
}
