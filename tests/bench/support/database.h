/* database — the measured database as its superuser sees it: BENCH_ADMIN_URL names it, migrated and
 * without tenants. SQL goes by PQexec here, as the usual program's does. */
#ifndef CORDON_BENCH_DATABASE_H
#define CORDON_BENCH_DATABASE_H

#include <libpq-fe.h>

/* A new connection to the URL in the environment variable; PQfinish is the caller's. */
PGconn *bench_connect(const char *variable);
/* Run sql (may be several statements), which must succeed; the last result is the caller's to PQclear. */
PGresult *bench_sql(PGconn *conn, const char *sql);
/* The same, for those who want no rows. */
void bench_do(PGconn *conn, const char *sql);
/* As BENCH_ADMIN_URL on a connection of its own: ordinary triggers and foreign keys are off, so that rows may be laid out by hand. */
void bench_prepare(const char *sql);
/* A clinician's ticket, good for a minute. Thread-safe. The caller's to free. */
char *bench_ticket(const char *tenant_slug, unsigned user);

#endif
