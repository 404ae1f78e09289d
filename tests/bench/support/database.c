#include "support/database.h"

#include <pthread.h>
#include <stdio.h>

#include "core/arena.h"
#include "support/measure.h"

static void ignore_notice(void *arg, const char *text) {
    (void)arg;
    (void)text;
}

PGconn *bench_connect(const char *variable) {
    PGconn *conn = PQconnectdb(bench_setting(variable));
    if (PQstatus(conn) != CONNECTION_OK)
        bench_fail("%s: %s", variable, PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    return conn;
}

PGresult *bench_sql(PGconn *conn, const char *sql) {
    PGresult *rows = PQexec(conn, sql);
    if (PQresultStatus(rows) != PGRES_COMMAND_OK && PQresultStatus(rows) != PGRES_TUPLES_OK)
        bench_fail("%s\n%s", PQresultErrorMessage(rows), sql);
    return rows;
}

void bench_do(PGconn *conn, const char *sql) {
    PQclear(bench_sql(conn, sql));
}

void bench_prepare(const char *sql) {
    PGconn *conn = bench_connect("BENCH_ADMIN_URL");
    bench_do(conn, "SET session_replication_role = replica");
    bench_do(conn, sql);
    PQfinish(conn);
}

char *bench_ticket(const char *tenant_slug, unsigned user) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static PGconn *conn;
    char sql[512];
    pthread_mutex_lock(&lock);
    if (!conn)
        conn = bench_connect("BENCH_ADMIN_URL");
    snprintf(sql, sizeof sql, "SELECT ticket FROM authz.mint('https://idp.bench', 'user-%u', 'token-of-%u', now() + interval '1 hour', "
             "'%s', '{clinician}', 'Bench Person', 'person@example.org')", user, user, tenant_slug);
    PGresult *rows = bench_sql(conn, sql);
    char *ticket = xstrdup(PQgetvalue(rows, 0, 0));
    PQclear(rows);
    pthread_mutex_unlock(&lock);
    return ticket;
}
