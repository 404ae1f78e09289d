#include "db/connection.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "core/str.h"
#include "db/rows.h"
#include "db/sqlstate.h"

enum {
    PARAMS_MAX = 80,
    OPTIONS_MAX_BYTES = 1024,
    CONNECT_MAX_MS = 3000,
    ROLLBACK_MAX_MS = 1000,
    STATEMENT_TIMEOUT_MS = 10000,
    SILENCE_MS = 2000,              /* beyond the server's own limit for a statement */
};

/* Settings of every connection, as start-up options: RESET ALL returns to these, and not to what
 * somebody SET. A transaction that idles holds locks (a job's row among them): its session ends. */
static const char *const SETTINGS[] = {
    "search_path=pg_catalog,pg_temp",
    /* Our statements are parsed anew each time and so always planned for their values: the tenant's partition
     * is known. force_custom_plan would also plan every statement inside functions and foreign keys again, on
     * each call: begin took twice, an INSERT three times as long. */
    "plan_cache_mode=auto",
    "idle_in_transaction_session_timeout=5000",
    "lock_timeout=5000",
    "default_transaction_isolation=read committed",
    "row_security=on",
    "TimeZone=UTC",
    "client_min_messages=warning",
    "jit=off",
    NULL
};

const struct sql SQL_RESET = { "reset", "RESET ALL", 0 };
/* The modes are said: the implicit transaction that RESET ALL began has them from before. They can be
 * said only while there is no snapshot, which CLOSE would take. */
const struct sql SQL_BEGIN = { "begin", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", 0 };
const struct sql SQL_CLOSE = { "close", "CLOSE ALL", 0 };
const struct sql SQL_ROLLBACK = { "rollback", "ROLLBACK", 0 };

/* Notices are nobody's business, but a server that says goodbye (57P01) does so as one, before its socket closes. */
static void hear_goodbye(void *arg, const PGresult *notice) {
    struct db_connection *c = arg;
    const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
    if (severity && (str_equal(severity, "FATAL") || str_equal(severity, "PANIC")))
        c->is_suspect = true;
}

/* Add " -c name=value" to the options text; false when it is full. */
static bool option_add(char *out, size_t size, const char *setting) {
    size_t at = strlen(out);
    int n = snprintf(out + at, size - at, " -c ");
    at += (size_t)n;
    for (const char *s = setting; *s; s++) {
        if (at + 3 >= size)
            return false;
        if (*s == ' ' || *s == '\\')
            out[at++] = '\\';
        out[at++] = *s;
    }
    out[at] = '\0';
    return true;
}

static int statement_ms(const struct db_options *options) {
    return options->statement_timeout_ms ? options->statement_timeout_ms : STATEMENT_TIMEOUT_MS;
}

static bool options_text(const struct db_options *options, char *out, size_t size) {
    char timeout[64];
    snprintf(timeout, sizeof timeout, "statement_timeout=%d", statement_ms(options));
    out[0] = '\0';
    bool fits = option_add(out, size, timeout);
    for (const char *const *s = SETTINGS; fits && *s; s++)
        fits = option_add(out, size, *s);
    for (const char *const *s = options->settings; fits && s && *s; s++)
        fits = option_add(out, size, *s);
    return fits;
}

/* Wait for events on the connection's socket. False when deadline_ms passed, or nobody needs the outcome any more. */
static bool wait_socket(PGconn *pg, short events, int64_t deadline_ms) {
    for (;;) {
        int64_t left = deadline_ms - clock_mono_ms();
        if (left <= 0)
            return false;
        struct pollfd fds[] = { { .fd = PQsocket(pg), .events = events }, { .fd = cancel_fd(), .events = POLLIN } };
        int n = poll(fds, 2, left > INT32_MAX ? INT32_MAX : (int)left);
        if (n > 0)
            return fds[1].revents == 0;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

/* libpq keeps the SQLSTATE of a connection that failed to itself, except in this text (PQERRORS_VERBOSE). */
static bool says_wrong_password(const PGconn *pg) {
    return pg && strstr(PQerrorMessage(pg), " 28P01: ");
}

static enum status connect_as(struct db_connection *c, const struct db_options *options, const char *url, const char *password,
                              int64_t deadline_ms, bool *ret_refused, struct why *why) {
    char run_time[OPTIONS_MAX_BYTES];
    *ret_refused = false;
    if (!options_text(options, run_time, sizeof run_time))
        return fail(why, ST_INTERNAL, "database: too many settings");
    /* what stands after dbname wins over the same word in the URL */
    const char *const words[] = { "dbname", "application_name", "client_encoding", "options", "gssencmode",
                                  "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
                                  "target_session_attrs", "password", NULL };
    const char *const values[] = { url, options->process, "UTF8", run_time, "disable", "10", "3", "3", "10000",
                                   "read-write", password, NULL };    /* a standby is no database yet; of several hosts, the one that is */

    int64_t limit_ms = clock_mono_ms() + CONNECT_MAX_MS;
    if (limit_ms > deadline_ms)
        limit_ms = deadline_ms;
    PGconn *pg = PQconnectStartParams(words, values, 1);
    PostgresPollingStatusType turn = PGRES_POLLING_WRITING;
    if (pg)
        PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
    while (pg && PQstatus(pg) != CONNECTION_BAD && turn != PGRES_POLLING_OK && turn != PGRES_POLLING_FAILED) {
        if (!wait_socket(pg, turn == PGRES_POLLING_READING ? POLLIN : POLLOUT, limit_ms))
            break;
        turn = PQconnectPoll(pg);
    }
    if (!pg || turn != PGRES_POLLING_OK || PQsetnonblocking(pg, 1) != 0 || PQenterPipelineMode(pg) != 1) {
        /* libpq's text names host, port and user, never the password */
        enum status st = fail(why, ST_UNAVAILABLE, "database: %.200s", pg && *PQerrorMessage(pg) ? PQerrorMessage(pg) : "no connection in time");
        *ret_refused = says_wrong_password(pg);
        PQfinish(pg);
        why->text[strcspn(why->text, "\n")] = '\0';
        return st;
    }
    PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
    PQsetNoticeReceiver(pg, hear_goodbye, c);
    c->pg = pg;
    c->is_suspect = false;
    c->answer_ms = statement_ms(options) + SILENCE_MS;
    return ST_OK;
}

enum status connection_open(struct db_connection *c, const struct db_options *options, int64_t deadline_ms, struct why *why) {
    enum status st = ST_OK;
    for (bool is_again = false;; is_again = true) {
        unsigned url_version = 0, password_version = 0;
        bool is_refused = false;
        CLEANUP(secret_destroy) struct secret *url = live_secret_copy(options->live_url, &url_version);
        CLEANUP(secret_destroy) struct secret *password = live_secret_copy(options->password, &password_version);
        st = db_url_check(secret_text(url), options->is_production, why);
        if (st == ST_OK)
            st = connect_as(c, options, secret_text(url), password ? secret_text(password) : NULL, deadline_ms, &is_refused, why);
        /* either may have held the password: both are looked at */
        bool has_other = is_refused && live_secret_refused(options->password, password_version, deadline_ms);
        has_other = (is_refused && live_secret_refused(options->live_url, url_version, deadline_ms)) || has_other;
        if (!has_other || is_again)
            return st;
    }
}

void connection_close(struct db_connection *c) {
    PQfinish(c->pg);
    c->pg = NULL;
    c->is_suspect = false;
}

static void drop_notifies(PGconn *pg) {
    for (PGnotify *n; (n = PQnotifies(pg));)
        PQfreemem(n);
}

bool connection_stands(struct db_connection *c) {
    struct pollfd fd = { .fd = PQsocket(c->pg), .events = POLLIN };
    if (poll(&fd, 1, 0) <= 0)
        return true;
    /* something came unasked: a notice, a notification, or the server's goodbye */
    bool stands = PQconsumeInput(c->pg) && PQstatus(c->pg) == CONNECTION_OK;
    if (stands) {
        drop_notifies(c->pg);
        stands = !c->is_suspect && (poll(&fd, 1, 0) <= 0 || !(fd.revents & (POLLHUP | POLLERR)));
    }
    return stands;
}

/* Queue one execution. */
static bool send_step(PGconn *pg, const struct db_step *step) {
    const struct sql *q = step->sql;
    const char *values[PARAMS_MAX];
    int lengths[PARAMS_MAX], formats[PARAMS_MAX];
    assert(q->n_params <= PARAMS_MAX);
    for (int i = 0; i < q->n_params; i++) {
        values[i] = step->params[i].data;
        lengths[i] = step->params[i].len;
        formats[i] = step->params[i].is_binary;
    }
    return PQsendQueryParams(pg, q->text, q->n_params, NULL, values, lengths, formats, 1);
}

static enum status fail_with(struct db_connection *c, const struct sql *q, const PGresult *error, struct why *why) {
    const char *state = error ? PQresultErrorField(error, PG_DIAG_SQLSTATE) : NULL;
    const struct sqlstate_row *row = sqlstate_find(state);
    const char *detail = NULL;
    if (error)
        detail = PQresultErrorField(error, row->says ? PG_DIAG_MESSAGE_PRIMARY : PG_DIAG_CONSTRAINT_NAME);
    if (!row->keeps)
        c->is_suspect = true;
    enum status st = fail(why, row->status, "%s: sqlstate %s%s%s", q->name, state ? state : "none, connection lost",
                          detail ? " " : "", detail ? detail : "");
    if (row->code != ERR_NONE)
        why->code = row->code;
    return st;
}

/* The next result, or NULL between two; false when the connection or the time is gone. */
static bool next_result(PGconn *pg, int64_t deadline_ms, PGresult **ret_result) {
    for (;;) {
        int unsent = PQflush(pg);
        if (unsent < 0)
            return false;
        if (!PQisBusy(pg))
            break;
        if (!wait_socket(pg, unsent ? POLLIN | POLLOUT : POLLIN, deadline_ms) || !PQconsumeInput(pg))
            return false;
    }
    *ret_result = PQgetResult(pg);
    return true;
}

/* Read all answers up to the sync, keep them in rows, remember the first failure. */
static enum status collect(struct db_connection *c, const struct db_step steps[], size_t n, int64_t deadline_ms,
                           PGresult *rows[], struct why *why) {
    enum status first = ST_OK;
    size_t at = 0;
    for (;;) {
        PGresult *result = NULL;
        int64_t silence_ms = clock_mono_ms() + c->answer_ms;
        if (!next_result(c->pg, silence_ms < deadline_ms ? silence_ms : deadline_ms, &result)) {
            c->is_suspect = true;
            if (first != ST_OK)
                return first;
            const struct sql *q = steps[at < n ? at : n - 1].sql;
            return clock_mono_ms() >= deadline_ms ? fail(why, ST_TIMEOUT, "%s: no answer in time", q->name)
                   : clock_mono_ms() >= silence_ms ? fail(why, ST_UNAVAILABLE, "%s: the server says nothing any more", q->name)
                                                   : fail_with(c, q, NULL, why);
        }
        if (!result) {
            if (PQstatus(c->pg) == CONNECTION_OK)
                continue;
            c->is_suspect = true;
            return first != ST_OK ? first : fail_with(c, steps[at < n ? at : n - 1].sql, NULL, why);
        }
        ExecStatusType kind = PQresultStatus(result);
        if (kind == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            return first;
        }
        if (at == n)                /* only an error of the commit that the sync implies comes this late */
            at = n - 1;
        if (kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK && kind != PGRES_PIPELINE_ABORTED && first == ST_OK)
            first = fail_with(c, steps[at].sql, result, why);
        PQclear(rows[at]);
        rows[at++] = result;
    }
}

enum status connection_run(struct db_connection *c, const struct db_step steps[], size_t n, int64_t deadline_ms,
                           PGresult *ret_rows[], struct why *why) {
    enum { BEGIN_AND_END_STEPS = 5 };
    PGresult *rows[BEGIN_AND_END_STEPS + DB_STEPS_MAX] = { NULL };
    assert(n > 0 && n <= sizeof rows / sizeof *rows);
    if (c->is_suspect)
        return fail(why, ST_UNAVAILABLE, "%s: the connection is lost", steps[0].sql->name);

    bool sent = true;
    for (size_t i = 0; sent && i < n; i++)
        sent = send_step(c->pg, &steps[i]);
    if (!sent || !PQpipelineSync(c->pg)) {
        c->is_suspect = true;
        return fail(why, ST_UNAVAILABLE, "%s: cannot send", steps[0].sql->name);
    }
    enum status st = collect(c, steps, n, deadline_ms, rows, why);
    drop_notifies(c->pg);
    for (size_t i = 0; i < n; i++)
        if (st == ST_OK && ret_rows)
            ret_rows[i] = rows[i];
        else
            PQclear(rows[i]);
    return st;
}

enum status connection_commit(struct db_connection *c, const struct db_step steps[], size_t n, int64_t deadline_ms,
                              struct why *why) {
    static const struct sql COMMIT = { "commit", "COMMIT", 0 };
    struct db_step all[DB_STEPS_MAX + 1];
    PGresult *rows[DB_STEPS_MAX + 1] = { NULL };
    assert(n <= DB_STEPS_MAX);
    if (n > 0)
        memcpy(all, steps, n * sizeof *all);
    all[n] = (struct db_step){ .sql = &COMMIT };
    enum status st = connection_run(c, all, n + 1, deadline_ms, rows, why);
    if (st == ST_TIMEOUT && c->is_suspect)
        st = fail(why, ST_UNAVAILABLE, "commit: no answer in time, outcome unknown");
    if (st == ST_OK && strcmp(PQcmdStatus(rows[n]), "COMMIT") != 0)
        st = fail(why, ST_INTERNAL, "commit: the server answered %s", PQcmdStatus(rows[n]));
    for (size_t i = 0; i <= n; i++)
        PQclear(rows[i]);
    return st;
}

void connection_rollback(struct db_connection *c) {
    struct why ignored = { 0 };
    if (connection_run(c, &(struct db_step){ .sql = &SQL_ROLLBACK }, 1, clock_mono_ms() + ROLLBACK_MAX_MS, NULL, &ignored) != ST_OK)
        c->is_suspect = true;
}
