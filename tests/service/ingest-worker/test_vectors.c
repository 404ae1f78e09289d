/* vectors: one of each text, a tenant's model changes under way, and a big tenant moves into a partition of its own. */
#include <string.h>

#include "core/str.h"
#include "rig.h"

TestSuite(ingest_vectors, .init = rig_open, .fini = rig_close, .timeout = 120);

#define VECTORS_SQL "SELECT string_agg(model || ' ' || n, ', ' ORDER BY model) FROM (SELECT model, count(*) n FROM app.text_vectors GROUP BY 1) v"
#define HOME_SQL "SELECT count(*) FILTER (WHERE home = tenant_id) || ' ' || count(*) || ' ' || count(DISTINCT text_blind) FROM app.text_vectors"
#define TEXTS_SQL "SELECT count(DISTINCT text_blind) FROM app.chunks"
#define KEPT_SQL "SELECT count(*) || ' ' || count(k.*) FROM app.text_vectors v LEFT JOIN (SELECT DISTINCT text_blind FROM app.chunks) k USING (text_blind)"
#define INDEXES_SQL "FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'"
#define OVER_SQL "SELECT bool_and(state = 'succeeded') FROM jobs.jobs"
static const char LINE[] = "Potassium 4.1, sodium 139.";

static void add(const char *slug, const char *name, const char *text) {
    struct rig_upload u = { .type = "text/plain", .name = name, .announced_bytes = -1 };
    cr_assert_eq(rig_upload_as(pg_ticket(slug, "clinician", "ann"), &u, text, strlen(text), NULL, NULL), ST_OK);
}

static void wait_for_ready(const char *n) {
    rig_wait_for(n, "SELECT count(*) FROM app.documents WHERE status = 'ready'");
}

/* While the model thinks about the first batch. */
static void erase_first(unsigned call) {
    (void)call;
    rig.on_embed = NULL;
    PGconn *conn = pg_connect(NULL);
    pg_ask(conn, "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id = (SELECT min(id::text)::uuid FROM app.documents);"
                 "DELETE FROM app.chunks WHERE document_id = (SELECT min(id::text)::uuid FROM app.documents)");
    PQfinish(conn);
}

static enum status begin_reembedding(struct why *ret_why) {
    rig.records_disclosures = true;
    Ingest__CreateReembeddingRequest req = INGEST__CREATE_REEMBEDDING_REQUEST__INIT;
    return rig_ask("ingest.CreateReembedding", pg_ticket(PG_SLUG_A, "admin", "root"), &req.base, &ingest__create_reembedding_reply__descriptor, ret_why);
}

Test(ingest_vectors, a_text_that_the_tenant_has_is_not_embedded_again) {
    add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("1");
    unsigned calls = rig.embedded_calls, records = rig.audited;
    add(PG_SLUG_A, "a.txt", LINE);
    wait_for_ready("2");
    cr_expect_eq(rig.embedded_calls, calls, "the vector was there");
    cr_expect_eq(rig.audited, records, "and nothing left");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (SELECT count(*) FROM app.chunks) || ' ' || (SELECT count(*) FROM app.text_vectors)"), "2 1", "one vector of the one text");
    add(PG_SLUG_B, "a.txt", LINE);
    wait_for_ready("3");
    cr_expect_eq(rig.embedded_calls, calls + 1, "another tenant's is another tenant's");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.text_vectors"), "2", "keyed");
}

static void erase(const char *n) {
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now() WHERE id IN (SELECT id FROM app.documents WHERE status = 'ready' ORDER BY id LIMIT %s);"
                       "DELETE FROM app.chunks k USING app.documents d WHERE d.id = k.document_id AND d.status = 'deleted'", n);
}

Test(ingest_vectors, a_vector_goes_with_the_last_chunk_of_its_text) {
    add(PG_SLUG_A, "a.txt", LINE);
    add(PG_SLUG_A, "a.txt", LINE);
    add(PG_SLUG_B, "a.txt", LINE);
    add(PG_SLUG_B, "b.txt", "Another text.");
    rig_start_jobs();
    wait_for_ready("4");
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "3 3");
    erase("1");
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "3 3", "the other chunk still has it");
    erase("1");
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "2 2");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM app.text_vectors WHERE tenant_id = '" PG_TENANT_A "'"), "0", "another tenant's is another tenant's");
    pg_ask(pg_admin(), "DELETE FROM app.documents");
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "0 0", "with the document, too");
}

/* Until the database says that somebody of the superuser's waits for a lock. */
static void wait_for_waiter(void) {
    rig_wait_for("1", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'");
}

/* Ends what was sent; true if it went well. */
static bool finish(PGconn *conn) {
    bool is_good = true;
    for (PGresult *rows; (rows = PQgetResult(conn)); PQclear(rows))
        is_good &= PQresultStatus(rows) == PGRES_COMMAND_OK || PQresultStatus(rows) == PGRES_TUPLES_OK;
    return is_good;
}

#define LAST_CHUNK_GOES "DELETE FROM app.chunks WHERE document_id = (SELECT min(document_id::text)::uuid FROM app.chunks)"
/* As keys.hold_vectors() and ADD_CHUNKS do: a chunk of the same text in another document. */
#define ANOTHER_COMES "INSERT INTO app.chunks (tenant_id, document_id, id, ordinal, start_offset, end_offset, token_count, text_enc, text_blind) " \
    "SELECT k.tenant_id, (SELECT max(d.id::text)::uuid FROM app.documents d), gen_random_uuid(), 99, 0, 9, 2, 'x', k.text_blind FROM app.chunks k ORDER BY k.document_id LIMIT 1;" \
    "SELECT FROM app.text_vectors v WHERE v.text_blind IN (SELECT text_blind FROM app.chunks WHERE ordinal = 99) FOR KEY SHARE"

Test(ingest_vectors, a_vector_stays_for_a_chunk_that_comes_while_the_last_one_goes) {
    add(PG_SLUG_A, "a.txt", LINE);
    add(PG_SLUG_A, "b.txt", "Another text.");
    rig_start_jobs();
    wait_for_ready("2");
    PGconn *storing = pg_connect(NULL), *removing = pg_connect(NULL);
    pg_ask(storing, "BEGIN; " ANOTHER_COMES);
    cr_assert(PQsendQuery(removing, LAST_CHUNK_GOES));
    wait_for_waiter();
    pg_ask(storing, "COMMIT");
    cr_expect(finish(removing), "%s", PQerrorMessage(removing));
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "2 2", "both texts have a chunk, and their vectors");
    PQfinish(storing);
    PQfinish(removing);
}

Test(ingest_vectors, a_vector_that_moves_home_while_its_last_chunk_goes_is_removed_there) {
    add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("1");
    pg_ask(pg_admin(), "BEGIN; SET LOCAL ROLE cordon_keys_definer; SELECT app.make_vector_partition('" PG_TENANT_A "'); COMMIT");
    PGconn *moving = pg_connect(NULL), *removing = pg_connect(NULL);
    pg_ask(moving, "BEGIN; WITH went AS (DELETE FROM app.text_vectors RETURNING *) INSERT INTO app.text_vectors (tenant_id, text_blind, model, home, embedding) "
                   "SELECT tenant_id, text_blind, model, tenant_id, embedding FROM went");
    cr_assert(PQsendQuery(removing, LAST_CHUNK_GOES));
    wait_for_waiter();
    pg_ask(moving, "COMMIT");
    cr_expect(finish(removing), "%s", PQerrorMessage(removing));
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "0 0");
    PQfinish(moving);
    PQfinish(removing);
}

Test(ingest_vectors, an_erased_text_is_embedded_again) {
    add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("1");
    erase("1");
    unsigned calls = rig.embedded_calls;
    add(PG_SLUG_A, "a.txt", LINE);
    wait_for_ready("1");
    cr_expect_eq(rig.embedded_calls, calls + 1);
}

Test(ingest_vectors, the_model_changes_at_once_when_all_is_made_anew) {
    struct why why = { 0 };
    rig_add_document(300);
    add(PG_SLUG_A, "b.txt", LINE);
    rig_start_jobs();
    wait_for_ready("2");
    const char *n = pg_ask(pg_admin(), "SELECT count(DISTINCT text_blind) + 1 FROM app.chunks");
    cr_expect_eq(begin_reembedding(&why), ST_CONFLICT, "there is no other model");
    rig_stop_jobs();
    rig.model_name = "n";
    cr_expect_eq(begin_reembedding(&why), ST_OK, "%s", why.text);
    cr_expect_eq(begin_reembedding(&why), ST_CONFLICT, "one at a time");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT model || ' ' || next_model FROM app.vector_sets"), "m n", "searched on the old ones");
    add(PG_SLUG_A, "c.txt", "Uploaded while it runs.");
    rig.fails_at_call = rig.embedded_calls + 3;             /* and the model goes away in between */
    rig.model_status = ST_UNAVAILABLE;
    rig_start_jobs();
    rig_wait_for("t", "SELECT bool_or(outages > 0) FROM jobs.jobs");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT model || ' ' || next_model FROM app.vector_sets"), "m n");
    rig.model_status = ST_OK;
    rig_wait_for("t", OVER_SQL);
    wait_for_ready("3");
    cr_expect_gt(rig.models_recorded, 0, "which model it was is on the record");
    cr_expect_str_eq(rig.model_recorded, "{\"model\":\"n\",\"purpose\":\"embed\"}");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT model || coalesce(next_model, '') FROM app.vector_sets"), "n");
    cr_expect_str_eq(pg_ask(pg_admin(), VECTORS_SQL), pg_ask(pg_admin(), "SELECT 'n %s'", n), "each text once, and the old ones are gone");
    cr_expect(rig.was_audited_first);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) > 0 FROM audit.audit_outbox WHERE action = 'vectors.update'"), "t");
}

Test(ingest_vectors, a_text_is_made_anew_once_however_many_chunks_have_it) {
    struct why why = { 0 };
    for (int i = 0; i < 5; i++)
        add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("5");
    rig_stop_jobs();
    rig.model_name = "n";
    cr_expect_eq(begin_reembedding(&why), ST_OK, "%s", why.text);
    unsigned texts = rig.text_count;
    rig_start_jobs();
    rig_wait_for("t", OVER_SQL);
    cr_expect_eq(rig.text_count, texts + 1);
    cr_expect_str_eq(pg_ask(pg_admin(), VECTORS_SQL), "n 1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done || ' ' || chunks_total FROM jobs.jobs WHERE kind = 'reembed'"), "1 1");
}

Test(ingest_vectors, a_document_that_goes_while_its_text_is_made_anew_leaves_no_vector) {
    struct why why = { 0 };
    add(PG_SLUG_A, "a.txt", LINE);
    add(PG_SLUG_A, "b.txt", "Another text.");
    rig_start_jobs();
    wait_for_ready("2");
    rig_stop_jobs();
    rig.model_name = "n";
    cr_expect_eq(begin_reembedding(&why), ST_OK, "%s", why.text);
    rig.on_embed = erase_first;
    rig_start_jobs();
    rig_wait_for("t", OVER_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), KEPT_SQL), "1 1");
    cr_expect_str_eq(pg_ask(pg_admin(), VECTORS_SQL), "n 1");
}

Test(ingest_vectors, a_tenant_is_as_big_as_its_texts_are_many) {
    for (int i = 0; i < 5; i++)
        add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("5");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(2)"), "0", "one text five times");
    add(PG_SLUG_A, "b.txt", "Another text.");
    add(PG_SLUG_A, "c.txt", "A third text.");
    wait_for_ready("7");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(2)"), "1");
    rig_wait_for("t", OVER_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), HOME_SQL), "3 3 3");
    add(PG_SLUG_A, "c.txt", "A third text.");
    wait_for_ready("8");
    cr_expect_str_eq(pg_ask(pg_admin(), HOME_SQL), "3 3 3", "what repeats is in the index once");
}

Test(ingest_vectors, a_big_tenant_moves_while_it_goes_on) {
    rig_add_document(400);
    rig_start_jobs();
    wait_for_ready("1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(100000)"), "0");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(4)"), "1");
    add(PG_SLUG_A, "b.txt", LINE);
    rig_wait_for("t", OVER_SQL);
    wait_for_ready("2");
    const char *n = pg_ask(pg_admin(), TEXTS_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), HOME_SQL), pg_ask(pg_admin(), "SELECT '%s %s %s'", n, n, n), "each once, at home");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done = chunks_total FROM jobs.jobs WHERE kind = 'promote'"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) " INDEXES_SQL), "1");
    add(PG_SLUG_A, "c.txt", "And afterwards.");
    wait_for_ready("3");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT bool_and(home = tenant_id) FROM app.text_vectors"), "t", "what is new goes there at once");
    struct why why = { 0 };
    rig.model_name = "n";
    cr_expect_eq(begin_reembedding(&why), ST_OK, "%s", why.text);
    rig_wait_for("t", OVER_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(DISTINCT model, ' ') FROM app.text_vectors"), "n");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || bool_and(pg_get_indexdef(c.oid) LIKE '%%''n''%%') " INDEXES_SQL), "1 true", "the old model's is gone");
}
