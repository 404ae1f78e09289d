/* pg — a database of its own for each test, made from the migrations.
 *
 * CORDON_TEST_DATABASE_URL names an administrator (superuser) of a throw-away cluster; without it tests
 * that need a database fail. The migrations run once into a template; pg_open() copies it. Tests are
 * the one place where SQL goes by PQexec: they play attackers and operators. */
#ifndef CORDON_TEST_PG_H
#define CORDON_TEST_PG_H

#include <libpq-fe.h>
#include <stdbool.h>

/* Two tenants that every database has. */
#define PG_TENANT_A "11111111-1111-7111-8111-111111111111"
#define PG_SLUG_A   "riverside"
#define PG_TENANT_B "22222222-2222-7222-8222-222222222222"
#define PG_SLUG_B   "lakeside"

/* Make this process's database, and drop it. One at a time. For .init and .fini of a TestSuite. */
void pg_open(void);
void pg_close(void);

/* The superuser's connection into the database; stays open until pg_close(). */
PGconn *pg_admin(void);
/* libpq text for logging in as role ("cordon_query"; NULL: the superuser). Lives until pg_close(). */
const char *pg_url(const char *role);
/* Make an empty database beside it, dropped with it; returns the superuser's URL. */
const char *pg_empty(void);
/* A new connection as role; the caller's to PQfinish. Fails the test when refused. */
PGconn *pg_connect(const char *role);

/* Run sql (may be several statements), which must succeed. Returns the first value of the last result
 * as text, "" when there is none. Lives for the process. */
const char *pg_ask(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));
/* Run sql and return its SQLSTATE, "00000" when it succeeds. Lives for the process. */
const char *pg_try(PGconn *conn, const char *sql, ...) __attribute__((format(printf, 2, 3)));
/* Message of the last pg_try that failed. */
const char *pg_message(void);

/* A fresh ticket. tenant: a slug, or NULL for the platform; roles: "clinician" or "clinician,admin". */
const char *pg_ticket(const char *tenant, const char *roles, const char *subject);
/* A ticket over any JSON claims, signed with the active key, as nobody but the superuser could make it. */
const char *pg_forge(const char *claims_json);

#endif
