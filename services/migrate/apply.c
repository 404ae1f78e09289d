#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "db/rows.h"
#include "db/sqlstate.h"
#include "migrate.h"

enum { BOOL_OID = 16 };

/* Run text, which may hold many statements: PQexec, the simple protocol, is the only way to do that.
 * The tree's lint forbids PQexec everywhere but here; nothing of a user's ever reaches this text. */
static enum status run_script(struct migrate *m, const char *what, const char *text, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = PQexec(m->pg, text);
    ExecStatusType kind = PQresultStatus(rows);
    if (kind == PGRES_COMMAND_OK || kind == PGRES_TUPLES_OK)
        return ST_OK;
    fprintf(stderr, "%s: %s", what, PQresultErrorMessage(rows));
    const char *state = PQresultErrorField(rows, PG_DIAG_SQLSTATE);
    return fail(why, sqlstate_status(state), "%s failed with sqlstate %s", what, state ? state : "none, connection lost");
}

static enum status ask(struct migrate *m, const char *what, const char *text, int n_params, const char *const params[],
                       PGresult **ret_rows, struct why *why) {
    PGresult *rows = PQexecParams(m->pg, text, n_params, NULL, params, NULL, NULL, 0);
    ExecStatusType kind = PQresultStatus(rows);
    if (kind == PGRES_COMMAND_OK || kind == PGRES_TUPLES_OK) {
        *ret_rows = rows;
        return ST_OK;
    }
    const char *state = PQresultErrorField(rows, PG_DIAG_SQLSTATE), *said = PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY);
    enum status st = fail(why, sqlstate_status(state), "%s: %s (sqlstate %s)", what, said ? said : "connection lost", state ? state : "none");
    PQclear(rows);
    return st;
}

static const char OPEN[] =
    "SET lock_timeout = '60s';"
    "SET client_min_messages = warning;"
    "SELECT pg_catalog.pg_advisory_lock(7164, 1);"         /* one migration at a time in this database */
    "CREATE SCHEMA IF NOT EXISTS migrate;"
    "CREATE TABLE IF NOT EXISTS migrate.applied ("
    "    version integer PRIMARY KEY, name text NOT NULL, up_sha256 text NOT NULL, down_sha256 text NOT NULL,"
    "    took_ms bigint NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());";

/* One row of migrate.applied against the files. */
static enum status compare(struct migrate *m, const PGresult *rows, int row, struct why *why) {
    enum { VERSION, NAME, UP, DOWN, APPLIED_AT };
    int64_t version;
    const char *name = PQgetvalue(rows, row, NAME);
    if (!str_to_i64(PQgetvalue(rows, row, VERSION), 1, INT32_MAX, &version) || (size_t)version > m->count)
        return fail(why, ST_CONFLICT, "the database has migration %s_%s, which this tree does not know: it is older than the database",
                    PQgetvalue(rows, row, VERSION), name);
    struct migration *known = &m->list[version - 1];
    if (!str_equal(known->name, name) || !str_equal(known->up.sha256, PQgetvalue(rows, row, UP)) ||
        !str_equal(known->down.sha256, PQgetvalue(rows, row, DOWN)))
        return fail(why, ST_CONFLICT, "migration %04d_%s was changed after it had been applied: write a new one instead",
                    known->version, known->name);
    if (version > 1 && !m->list[version - 2].is_applied)
        return fail(why, ST_CONFLICT, "migration %04d is applied without its predecessor", known->version);
    known->is_applied = true;
    known->applied_at = arena_strdup(m->mem, PQgetvalue(rows, row, APPLIED_AT));
    return ST_OK;
}

enum status apply_open(struct migrate *m, struct why *why) {
    enum status st = run_script(m, "opening", OPEN, why);
    if (st != ST_OK)
        return st;
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = ask(m, "reading migrate.applied", "SELECT version, name, up_sha256, down_sha256, applied_at FROM migrate.applied ORDER BY version",
             0, NULL, &rows, why);
    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++)
        st = compare(m, rows, i, why);
    return st;
}

/* Run one script and what records it in one transaction. */
static enum status step(struct migrate *m, const struct migration *row, bool is_up, struct why *why) {
    char version[16], took[24];
    int64_t began_ms = clock_mono_ms();
    const struct script *script = is_up ? &row->up : &row->down;
    const char *what = arena_printf(m->mem, "%04d_%s.%s.sql", row->version, row->name, is_up ? "up" : "down");
    enum status st = run_script(m, "BEGIN", "BEGIN", why);
    if (st == ST_OK)
        st = run_script(m, what, script->text, why);
    if (st == ST_OK && PQtransactionStatus(m->pg) != PQTRANS_INTRANS)
        st = fail(why, ST_INTERNAL, "%s ended its transaction by itself", what);
    if (st != ST_OK)
        return st;                  /* the connection ends, and the transaction with it */

    snprintf(version, sizeof version, "%d", row->version);
    snprintf(took, sizeof took, "%lld", (long long)(clock_mono_ms() - began_ms));
    const char *const params[] = { version, row->name, row->up.sha256, row->down.sha256, took };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    st = is_up ? ask(m, what, "INSERT INTO migrate.applied (version, name, up_sha256, down_sha256, took_ms) VALUES ($1, $2, $3, $4, $5)",
                     5, params, &rows, why)
               : ask(m, what, "DELETE FROM migrate.applied WHERE version = $1", 1, params, &rows, why);
    if (st == ST_OK)
        st = run_script(m, "COMMIT", "COMMIT", why);
    if (st == ST_OK)
        printf("%s  %s ms\n", what, took);
    return st;
}

enum status apply_up(struct migrate *m, int to, struct why *why) {
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < m->count && m->list[i].version <= to; i++)
        if (!m->list[i].is_applied)
            st = step(m, &m->list[i], true, why);
    return st == ST_OK ? run_script(m, "database.sql", m->database_script, why) : st;
}

enum status apply_down(struct migrate *m, int to, struct why *why) {
    enum status st = ST_OK;
    for (size_t i = m->count; st == ST_OK && i > 0 && m->list[i - 1].version > to; i--)
        if (m->list[i - 1].is_applied)
            st = step(m, &m->list[i - 1], false, why);
    return st;
}

void apply_status(const struct migrate *m) {
    for (size_t i = 0; i < m->count; i++)
        printf("%04d_%-20s %s\n", m->list[i].version, m->list[i].name, m->list[i].is_applied ? m->list[i].applied_at : "pending");
}

enum status apply_new_ticket_key(struct migrate *m, struct why *why) {
    return run_script(m, "rotating the ticket key", "BEGIN; SET LOCAL ROLE cordon_owner; SELECT authz.rotate_ticket_key(); COMMIT", why);
}

enum status apply_recovery(struct migrate *m, int64_t anchored, const char *reason, struct why *why) {
    char number[24];
    (void)snprintf(number, sizeof number, "%" PRId64, anchored);
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = run_script(m, "recovering the audit log", "BEGIN; SET LOCAL ROLE cordon_owner", why);
    if (st == ST_OK)
        st = ask(m, "recovering the audit log", "SELECT audit.recover($1, $2)", 2, (const char *[]){ number, reason }, &rows, why);
    return st == ST_OK ? run_script(m, "recovering the audit log", "COMMIT", why) : st;
}

enum status apply_owners_word(struct migrate *m, const char *what, const char *statement, const char *parameter, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = run_script(m, what, "BEGIN; SET LOCAL ROLE cordon_owner", why);
    if (st == ST_OK)
        st = ask(m, what, statement, parameter != NULL, &parameter, &rows, why);
    if (st == ST_OK && PQftype(rows, 0) == BOOL_OID && PQgetvalue(rows, 0, 0)[0] == 'f')
        st = fail(why, ST_NOT_FOUND, "%s: there is nothing to do it to", what);
    return st == ST_OK ? run_script(m, what, "COMMIT", why) : st;
}

enum status apply_password(struct migrate *m, const char *role, const struct secret *password, struct why *why) {
    char *verifier = PQencryptPasswordConn(m->pg, secret_text(password), role, "scram-sha-256");
    char *quoted = verifier ? PQescapeLiteral(m->pg, verifier, strlen(verifier)) : NULL;
    enum status st = ST_INTERNAL;
    if (quoted)                     /* ALTER ROLE takes no parameters; the literal is a verifier, not the password */
        st = run_script(m, role, arena_printf(m->mem, "ALTER ROLE %s PASSWORD %s", role, quoted), why);
    else
        (void)!fail(why, ST_INTERNAL, "cannot compute the verifier of role %s", role);
    PQfreemem(quoted);
    PQfreemem(verifier);
    return st;
}
