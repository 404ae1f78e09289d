/* cordon-migrate as an operator runs it: small directories of migrations, and the real ones up, down and up. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "migrate.h"
#include "support/pg.h"

static char dir[64];                /* of this test's own files; removed afterwards */
static const char *used_dir;        /* what --dir says */
static const char *url;
static PGconn *db;

static void set_up(void) {
    cr_redirect_stdout();
    cr_redirect_stderr();
    pg_open();
    url = pg_empty();
    db = PQconnectdb(url);
    cr_assert_eq(PQstatus(db), CONNECTION_OK, "%s", PQerrorMessage(db));
    snprintf(dir, sizeof dir, "/tmp/cordon-migrate-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    used_dir = dir;
}

static void tear_down(void) {
    PQfinish(db);
    glob_t files;
    char pattern[272];
    snprintf(pattern, sizeof pattern, "%s/*", dir);
    if (glob(pattern, 0, NULL, &files) == 0) {
        for (size_t i = 0; i < files.gl_pathc; i++)
            unlink(files.gl_pathv[i]);
        globfree(&files);
    }
    rmdir(dir);
    pg_close();
}

static void put(const char *name, const char *text) {
    char path[320];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    fclose(f);
}

static void two_migrations(void) {
    put("database.sql", "SELECT 1");
    put("0001_first.up.sql", "CREATE TABLE public.first (x integer); INSERT INTO public.first VALUES (1);");
    put("0001_first.down.sql", "DROP TABLE public.first");
    put("0002_second.up.sql", "CREATE TABLE public.second (y integer)");
    put("0002_second.down.sql", "DROP TABLE public.second");
}

/* Run with arguments up to a NULL; returns the exit status. migrate_main wipes the environment: in a child. */
static int run(const char *const args[]) {
    char *argv[8] = { (char *)"cordon-migrate", (char *)"--dir", (char *)used_dir };
    int argc = 3;
    for (; args[argc - 3]; argc++)
        argv[argc] = (char *)args[argc - 3];
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        setenv("DATABASE_URL", url, 1);
        setenv("ENVIRONMENT", "development", 1);
        int status = migrate_main(argc, argv);
        fflush(NULL);
        _exit(status);
    }
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "it crashed");
    return WEXITSTATUS(status);
}
#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

static const char *tables(void) {
    return pg_ask(db, "SELECT coalesce(string_agg(tablename, ',' ORDER BY tablename), '') FROM pg_tables WHERE schemaname = 'public'");
}

TestSuite(migrate, .init = set_up, .fini = tear_down, .timeout = 60);

Test(migrate, goes_up_and_down_and_says_where_it_is) {
    two_migrations();
    cr_expect_eq(RUN("status"), 0);
    cr_expect_str_eq(tables(), "");
    cr_expect_eq(RUN("up", "--to", "1"), 0);
    cr_expect_str_eq(tables(), "first");
    cr_expect_eq(RUN("up"), 0);
    cr_expect_eq(RUN("up"), 0, "again is harmless");
    cr_expect_str_eq(tables(), "first,second");
    cr_expect_str_eq(pg_ask(db, "SELECT count(*) FROM public.first"), "1", "applied once");
    cr_expect_str_eq(pg_ask(db, "SELECT string_agg(version || name || length(up_sha256) || length(down_sha256), ' ' ORDER BY version) FROM migrate.applied"), "1first6464 2second6464");
    cr_expect_eq(RUN("down", "--to", "1"), 0);
    cr_expect_str_eq(tables(), "first");
    cr_expect_eq(RUN("down", "--to", "0"), 0);
    cr_expect_str_eq(tables(), "");
    cr_expect_eq(RUN("up"), 0);
    cr_expect_str_eq(tables(), "first,second");
}

Test(migrate, a_failing_migration_leaves_nothing_of_itself) {
    two_migrations();
    put("0003_third.up.sql", "CREATE TABLE public.third (z integer); SELECT 1 / 0;");
    put("0003_third.down.sql", "DROP TABLE public.third");
    cr_expect_eq(RUN("up"), 1);
    cr_expect_str_eq(tables(), "first,second");
    cr_expect_str_eq(pg_ask(db, "SELECT max(version) FROM migrate.applied"), "2");
    put("0003_third.up.sql", "CREATE TABLE public.third (z integer)");
    cr_expect_eq(RUN("up"), 0);
    cr_expect_str_eq(tables(), "first,second,third");
}

Test(migrate, what_was_applied_must_not_change) {
    two_migrations();
    cr_expect_eq(RUN("up"), 0);
    put("0001_first.up.sql", "CREATE TABLE public.first (x bigint)");
    cr_expect_eq(RUN("up"), 1);
    cr_expect_eq(RUN("status"), 1);
    two_migrations();
    cr_expect_eq(RUN("up"), 0);
    put("0002_second.down.sql", "SELECT 1");
    cr_expect_eq(RUN("down", "--to", "0"), 1);
    cr_expect_str_eq(tables(), "first,second");
}

Test(migrate, an_older_tree_does_not_touch_a_newer_database) {
    two_migrations();
    put("0003_third.up.sql", "CREATE TABLE public.third (z integer)");
    put("0003_third.down.sql", "DROP TABLE public.third");
    cr_expect_eq(RUN("up"), 0);
    char path[320];
    snprintf(path, sizeof path, "%s/0003_third.up.sql", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/0003_third.down.sql", dir);
    unlink(path);
    cr_expect_eq(RUN("up"), 1);
    cr_expect_eq(RUN("down", "--to", "0"), 1);
    cr_expect_str_eq(tables(), "first,second,third");
}

Test(migrate, directories_with_faults_are_refused) {
    const struct { const char *file; } faults[] = {
        { "0004_gap.up.sql" }, { "0002_other.up.sql" }, { "002_short.up.sql" }, { "0003_only_up.up.sql" }, { "0003.sql" }, { "0000_zero.up.sql" }, { "0003x.up.sql" },
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char path[320];
        two_migrations();
        put(faults[i].file, "SELECT 1");
        cr_expect_eq(RUN("up"), 1, "%s", faults[i].file);
        cr_expect_str_eq(tables(), "", "%s", faults[i].file);
        snprintf(path, sizeof path, "%s/%s", dir, faults[i].file);
        unlink(path);
    }
    put("0001_first.up.sql", "CREATE TABLE public.first (x integer); COMMIT; BEGIN; COMMIT;");
    cr_expect_eq(RUN("up"), 1, "a migration must not end its transaction");
}

Test(migrate, two_at_once_take_turns) {
    two_migrations();
    PGconn *other = PQconnectdb(url);
    pg_ask(other, "SELECT pg_advisory_lock(7164, 1)");
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(RUN("up"));
    for (int i = 0; i < 500 && strcmp(pg_ask(db, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"), "1") != 0; i++)
        usleep(10000);
    cr_expect_str_eq(tables(), "", "it waits");
    PQfinish(other);
    int status = -1;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect_eq(status, 0);
    cr_expect_str_eq(tables(), "first,second");
}

Test(migrate, usage_errors_are_told_apart) {
    two_migrations();
    cr_expect_eq(RUN("bogus"), 2);
    cr_expect_eq(RUN("down"), 2, "down needs --to");
    cr_expect_eq(RUN("up", "--to", "x"), 2);
    cr_expect_eq(RUN("status", "--to", "1"), 2);
    cr_expect_eq(RUN("up", "--reason", "case-8"), 2, "what it has no use for");
    cr_expect_eq(RUN("hold-audit"), 2);
    cr_expect_eq(RUN("hold-audit", "--reason", ""), 2);
    cr_expect_eq(RUN("hold-audit", "--reason"), 2);
    cr_expect_eq(RUN("recover-audit", "--to", "3"), 2);
    cr_expect_eq(RUN("release-audit", "--month", "2026-01"), 2);
    const char *const months[] = { "2026-1", "2026-13", "2026-00", "2026-01-01", "01-2026", "2026_01", "next", "" };
    for (size_t i = 0; i < sizeof months / sizeof *months; i++)
        cr_expect_eq(RUN("drop-archived", "--month", months[i]), 2, "%s", months[i]);
    cr_expect_eq(RUN("drop-archived"), 2);
    cr_expect_eq(RUN("--help"), 0);
    cr_expect_eq(RUN("--settings-markdown"), 0);
    url = "host=127.0.0.1 port=1";
    cr_expect_eq(RUN("up"), 1);
    url = "nonsense";
    cr_expect_eq(RUN("up"), 1);
}

/* What it says to an operator who was refused, in a file. */
static const char *complaint(void) {
    static char text[512];
    fflush(NULL);
    FILE *said = cr_get_redirected_stderr();
    size_t len = fread(text, 1, sizeof text - 1, said);
    text[len] = '\0';
    return text;
}

/* tests/faults/test_years_points.py holds and drops months that there are. */
Test(migrate, an_operator_s_word_about_the_log_is_on_the_record_or_refused_with_the_reason) {
    const char *words = "SELECT coalesce(string_agg(action || ' ' || (detail ->> 'log') || ' ' || (detail ->> 'reason'), ', ' ORDER BY id), '') "
                        "FROM audit.audit_outbox WHERE action LIKE 'hold.%%' AND tenant_id = '00000000-0000-0000-0000-000000000000'";
    used_dir = CORDON_SOURCE_DIR "/migrations";
    cr_assert_eq(RUN("up"), 0);
    cr_expect_eq(RUN("release-audit"), 1, "nothing is held");
    cr_expect_str_eq(pg_ask(db, "%s", words), "");
    cr_assert_eq(RUN("hold-audit", "--reason", "case 8"), 0);
    cr_assert_eq(RUN("release-audit"), 0);
    cr_expect_str_eq(pg_ask(db, "%s", words), "hold.place true case_8, hold.release true case_8");
    cr_expect_eq(RUN("release-audit"), 1);
    cr_expect_eq(RUN("drop-archived", "--month", "2026-01"), 1);
    cr_expect_str_eq(pg_ask(db, "SELECT count(*) FROM audit.audit_outbox WHERE action = 'archive.drop'"), "0");
    const char *said = complaint();
    cr_expect_not_null(strstr(said, "were not verified since it was detached (sqlstate 55000)"), "%s", said);
    cr_expect_not_null(strstr(said, "there is nothing to do it to"), "%s", said);
}

Test(migrate, the_real_migrations_go_up_down_and_up) {
    used_dir = CORDON_SOURCE_DIR "/migrations";
    const char *objects = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('authz', 'auth', 'app', 'jobs', 'keys', 'audit', 'ext')";
    cr_assert_eq(RUN("up"), 0);
    const char *first = pg_ask(db, "%s", objects);
    cr_assert_eq(RUN("rotate-ticket-key"), 0);
    cr_expect_str_eq(pg_ask(db, "SELECT count(*) FROM authz.ticket_keys"), "2");
    cr_assert_eq(RUN("down", "--to", "0"), 0);
    cr_expect_str_eq(pg_ask(db, "%s", objects), "0");
    cr_expect_str_eq(pg_ask(db, "SELECT count(*) FROM pg_extension WHERE extname IN ('vector', 'pgcrypto')"), "0");
    cr_assert_eq(RUN("up"), 0);
    cr_expect_str_eq(pg_ask(db, "%s", objects), first);
}
