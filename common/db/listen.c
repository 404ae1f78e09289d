#include "db/listen.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "core/clock.h"
#include "db/connection.h"

enum { RETRY_MS = 500, CHANNEL_MAX_BYTES = 63 };

struct db_listener {
    struct db_connection conn;
    struct db_options options;
    struct live_secret *url;        /* NULL: the options' own */
    char *process;
    char text[16 + CHANNEL_MAX_BYTES];      /* LISTEN channel */
    int64_t retry_at_ms;
    unsigned sessions;
};

enum status db_listener_new(const struct db_options *options, const char *channel, struct db_listener **ret_listener,
                            struct why *why) {
    /* LISTEN takes no parameter: only names that need no quoting */
    size_t len = strspn(channel, "abcdefghijklmnopqrstuvwxyz_");
    if (len == 0 || channel[len] || len > CHANNEL_MAX_BYTES)
        return fail(why, ST_INTERNAL, "listen: '%s' is no channel", channel);
    enum status st = db_options_check(options, why);
    if (st != ST_OK)
        return st;
    struct db_listener *l = xalloc(sizeof *l);
    l->process = xstrdup(options->process);
    l->options = *options;
    l->url = db_options_own_url(&l->options);
    l->options.process = l->process;
    memcpy(l->text, "LISTEN ", 7);
    memcpy(l->text + 7, channel, len + 1);
    *ret_listener = l;
    return ST_OK;
}

void db_listener_destroy(struct db_listener **listener_p) {
    struct db_listener *l = *listener_p;
    if (!l)
        return;
    connection_close(&l->conn);
    live_secret_destroy(&l->url);
    free(l->process);
    free(l);
    *listener_p = NULL;
}

int db_listener_fd(const struct db_listener *l) {
    return l->conn.pg ? PQsocket(l->conn.pg) : -1;
}

static enum status connect_again(struct db_listener *l, int64_t deadline_ms, struct why *why) {
    if (clock_mono_ms() < l->retry_at_ms)
        return fail(why, ST_UNAVAILABLE, "listen: not connected");
    l->retry_at_ms = clock_mono_ms() + RETRY_MS;
    enum status st = connection_open(&l->conn, &l->options, deadline_ms, why);
    if (st != ST_OK)
        return st;
    const struct sql listen = { "listen", l->text, 0 };
    st = connection_run(&l->conn, &(struct db_step){ .sql = &listen }, 1, deadline_ms, NULL, why);
    if (st != ST_OK)
        connection_close(&l->conn);
    else
        l->sessions++;
    return st;
}

unsigned db_listener_session(const struct db_listener *l) {
    return l->conn.pg ? l->sessions : 0;
}

enum status db_listener_run(struct db_listener *l, const struct sql *q, const struct db_param params[], int64_t deadline_ms,
                            PGresult **ret_rows, struct why *why) {
    if (!l->conn.pg)
        return fail(why, ST_UNAVAILABLE, "listen: not connected");
    enum status st = connection_run(&l->conn, &(struct db_step){ .sql = q, .params = params }, 1, deadline_ms, ret_rows, why);
    if (l->conn.is_suspect)
        connection_close(&l->conn);
    return st;
}

enum status db_listener_turn(struct db_listener *l, int64_t deadline_ms, bool *ret_woken, struct why *why) {
    if (!l->conn.pg) {
        enum status st = connect_again(l, deadline_ms, why);
        if (st == ST_OK)
            *ret_woken = true;
        return st;
    }
    if (!PQconsumeInput(l->conn.pg) || PQstatus(l->conn.pg) != CONNECTION_OK) {
        connection_close(&l->conn);
        return fail(why, ST_UNAVAILABLE, "listen: the connection is lost");
    }
    bool woken = false;
    for (PGnotify *n; (n = PQnotifies(l->conn.pg)); woken = true)
        PQfreemem(n);
    *ret_woken = woken;
    return ST_OK;
}
