/* The log's proofs and its export, checked by cordon-verify, which shares no code with what made them; and what the
 * superuser can do to the database, which it finds. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audit/merkle.h"
#include "core/text_codec.h"
#include "log.h"
#include "rig.h"

TestSuite(query_proofs, .init = rig_open, .fini = rig_close, .timeout = 300);

static const char *auditor(void) { return pg_ticket(PG_SLUG_A, "auditor", "olga"); }

static void export_log(Query__ExportAuditRequest *req, struct buffer *out) {
    buffer_clear(out);
    cr_assert_eq(rig_stream("query.ExportAudit", auditor(), &req->base, &query__export_audit_reply__descriptor, out), ST_OK, "%s", rig.why.text);
}

static const char *const WITH_KEY[] = { "--key", LOG_VERIFIER, NULL };

static void expect_verified(const struct buffer *export, const char *what) {
    CLEANUP(buffer_end) struct buffer said = { 0 };
    cr_expect_eq(log_verify(WITH_KEY, export->data, export->len, &said), 0, "%s: %s", what, said.data);
}

Test(query_proofs, a_whole_export_is_verified) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    log_fill(PG_TENANT_A, 700);
    log_sign(PG_TENANT_A);
    export_log(&req, &out);
    expect_verified(&out, "all");
    cr_expect_str_eq(rig_last("audit.export")->detail, "{\"checkpoint\":700,\"first\":0,\"format\":\"jsonl\",\"last\":700}");
}

Test(query_proofs, every_part_of_an_export_is_verified_by_itself) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    log_fill(PG_TENANT_A, 700);
    log_sign(PG_TENANT_A);
    const struct { int64_t from, to; } parts[] = { { 0, 1 }, { 1, 2 }, { 255, 257 }, { 256, 512 }, { 100, 699 }, { 512, 700 }, { 699, 700 }, { 3, 3 } };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
        req.from_seq = parts[i].from;
        req.to_seq = parts[i].to;
        export_log(&req, &out);
        expect_verified(&out, "part");
    }
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    req.from_us = INT64_C(1700000100) * 1000000;
    req.to_us = INT64_C(1700000110) * 1000000;
    export_log(&req, &out);
    expect_verified(&out, "by time");
    cr_expect_str_eq(rig_last("audit.export")->detail, "{\"checkpoint\":700,\"first\":100,\"format\":\"jsonl\",\"last\":110}");
}

Test(query_proofs, yesterday_s_checkpoint_is_a_beginning_of_today_s_log) {
    CLEANUP(buffer_end) struct buffer out = { 0 }, said = { 0 };
    log_fill(PG_TENANT_A, 300);
    const char *yesterday = log_sign(PG_TENANT_A);
    log_fill(PG_TENANT_A, 333);
    log_sign(PG_TENANT_A);
    char path[] = "/tmp/cordon-note-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(write(fd, yesterday, strlen(yesterday)) == (ssize_t)strlen(yesterday));
    close(fd);
    const char *const args[] = { "--key", LOG_VERIFIER, "--checkpoint", path, NULL };
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    export_log(&req, &out);
    cr_expect_eq(log_verify(args, out.data, out.len, &said), 0, "%s", said.data);
    req.from_seq = 400;
    export_log(&req, &out);
    cr_expect_eq(log_verify(args, out.data, out.len, &said), 1, "a part without the proof");
    req.since = 300;
    export_log(&req, &out);
    buffer_clear(&said);
    cr_expect_eq(log_verify(args, out.data, out.len, &said), 0, "%s", said.data);
    unlink(path);
}

static const char *hex(const ProtobufCBinaryData *data) {
    return hex_encode(data->data, data->len, arena_alloc(rig.mem, 2 * data->len + 1));
}

static const char *quoted_note(const char *note) {
    struct buffer out = { 0 };
    for (; *note; note++)
        (void)(*note == '\n' ? buffer_add_str(&out, "\\n") : buffer_add(&out, note, 1));
    const char *kept = arena_strdup(rig.mem, out.data ? out.data : "");
    buffer_end(&out);
    return kept;
}

static void put_hashes(struct buffer *out, ProtobufCBinaryData *hashes, size_t n) {
    (void)buffer_add_str(out, "\"hashes\":[");
    for (size_t i = 0; i < n; i++)
        (void)buffer_printf(out, "%s\"%s\"", i ? "," : "", hex(&hashes[i]));
    (void)buffer_add_str(out, "]");
}

Test(query_proofs, an_event_s_proof_is_verified_and_another_s_is_not) {
    const char *const args[] = { "inclusion", "--key", LOG_VERIFIER, NULL };
    log_fill(PG_TENANT_A, 600);
    log_sign(PG_TENANT_A);
    const int64_t seqs[] = { 0, 1, 255, 256, 511, 512, 598, 599 };
    for (size_t i = 0; i < sizeof seqs / sizeof *seqs; i++) {
        Query__GetAuditProofRequest req = QUERY__GET_AUDIT_PROOF_REQUEST__INIT;
        ProtobufCMessage *reply = NULL;
        req.seq = seqs[i];
        cr_assert_eq(rig_call("query.GetAuditProof", auditor(), &req.base, &reply), ST_OK, "%s", rig.why.text);
        const Query__GetAuditProofReply *r = (const void *)reply;
        for (int is_wrong = 0; is_wrong < 2; is_wrong++) {
            CLEANUP(buffer_end) struct buffer json = { 0 }, said = { 0 };
            (void)buffer_printf(&json, "{\"seq\":%lld,\"size\":%lld,\"leaf_hash\":\"%s\",", (long long)(r->seq ^ is_wrong), (long long)r->size, hex(&r->leaf_hash));
            put_hashes(&json, r->hashes, r->n_hashes);
            (void)buffer_printf(&json, ",\"checkpoint\":\"%s\"}", quoted_note(r->checkpoint));
            cr_expect_eq(log_verify(args, json.data, json.len, &said), is_wrong, "%lld: %s", (long long)r->seq, said.data);
        }
    }
    Query__GetAuditProofRequest req = QUERY__GET_AUDIT_PROOF_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.seq = 600;
    cr_expect_eq(rig_call("query.GetAuditProof", auditor(), &req.base, &reply), ST_CONFLICT);
    cr_expect_eq(rig.why.code, ERR_AUDIT_UNSIGNED);
}

Test(query_proofs, a_consistency_proof_is_verified) {
    const char *const args[] = { "consistency", "--key", LOG_VERIFIER, NULL };
    log_fill(PG_TENANT_A, 600);
    log_sign(PG_TENANT_A);
    const int64_t froms[] = { 1, 255, 256, 300, 512, 599, 600 };
    for (size_t i = 0; i < sizeof froms / sizeof *froms; i++) {
        Query__GetAuditConsistencyRequest req = QUERY__GET_AUDIT_CONSISTENCY_REQUEST__INIT;
        ProtobufCMessage *reply = NULL;
        CLEANUP(buffer_end) struct buffer json = { 0 }, said = { 0 };
        req.from = froms[i];
        cr_assert_eq(rig_call("query.GetAuditConsistency", auditor(), &req.base, &reply), ST_OK, "%s", rig.why.text);
        const Query__GetAuditConsistencyReply *r = (const void *)reply;
        (void)buffer_printf(&json, "{\"from\":%lld,\"to\":%lld,\"from_root\":\"%s\",", (long long)r->from, (long long)r->to, hex(&r->from_root));
        put_hashes(&json, r->hashes, r->n_hashes);
        (void)buffer_printf(&json, ",\"checkpoint\":\"%s\"}", quoted_note(r->checkpoint));
        cr_expect_eq(log_verify(args, json.data, json.len, &said), 0, "%lld: %s", (long long)r->from, said.data);
    }
}

Test(query_proofs, a_log_of_another_tenant_or_without_a_signed_head_is_not_shown) {
    Query__GetAuditCheckpointRequest req = QUERY__GET_AUDIT_CHECKPOINT_REQUEST__INIT;
    Query__ExportAuditRequest export = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    ProtobufCMessage *reply = NULL;
    log_fill(PG_TENANT_B, 3);
    log_sign(PG_TENANT_B);
    cr_expect_eq(rig_call("query.GetAuditCheckpoint", auditor(), &req.base, &reply), ST_CONFLICT);
    cr_expect_eq(rig_stream("query.ExportAudit", auditor(), &export.base, &query__export_audit_reply__descriptor, &out), ST_CONFLICT);
    cr_expect_eq(out.len, 0);
    cr_expect_eq(rig_count("audit.export"), 0);
}

Test(query_proofs, tiles_are_those_of_tlog_tiles) {
    log_fill(PG_TENANT_A, 520);
    log_sign(PG_TENANT_A);
    const struct { uint32_t level; const char *tile; size_t hashes; enum status st; } tiles[] = {
        { 0, "000", 256, ST_OK }, { 0, "001", 256, ST_OK }, { 0, "002.p/8", 8, ST_OK }, { 1, "000.p/2", 2, ST_OK }, { 0, "002.p/7", 7, ST_OK },
        { 0, "002.p/9", 0, ST_NOT_FOUND }, { 0, "002", 0, ST_NOT_FOUND }, { 0, "x001/000", 0, ST_NOT_FOUND }, { 2, "000.p/1", 0, ST_NOT_FOUND },
        { 0, "000.p/0", 0, ST_INVALID }, { 0, "000.p/256", 0, ST_INVALID }, { 0, "00", 0, ST_INVALID }, { 0, "x00", 0, ST_INVALID },
        { 0, "000.p/08", 0, ST_INVALID }, { 0, "000/", 0, ST_INVALID }, { 7, "000", 0, ST_INVALID }, { 0, "x001/x002/x003/x004/x005/006", 0, ST_INVALID } };
    for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++) {
        Query__GetAuditTileRequest req = QUERY__GET_AUDIT_TILE_REQUEST__INIT;
        ProtobufCMessage *reply = NULL;
        req.level = tiles[i].level;
        req.tile = (char *)tiles[i].tile;
        cr_expect_eq(rig_call("query.GetAuditTile", auditor(), &req.base, &reply), tiles[i].st, "%u %s: %s", req.level, req.tile, rig.why.text);
        if (reply)
            cr_expect_eq(((const Query__GetAuditTileReply *)reply)->data.len, 32 * tiles[i].hashes, "%s", req.tile);
    }
}

Test(query_proofs, nodes_that_an_older_log_lacks_follow_from_its_leaves) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    log_fill(PG_TENANT_A, 700);
    log_sign(PG_TENANT_A);
    pg_ask(pg_admin(), "ALTER TABLE audit.tree_nodes DISABLE TRIGGER ALL; DELETE FROM audit.tree_nodes; ALTER TABLE audit.tree_nodes ENABLE TRIGGER ALL");
    req.from_seq = 650;
    export_log(&req, &out);
    expect_verified(&out, "without nodes");
}

/* ---- a superuser with the triggers off ---- */

static void expect_found(const char *what, const char *index, const char *change) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 }, said = { 0 };
    pg_ask(pg_admin(), "BEGIN; SET LOCAL session_replication_role = replica; ALTER TABLE audit.audit_logs DISABLE TRIGGER ALL; "
                       "ALTER TABLE audit.audit_logs DROP CONSTRAINT IF EXISTS leaf_is_hash_of_event; %s; COMMIT", change);
    export_log(&req, &out);
    cr_expect_eq(log_verify(WITH_KEY, out.data, out.len, &said), 1, "%s: %s", what, said.data);
    if (index)
        cr_expect_not_null(said.data ? strstr(said.data, index) : NULL, "%s: %s", what, said.data);
}

#define ROW "WHERE tenant_id = '" PG_TENANT_A "' AND seq = "

Test(query_proofs, what_a_superuser_does_to_the_rows_is_found) {
    const struct { const char *what, *index, *change; } changes[] = {
        { "a byte of an event", "at event 123:", "UPDATE audit.audit_logs SET event = set_byte(event, 12, 120) " ROW "123" },
        { "an event and its leaf hash", NULL, "UPDATE audit.audit_logs SET event = set_byte(event, 12, 120), leaf_hash = sha256('\\x00'::bytea || set_byte(event, 12, 120)) " ROW "321" },
        { "an event that says it is another", "at event 5:", "UPDATE audit.audit_logs SET event = (SELECT event FROM audit.audit_logs " ROW "6) " ROW "5" },
        { "a leaf hash", "at event 77:", "UPDATE audit.audit_logs SET leaf_hash = sha256('x') " ROW "77" },
        { "a row", "at event 200:", "DELETE FROM audit.audit_logs " ROW "200" },
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        log_fill(PG_TENANT_A, 400);
        log_sign(PG_TENANT_A);
        expect_found(changes[i].what, changes[i].index, changes[i].change);
        rig_close();
        rig_open();
    }
}

/* ---- witnesses ---- */

static enum status cosign(const char *ticket, int64_t size, const char *lines, uint32_t *ret_accepted) {
    Query__AddCosignaturesRequest req = QUERY__ADD_COSIGNATURES_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    req.size = size;
    req.lines = (char *)lines;
    enum status st = rig_call("query.AddCosignatures", ticket, &req.base, &reply);
    *ret_accepted = reply ? ((Query__AddCosignaturesReply *)reply)->accepted : 0;
    return st;
}

Test(query_proofs, a_witness_s_cosignature_is_kept_given_out_and_verified) {
    const char *const args[] = { "--key", LOG_VERIFIER, "--witness", LOG_WITNESS, NULL };
    CLEANUP(buffer_end) struct buffer out = { 0 }, said = { 0 };
    uint32_t accepted = 0;
    log_fill(PG_TENANT_A, 20);
    const char *note = log_sign(PG_TENANT_A), *line = log_cosign(note);
    const char *stranger = "\xe2\x80\x94 somebody.example AAAAAAAA\n";
    cr_assert_eq(cosign(auditor(), 20, arena_printf(rig.mem, "%s%s", stranger, line), &accepted), ST_OK, "%s", rig.why.text);
    cr_expect_eq(accepted, 1, "strangers are passed over");
    cr_assert_eq(cosign(auditor(), 20, line, &accepted), ST_OK, "%s", rig.why.text);
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.cosignatures"), "1");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) || min(detail ->> 'witness') FROM audit.audit_outbox WHERE action = 'audit.cosign'"), "1witness.example/w1");
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    cr_assert_eq(rig_stream("query.ExportAudit", auditor(), &req.base, &query__export_audit_reply__descriptor, &out), ST_OK, "%s", rig.why.text);
    cr_expect_eq(log_verify(args, out.data, out.len, &said), 0, "%s", said.data);
}

Test(query_proofs, a_cosignature_that_is_not_one_is_refused_and_so_is_who_may_not_bring_it) {
    uint32_t accepted = 0;
    log_fill(PG_TENANT_A, 20);
    const char *line = log_cosign(log_sign(PG_TENANT_A));
    log_fill(PG_TENANT_A, 1);
    log_sign(PG_TENANT_A);
    cr_expect_eq(cosign(auditor(), 21, line, &accepted), ST_INVALID, "of another head");
    cr_expect_eq(cosign(auditor(), 19, line, &accepted), ST_NOT_FOUND, "of no head");
    cr_expect_eq(cosign(auditor(), 20, "nonsense", &accepted), ST_INVALID);
    cr_expect_eq(cosign(pg_ticket(PG_SLUG_A, "clinician", "ann"), 20, line, &accepted), ST_FORBIDDEN);
    cr_expect_eq(cosign(pg_ticket(PG_SLUG_B, "auditor", "eve"), 20, line, &accepted), ST_NOT_FOUND, "another tenant's head");
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.cosignatures"), "0");
    PGconn *conn = pg_connect("cordon_audit_reader");
    cr_expect_str_eq(pg_try(conn, "INSERT INTO audit.cosignatures VALUES ('" PG_TENANT_A "', 20, 'x', 'y')"), "42501");
    pg_ask(conn, "BEGIN; SELECT authz.enter('%s')", auditor());
    cr_expect_str_eq(pg_try(conn, "SELECT audit.cosign(20, false, split_part((SELECT note FROM audit.checkpoints LIMIT 1), E'\\n', 1), 'x')"), "23514", "in the log's own name");
    PQfinish(conn);
}
