/* A password that is rotated under a pool: against a real server, which asks for it (SCRAM). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/str.h"
#include "db/listen.h"
#include "db/plain_tx.h"
#include "support/pg.h"

static char role[64];
static struct keeper { struct live_secret *secret; const char *next; unsigned looks; } keeper;

static void begin(void) {
    pg_open();
    (void)snprintf(role, sizeof role, "rotated_%d", (int)getpid());
    pg_ask(pg_admin(), "CREATE ROLE %s LOGIN PASSWORD 'password-one'", role);
    pg_ask(pg_admin(), "GRANT CONNECT ON DATABASE %s TO %s", PQdb(pg_admin()), role);
}

static void end(void) {
    pg_ask(pg_admin(), "DROP OWNED BY %s", role);
    pg_ask(pg_admin(), "DROP ROLE %s", role);
    pg_close();
}

TestSuite(db_rotation, .init = begin, .fini = end, .timeout = 60);

static void look(void *ctx, struct live_secret *s, unsigned version, int64_t deadline_ms) {
    (void)ctx;
    (void)version;
    (void)deadline_ms;
    keeper.looks++;
    if (keeper.next)
        (void)live_secret_set(s, keeper.next, strlen(keeper.next));
}

static struct live_secret *kept(const char *text) {
    keeper = (struct keeper){ .secret = live_secret_new(text, strlen(text)) };
    live_secret_keep(keeper.secret, look, NULL);
    return keeper.secret;
}

static const char *url_with(const char *password) {
    static char text[256];
    (void)snprintf(text, sizeof text, "host=%s port=%s dbname=%s user=%s%s%s", PQhost(pg_admin()), PQport(pg_admin()), PQdb(pg_admin()), role,
                   *password ? " password=" : "", password);
    return text;
}

static enum status ask(struct db_pool *pool, struct why *why) {
    static const struct sql ONE = { "one", "SELECT 1", 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    return db_run(pool, &ONE, NULL, clock_mono_ms() + 5000, &rows, why);
}

/* The server has the second password, and nobody is connected. */
static void rotate(void) {
    pg_ask(pg_admin(), "ALTER ROLE %s PASSWORD 'password-two'", role);
    pg_ask(pg_admin(), "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '%s'", role);
}

static void comes_back(const struct db_options *options, const char *next) {
    struct db_pool *pool = NULL;
    struct why why = { 0 };
    cr_assert_eq(db_pool_new(options, &pool, &why), ST_OK, "%s", why.text);
    cr_assert_eq(ask(pool, &why), ST_OK, "%s", why.text);
    rotate();
    keeper.next = next;
    cr_expect_eq(ask(pool, &why), ST_OK, "the first call after a rotation is no failure: %s", why.text);
    cr_expect_eq(keeper.looks, 1);
    cr_expect_eq(ask(pool, &why), ST_OK);
    cr_expect_eq(keeper.looks, 1, "only a refusal makes anybody look");
    db_pool_destroy(&pool);
    live_secret_destroy(&keeper.secret);
}

Test(db_rotation, a_password_of_its_own_is_renewed_when_it_is_refused) {
    comes_back(&(struct db_options){ .url = url_with(""), .password = kept("password-one"), .process = "test", .connections = 2 }, "password-two");
}

Test(db_rotation, a_url_with_the_password_is_renewed_when_it_is_refused) {
    struct live_secret *url = kept(url_with("password-one"));
    static char next[256];
    (void)snprintf(next, sizeof next, "%s", url_with("password-two"));
    comes_back(&(struct db_options){ .live_url = url, .process = "test", .connections = 2 }, next);
}

Test(db_rotation, a_wrong_password_is_looked_for_and_never_told) {
    struct db_options options = { .url = url_with(""), .password = kept("password-three"), .process = "test" };
    struct db_pool *pool = NULL;
    struct why why = { 0 };
    cr_assert_eq(db_pool_new(&options, &pool, &why), ST_OK);
    cr_expect_eq(ask(pool, &why), ST_UNAVAILABLE);
    cr_expect(keeper.looks == 1 && strstr(why.text, "28P01") && !strstr(why.text, "password-three"), "%s", why.text);
    db_pool_destroy(&pool);
    live_secret_destroy(&keeper.secret);
}

Test(db_rotation, a_url_that_no_longer_verifies_the_server_is_refused_in_production) {
    static const char GOOD[] = "host=127.0.0.1 port=1 user=x dbname=x sslmode=verify-full", BAD[] = "host=127.0.0.1 port=1 user=x dbname=x sslmode=require";
    struct db_options options = { .live_url = kept(GOOD), .process = "test", .is_production = true };
    struct db_pool *pool = NULL;
    struct why why = { 0 };
    cr_assert_eq(db_pool_new(&options, &pool, &why), ST_OK, "%s", why.text);
    (void)live_secret_set(keeper.secret, BAD, sizeof BAD - 1);
    cr_expect_eq(ask(pool, &why), ST_INVALID);
    cr_expect(strstr(why.text, "verify-full"), "%s", why.text);
    db_pool_destroy(&pool);
    live_secret_destroy(&keeper.secret);
}

Test(db_rotation, a_listener_connects_again_with_the_new_password) {
    struct db_options options = { .url = url_with(""), .password = kept("password-one"), .process = "test" };
    struct db_listener *l = NULL;
    struct why why = { 0 };
    bool is_woken = false;
    cr_assert_eq(db_listener_new(&options, "jobs_ingest", &l, &why), ST_OK);
    cr_assert_eq(db_listener_turn(l, clock_mono_ms() + 5000, &is_woken, &why), ST_OK, "%s", why.text);
    rotate();
    keeper.next = "password-two";
    for (int64_t until_ms = clock_mono_ms() + 10000; db_listener_session(l) < 2 && clock_mono_ms() < until_ms; usleep(20000))
        (void)!db_listener_turn(l, clock_mono_ms() + 5000, &is_woken, &why);
    cr_expect_eq(db_listener_session(l), 2, "%s", why.text);
    db_listener_destroy(&l);
    live_secret_destroy(&keeper.secret);
}
