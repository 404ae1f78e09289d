#include "log.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "archive/archive.h"
#include "audit/merkle.h"
#include "core/text_codec.h"
#include "crypto/cosignature.h"
#include "crypto/note.h"
#include "rig.h"

static const char SKEY[] = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

void log_fill(const char *tenant, unsigned n) {
    pg_ask(pg_admin(),
        "INSERT INTO audit.audit_logs (event_id, tenant_id, seq, occurred_at, recorded_at, kind, action, outcome, document_ids, content_digest, event, leaf_hash) "
        "SELECT authz.uuid_v7(), '%s', s, now(), to_timestamp(1700000000 + s), 'disclosure', 'document.read', 'success', '{}', sha256(''), e, sha256('\\x00'::bytea || e) "
        "FROM (SELECT s, convert_to(format('{\"action\":\"document.read\",\"detail\":{\"seq\":%%s},\"seq\":%%s,\"tenant_id\":\"%s\",\"v\":1}', s, s), 'UTF8') e "
        "FROM generate_series((SELECT count(*) FROM audit.audit_logs WHERE tenant_id = '%s'), (SELECT count(*) FROM audit.audit_logs WHERE tenant_id = '%s') + %u - 1) s) x",
        tenant, tenant, tenant, tenant, n);
}

struct log_note log_note(const char *tenant, const struct merkle_range *range, struct arena *mem) {
    struct note_key *key = NULL;
    struct why why = { 0 };
    CLEANUP(secret_destroy) struct secret *text = secret_new(SKEY, strlen(SKEY));
    cr_assert_eq(note_key_new(text, &key, &why), ST_OK);
    struct merkle_hash root = merkle_root(range);
    const char *origin = note_origin(key, tenant, mem);
    struct log_note made = { root, note_sign(key, origin, range->size, root.bytes, mem), note_verifier(key, origin, mem) };
    note_key_destroy(&key);
    return made;
}

void log_archive(int64_t from, int64_t to) {
    CLEANUP(buffer_end) struct buffer text = { 0 };
    char key[ARCHIVE_KEY_BYTES];
    const char *table = pg_ask(pg_admin(), "SELECT 'audit.audit_logs_' || to_char(audit.month_of(event_id), 'YYYY_MM') FROM audit.audit_logs LIMIT 1");
    const char *month = pg_ask(pg_admin(), "SELECT to_char(audit.month_of(event_id), 'YYYY-MM') FROM audit.audit_logs LIMIT 1");
    struct uuid tenant = rig_uuid(PG_TENANT_A);
    pg_ask(pg_admin(), "ALTER TABLE %s DISABLE TRIGGER ALL; ALTER TABLE %s ALTER COLUMN event DROP NOT NULL", table, table);
    for (int64_t seq = from; seq < to; seq++) {
        const char *line = pg_ask(pg_admin(), "SELECT convert_from(event, 'UTF8') FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "' AND seq = %lld", (long long)seq);
        pg_ask(pg_admin(), "UPDATE %s SET event = NULL, archive_first = %lld, archive_offset = %zu, archive_bytes = %zu "
               "WHERE tenant_id = '" PG_TENANT_A "' AND seq = %lld", table, (long long)from, text.len, strlen(line), (long long)seq);
        (void)buffer_printf(&text, "%s\n", line);
    }
    pg_ask(pg_admin(), "ALTER TABLE %s ENABLE TRIGGER ALL", table);
    rig.archived = arena_strdup(rig.mem, text.data);
    rig.archived_key = arena_strdup(rig.mem, archive_key(key, &tenant, month, from));
}

const char *log_sign(const char *tenant) {
    struct merkle_range range = { 0 };
    char hex[65];
    const char *params[] = { tenant };
    PGresult *rows = PQexecParams(pg_admin(), "SELECT leaf_hash FROM audit.audit_logs WHERE tenant_id = $1 ORDER BY seq", 1, NULL, params, NULL, NULL, 1);
    cr_assert_eq(PQresultStatus(rows), PGRES_TUPLES_OK);
    for (int i = 0; i < PQntuples(rows); i++) {
        struct merkle_filled filled[MERKLE_LEVELS_MAX];
        struct merkle_hash leaf;
        memcpy(leaf.bytes, PQgetvalue(rows, i, 0), sizeof leaf.bytes);
        size_t count = merkle_append_filling(&range, &leaf, filled);
        for (size_t k = 0; k < count; k++)
            pg_ask(pg_admin(), "INSERT INTO audit.tree_nodes VALUES ('%s', %u, %llu, '\\x%s') ON CONFLICT DO NOTHING", tenant, filled[k].level,
                   (unsigned long long)filled[k].index, hex_encode(filled[k].hash.bytes, 32, hex));
    }
    PQclear(rows);
    struct log_note made = log_note(tenant, &range, rig.mem);
    pg_ask(pg_admin(), "INSERT INTO audit.checkpoints (tenant_id, size, root, note, verifier, number, event_seq) VALUES ('%s', %llu, '\\x%s', '%s', '%s', 1, 0)",
           tenant, (unsigned long long)range.size, hex_encode(made.root.bytes, 32, hex), made.note, made.verifier);
    return made.note;
}

const char *log_cosign(const char *note) {
    uint8_t seed[32], bytes[4 + 8 + 64] = { 0xaa, 0x4a, 0x09, 0xd1, 0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb };
    size_t len = 64;
    memset(seed, 7, sizeof seed);
    const char *text = arena_printf(rig.mem, "cosignature/v1\ntime 1679315147\n%.*s", (int)note_text_len(note), note);
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    cr_assert(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pair) == 1 && EVP_DigestSign(ctx, bytes + 12, &len, (const uint8_t *)text, strlen(text)) == 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pair);
    return arena_printf(rig.mem, "\xe2\x80\x94 witness.example/w1 %s\n", base64_encode(rig.mem, bytes, sizeof bytes));
}

int log_run_verify(const char *const args[], struct buffer *out) {
    static char program[] = CORDON_BINARY_DIR "/services/verify/cordon-verify";
    const char *argv[1024] = { program };
    char portion[4096];
    int pipes[2], status;
    cr_assert_eq(pipe(pipes), 0);
    for (size_t n = 0; args[n]; n++) {
        cr_assert_lt(n + 2, sizeof argv / sizeof *argv);
        argv[n + 1] = args[n];
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 1);
        dup2(pipes[1], 2);
        close(pipes[0]);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(pipes[1]);
    for (ssize_t got; (got = read(pipes[0], portion, sizeof portion)) > 0;)
        (void)buffer_add(out, portion, (size_t)got);
    close(pipes[0]);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int log_verify(const char *const args[], const void *text, size_t len, struct buffer *out) {
    char path[] = "/tmp/cordon-verify-XXXXXX";
    const char *with[32] = { NULL };
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, len) == (ssize_t)len);
    close(fd);
    size_t n = 0;
    for (; args[n]; n++)
        with[n] = args[n];
    with[n] = path;
    int status = log_run_verify(with, out);
    unlink(path);
    return status;
}
