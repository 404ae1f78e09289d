#include "support/pg.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/buffer.h"

#define PASSWORD "test-password-of-every-role"
/* What the server keeps of it, with one round instead of 4096: those are 7 ms of each connection's maker. */
#define VERIFIER "SCRAM-SHA-256$1:Y29yZG9uLXRlc3Qtc2FsdA==$Y25kyg1n+dZxZGWpqnc62VKC4eaVZ8095vipvmeBGuY=:rpKSV2Bjt7TufHuLUhW15eRbZdtd7eiolsxUHGDEX0w="

static struct {
    PGconn *admin;
    char database[64];
    struct arena *mem;
    const char *message;
    pthread_mutex_t lock;           /* around mem: players ask from threads of their own */
} pg = { .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *keep(const char *text) {
    pthread_mutex_lock(&pg.lock);
    const char *kept = arena_strdup(pg.mem, text);
    pthread_mutex_unlock(&pg.lock);
    return kept;
}

__attribute__((format(printf, 1, 0))) static const char *format(const char *fmt, va_list args) {
    char *text = NULL;
    cr_assert(vasprintf(&text, fmt, args) >= 0);
    const char *kept = keep(text);
    free(text);
    return kept;
}

static const char *base_url(void) {
    const char *url = getenv("CORDON_TEST_DATABASE_URL");
    cr_assert(url && *url, "CORDON_TEST_DATABASE_URL is not set: these tests need a PostgreSQL");
    return url;
}

/* key='value' with the value escaped for libpq. */
static void add_word(struct buffer *out, const char *word, const char *value) {
    buffer_printf(out, "%s='", word);
    for (const char *v = value; *v; v++)
        buffer_printf(out, "%s%c", *v == '\'' || *v == '\\' ? "\\" : "", *v);
    buffer_add_str(out, "' ");
}

static const char *url_for(const char *role, const char *database) {
    PQconninfoOption *list = PQconninfoParse(base_url(), NULL);
    cr_assert_not_null(list, "CORDON_TEST_DATABASE_URL does not parse");
    struct buffer out;
    buffer_init(&out, 0);
    for (const PQconninfoOption *o = list; o->keyword; o++) {
        bool is_ours = strcmp(o->keyword, "dbname") == 0 ||
                       (role && (strcmp(o->keyword, "user") == 0 || strcmp(o->keyword, "password") == 0));
        if (o->val && !is_ours)
            add_word(&out, o->keyword, o->val);
    }
    add_word(&out, "dbname", database);
    if (role) {
        add_word(&out, "user", role);
        add_word(&out, "password", PASSWORD);
    }
    PQconninfoFree(list);
    const char *url = keep(out.data);
    buffer_end(&out);
    return url;
}

static void ignore_notice(void *arg, const char *text) {
    (void)arg;
    (void)text;
}

static PGconn *connect_to(const char *role, const char *database) {
    PGconn *conn = PQconnectdb(url_for(role, database));
    cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    return conn;
}

static const char *read_file(const char *path) {
    FILE *f = fopen(path, "re");
    cr_assert_not_null(f, "cannot read %s", path);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *text = arena_alloc(pg.mem, size + 1);
    cr_assert_eq(fread(text, 1, size, f), size);
    fclose(f);
    return text;
}

/* As of these files: by their names, sizes and times, as there is half a megabyte of them and each test asks. */
static const char *template_name(const glob_t *files) {
    CLEANUP(buffer_end) struct buffer all = { 0 };
    for (size_t i = 0; i < files->gl_pathc; i++) {
        struct stat s;
        cr_assert_eq(stat(files->gl_pathv[i], &s), 0, "%s", files->gl_pathv[i]);
        buffer_printf(&all, "%s %lld %lld.%09ld\n", files->gl_pathv[i], (long long)s.st_size, (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    }
    uint64_t hash = 14695981039346656037u;          /* FNV-1a */
    for (size_t i = 0; i < all.len; i++)
        hash = (hash ^ (unsigned char)all.data[i]) * 1099511628211u;
    return arena_printf(pg.mem, "cordon_template_%016llx", (unsigned long long)hash);
}

/* Made under a lock and renamed when complete, so that nobody copies half of one. */
static void make_template(PGconn *admin, const char *name, const glob_t *files) {
    pg_ask(admin, "SELECT pg_advisory_lock(7164, 2)");
    if (!*pg_ask(admin, "SELECT 1 FROM pg_database WHERE datname = '%s'", name)) {
        pg_ask(admin, "DROP DATABASE IF EXISTS cordon_template_new");
        pg_ask(admin, "CREATE DATABASE cordon_template_new");
        PGconn *conn = connect_to(NULL, "cordon_template_new");
        for (size_t i = 0; i < files->gl_pathc; i++) {
            PGresult *rows = PQexec(conn, arena_printf(pg.mem, "BEGIN;%s;COMMIT", read_file(files->gl_pathv[i])));
            cr_assert_eq(PQresultStatus(rows), PGRES_COMMAND_OK, "%s: %s", files->gl_pathv[i], PQresultErrorMessage(rows));
            PQclear(rows);
        }
        const char *const logins[] = { "auth", "ingest", "jobs", "query", "audit_reader", "audit" };
        for (size_t i = 0; i < sizeof logins / sizeof *logins; i++)
            pg_ask(conn, "ALTER ROLE cordon_%s PASSWORD '" VERIFIER "'", logins[i]);
        pg_ask(conn, "INSERT INTO auth.tenants (id, slug, name) VALUES ('" PG_TENANT_A "', '" PG_SLUG_A "', 'Riverside'),"
                     "('" PG_TENANT_B "', '" PG_SLUG_B "', 'Lakeside')");
        PQfinish(conn);
        PQfinish(connect_to(NULL, "cordon_template_new"));     /* leaves the cache of its catalog, which copies then begin with */
        pg_ask(admin, "ALTER DATABASE cordon_template_new RENAME TO %s", name);
    }
    pg_ask(admin, "SELECT pg_advisory_unlock(7164, 2)");
}

void pg_open(void) {
    pg.mem = arena_new(0);
    glob_t files;
    cr_assert_eq(glob(CORDON_SOURCE_DIR "/migrations/*.up.sql", 0, NULL, &files), 0);
    const char *template = template_name(&files);
    PGconn *admin = connect_to(NULL, "postgres");
    if (!*pg_ask(admin, "SELECT 1 FROM pg_database WHERE datname = '%s'", template))
        make_template(admin, template, &files);
    globfree(&files);
    snprintf(pg.database, sizeof pg.database, "cordon_test_%d", (int)getpid());
    pg_ask(admin, "DROP DATABASE IF EXISTS %s WITH (FORCE)", pg.database);
    pg_ask(admin, "CREATE DATABASE %s TEMPLATE %s STRATEGY file_copy", pg.database, template);
    PQfinish(admin);
    pg.admin = connect_to(NULL, pg.database);
    pg_ask(pg.admin, "%s", read_file(CORDON_SOURCE_DIR "/migrations/database.sql"));
}

void pg_close(void) {
    if (!pg.mem)
        return;
    PQfinish(pg.admin);
    PGconn *admin = connect_to(NULL, "postgres");
    pg_ask(admin, "DROP DATABASE %s WITH (FORCE)", pg.database);
    pg_ask(admin, "DROP DATABASE IF EXISTS %s_empty WITH (FORCE)", pg.database);
    PQfinish(admin);
    arena_destroy(&pg.mem);
    pg.admin = NULL;
}

PGconn *pg_admin(void) {
    return pg.admin;
}

const char *pg_url(const char *role) {
    return url_for(role, pg.database);
}

const char *pg_empty(void) {
    PGconn *admin = connect_to(NULL, "postgres");
    pg_ask(admin, "DROP DATABASE IF EXISTS %s_empty WITH (FORCE)", pg.database);
    pg_ask(admin, "CREATE DATABASE %s_empty", pg.database);
    PQfinish(admin);
    return url_for(NULL, arena_printf(pg.mem, "%s_empty", pg.database));
}

PGconn *pg_connect(const char *role) {
    return connect_to(role, pg.database);
}

const char *pg_ask(PGconn *conn, const char *sql, ...) {
    va_list args;
    va_start(args, sql);
    const char *text = format(sql, args);
    va_end(args);
    PGresult *rows = PQexec(conn, text);
    ExecStatusType kind = PQresultStatus(rows);
    cr_assert(kind == PGRES_COMMAND_OK || kind == PGRES_TUPLES_OK, "%s\n%s", PQresultErrorMessage(rows), text);
    const char *value = kind == PGRES_TUPLES_OK && PQntuples(rows) && PQnfields(rows) ? keep(PQgetvalue(rows, 0, 0)) : "";
    PQclear(rows);
    return value;
}

const char *pg_try(PGconn *conn, const char *sql, ...) {
    va_list args;
    va_start(args, sql);
    const char *text = format(sql, args);
    va_end(args);
    PGresult *rows = PQexec(conn, text);
    ExecStatusType kind = PQresultStatus(rows);
    const char *state = "00000";
    if (kind != PGRES_COMMAND_OK && kind != PGRES_TUPLES_OK) {
        const char *field = PQresultErrorField(rows, PG_DIAG_SQLSTATE);
        const char *said = PQresultErrorField(rows, PG_DIAG_MESSAGE_PRIMARY);
        state = field ? keep(field) : "lost";
        pg.message = said ? keep(said) : "";
    }
    PQclear(rows);
    return state;
}

const char *pg_message(void) {
    return pg.message ? pg.message : "";
}

const char *pg_ticket(const char *tenant, const char *roles, const char *subject) {
    const char *slug = tenant ? arena_printf(pg.mem, "'%s'", tenant) : "NULL";
    return pg_ask(pg.admin, "SELECT ticket FROM authz.mint('https://idp.test', '%s', 'token-of-%s-%s', now() + interval '1 hour', "
                  "%s, '{%s}', 'Test Person', 'person@example.org')", subject, subject, roles, slug, roles);
}

const char *pg_forge(const char *claims_json) {
    return pg_ask(pg.admin,
        "SELECT signed || '.' || encode(ext.hmac(convert_to(signed, 'UTF8'), secret, 'sha256'), 'hex') FROM "
        "(SELECT '1.' || kid || '.' || encode(convert_to($claims$%s$claims$, 'UTF8'), 'hex') AS signed, secret "
        "FROM authz.ticket_keys WHERE retired_at IS NULL) AS k", claims_json);
}
