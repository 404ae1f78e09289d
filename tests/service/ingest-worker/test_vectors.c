/* vectors: equal texts are embedded once, a tenant's model changes under way, and a big tenant moves into a partition of its own. */
#include <string.h>

#include "core/str.h"
#include "rig.h"

TestSuite(ingest_vectors, .init = rig_open, .fini = rig_close, .timeout = 120);

#define VECTORS_SQL "SELECT string_agg(model || ' ' || n, ', ' ORDER BY model) FROM (SELECT model, count(*) n FROM app.chunk_vectors GROUP BY 1) v"
#define HOME_SQL "SELECT count(*) FILTER (WHERE home = tenant_id) || ' ' || count(*) || ' ' || count(DISTINCT chunk_id) FROM app.chunk_vectors"
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
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || count(DISTINCT embedding::text) || ' ' || count(DISTINCT text_blind) FROM app.chunk_vectors"), "2 1 1");
    add(PG_SLUG_B, "a.txt", LINE);
    wait_for_ready("3");
    cr_expect_eq(rig.embedded_calls, calls + 1, "another tenant's is another tenant's");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(DISTINCT text_blind) FROM app.chunk_vectors"), "2", "keyed");
}

Test(ingest_vectors, an_erased_text_is_embedded_again) {
    add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("1");
    pg_ask(pg_admin(), "UPDATE app.documents SET status = 'deleted', deleted_at = now(); DELETE FROM app.chunks");
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
    const char *n = pg_ask(pg_admin(), "SELECT count(*) + 1 FROM app.chunks");
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
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT model || coalesce(next_model, '') FROM app.vector_sets"), "n");
    cr_expect_str_eq(pg_ask(pg_admin(), VECTORS_SQL), pg_ask(pg_admin(), "SELECT 'n %s'", n), "each chunk once, and the old ones are gone");
    cr_expect(rig.was_audited_first);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) > 0 FROM audit.audit_outbox WHERE action = 'vectors.update'"), "t");
}

Test(ingest_vectors, a_tenant_whose_texts_repeat_each_other_stays_where_all_is_compared) {
    for (int i = 0; i < 5; i++)
        add(PG_SLUG_A, "a.txt", LINE);
    rig_start_jobs();
    wait_for_ready("5");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(2)"), "0");
    add(PG_SLUG_A, "b.txt", "Another text.");
    add(PG_SLUG_A, "c.txt", "A third text.");
    wait_for_ready("7");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(2)"), "0", "five of seven are one");
    add(PG_SLUG_A, "d.txt", "And a fourth one.");
    wait_for_ready("8");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT keys.promote_due(2)"), "1");
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
    const char *n = pg_ask(pg_admin(), "SELECT count(*) FROM app.chunks");
    cr_expect_str_eq(pg_ask(pg_admin(), HOME_SQL), pg_ask(pg_admin(), "SELECT '%s %s %s'", n, n, n), "each once, at home");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT chunks_done = chunks_total FROM jobs.jobs WHERE kind = 'promote'"), "t");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) " INDEXES_SQL), "1");
    add(PG_SLUG_A, "c.txt", "And afterwards.");
    wait_for_ready("3");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT bool_and(home = tenant_id) FROM app.chunk_vectors"), "t", "what is new goes there at once");
    struct why why = { 0 };
    rig.model_name = "n";
    cr_expect_eq(begin_reembedding(&why), ST_OK, "%s", why.text);
    rig_wait_for("t", OVER_SQL);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT string_agg(DISTINCT model, ' ') FROM app.chunk_vectors"), "n");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || ' ' || bool_and(pg_get_indexdef(c.oid) LIKE '%%''n''%%') " INDEXES_SQL), "1 true", "the old model's is gone");
}
