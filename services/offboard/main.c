/* offboard — ends a tenant for good by having its KMS key deleted, takes that back within the window, or, when KMS has deleted
 * the key, has what is left destroyed: ingest-worker does that, with the rights that it has anyway.
 *
 * Trusts:   the database for whether two different people of the platform have approved; the operator who runs it.
 * Holds:    an administrator's database URL and the AWS identity `operator`, for seconds: no process of the service has
 *           the right to have a key deleted, and this one has no right to use one.
 * Fails:    what is intended is committed before KMS hears of it and confirmed after it; exit status 1, and the same
 *           command again goes on where it stood. */
#include <stdio.h>
#include <stdlib.h>

#include "aws/kms.h"
#include "aws/settings.h"
#include "aws/sts.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "db/plain_tx.h"
#include "db/pool.h"
#include "obs/metrics.h"

enum { BUDGET_MS = 60000, WINDOW_DAYS = 30 };

struct settings {
    const char *environment;
    struct secret *database_url;
    struct aws_settings aws;
    const char *kms_endpoint;
};

#define OFF(member) offsetof(struct settings, member)
static const struct setting SETTINGS[] = {
    /* name                 type        default       min max   unit offset             help */
    { "ENVIRONMENT",        SET_TEXT,   "production", 1,  16,   "",  OFF(environment),  "development or production: the latter demands sslmode=verify-full" },
    { "DATABASE_URL",       SET_SECRET, NULL,         1,  4096, "",  OFF(database_url), "libpq URL of an administrator; options=-crole=cordon_owner unless a superuser" },
    AWS_SETTINGS(struct settings, aws, "operator"),
    AWS_ENDPOINT_SETTING(struct settings, kms_endpoint, "KMS"),
    { 0 }
};

static const char ABOUT[] = "Ends a tenant by having its KMS key deleted after 30 days, once two people have approved it.";
static const char USAGE[] =
    "usage: cordon-offboard COMMAND SLUG\n"
    "  schedule SLUG   suspend the tenant and schedule the deletion of its key; its data opens no more from then on\n"
    "  cancel SLUG     take that back while the key is pending deletion; the tenant stays suspended until it is resumed\n"
    "  finish SLUG     when KMS has deleted the key: have everything that is left of the tenant destroyed, and certified\n"
    "  show SLUG       tell how far that is; with the certificate, once the tenant is destroyed\n"
    "  --help, --settings-markdown\n\n";

struct offboard {
    struct db_pool *db;
    struct kms *kms;
    int64_t deadline_ms;
};

/* What is done at KMS; each may be repeated. */
static enum status schedule(const struct offboard *o, const char *key_id, struct why *why) {
    return kms_schedule_deletion(o->kms, key_id, WINDOW_DAYS, o->deadline_ms, why);
}

static enum status cancel(const struct offboard *o, const char *key_id, struct why *why) {
    return kms_cancel_deletion(o->kms, key_id, o->deadline_ms, why);
}

static enum status check_gone(const struct offboard *o, const char *key_id, struct why *why) {
    enum kms_key_state state;
    enum status st = kms_describe_key(o->kms, key_id, o->deadline_ms, &state, why);
    if (st == ST_OK)
        return fail(why, ST_CONFLICT, "KMS still has the key: it deletes it up to a day after its time");
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static const struct command {
    const char *name;
    struct sql begin, confirm;      /* before KMS: slug -> offboarding, key; after it */
    enum status (*effect)(const struct offboard *o, const char *key_id, struct why *why);     /* NULL: only shows */
    bool has_days;
    const char *done;
} COMMANDS[] = {
    { "schedule", { "begin_offboarding", "SELECT offboarding_id, kms_key_id FROM keys.begin_offboarding($1)", 1 },
      { "offboarding_scheduled", "SELECT keys.offboarding_scheduled($1, $2)", 2 }, schedule, true,
      "the tenant is suspended, and its key will be deleted in 30 days" },
    { "cancel", { "cancel_offboarding", "SELECT offboarding_id, kms_key_id FROM keys.cancel_offboarding($1)", 1 },
      { "offboarding_cancelled", "SELECT keys.offboarding_cancelled($1)", 1 }, cancel, false,
      "the key is enabled again; the tenant is suspended until an administrator resumes it" },
    { "finish", { "begin_ending", "SELECT offboarding_id, kms_key_id FROM keys.begin_ending($1)", 1 },
      { "key_is_gone", "SELECT keys.key_is_gone($1)", 1 }, check_gone, false,
      "KMS has deleted the key; what is left of the tenant is being destroyed" },
    { "show", { "show_offboarding", "SELECT status, state, approvals, delete_at, certificate, refused_code, next_at FROM keys.show_offboarding($1)", 1 },
      { NULL, NULL, 0 }, NULL, false, NULL },
};

/* "-": not known. */
static const char *format_time(const PGresult *rows, int column, char out[CLOCK_TEXT_BYTES]) {
    return db_is_null(rows, 0, column) ? "-" : clock_format(db_micros(rows, 0, column), out);
}

static enum status show(const char *slug, const PGresult *rows, struct why *why) {
    enum { STATUS, STATE, APPROVALS, DELETE_AT, CERTIFICATE, REFUSED_CODE, NEXT_AT };
    char at[CLOCK_TEXT_BYTES];
    if (db_count(rows) == 0)
        return fail(why, ST_NOT_FOUND, "no such tenant, or nobody has asked for its end");
    (void)printf("%s: tenant %s, end %s, approvals that count %lld, deletion of the key %s\n", slug, db_text(rows, 0, STATUS), db_text(rows, 0, STATE),
                 (long long)db_i64(rows, 0, APPROVALS), format_time(rows, DELETE_AT, at));
    if (!db_is_null(rows, 0, REFUSED_CODE) && db_is_null(rows, 0, CERTIFICATE))
        (void)printf("it cannot go on: %s; ingest-worker tries again after %s and says more in its log (ending_put_off)\n",
                     db_text(rows, 0, REFUSED_CODE), format_time(rows, NEXT_AT, at));
    if (!db_is_null(rows, 0, CERTIFICATE))
        (void)printf("%s\n", db_text(rows, 0, CERTIFICATE));
    return ST_OK;
}

static enum status run(struct offboard *o, const struct command *c, const char *slug, struct why *why) {
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(o->db, &c->begin, (struct db_param[]){ DB_TEXT(slug) }, o->deadline_ms, &rows, why);
    if (st != ST_OK || !c->effect)
        return st == ST_OK ? show(slug, rows, why) : st;
    struct uuid id = db_uuid(rows, 0, 0);
    st = fault_status(FAULT_OFFBOARD_INTENDED, why);
    if (st == ST_OK)
        st = c->effect(o, db_text(rows, 0, 1), why);
    if (st == ST_OK)
        st = fault_status(FAULT_OFFBOARD_DONE, why);
    if (st == ST_OK)
        st = db_run(o->db, &c->confirm, (struct db_param[]){ DB_UUID(&id), DB_INT(WINDOW_DAYS) }, o->deadline_ms, NULL, why);
    return st == ST_OK ? fault_status(FAULT_OFFBOARD_CONFIRMED, why) : st;
}

static enum status start(const struct settings *s, const struct command *c, const char *slug, struct why *why) {
    bool is_production = !str_equal(s->environment, "development");
    struct offboard o = { .deadline_ms = clock_mono_ms() + BUDGET_MS };
    struct metrics *metrics = metrics_new();
    struct aws *aws = NULL;
    struct db_options options = { .url = secret_text(s->database_url), .process = "offboard", .connections = 1, .is_production = is_production,
                                  .metrics = metrics };
    enum status st = db_pool_new(&options, &o.db, why);
    if (st == ST_OK)
        st = aws_open(&s->aws, is_production, metrics, &aws, why);
    if (st == ST_OK)
        st = sts_assert(aws, s->aws.sts_endpoint, s->aws.identity, o.deadline_ms, why);
    if (st == ST_OK) {
        o.kms = kms_new(aws, s->kms_endpoint);
        st = run(&o, c, slug, why);
    }
    kms_destroy(&o.kms);
    aws_destroy(&aws);
    db_pool_destroy(&o.db);
    metrics_destroy(&metrics);
    return st;
}

int main(int argc, char **argv) {
    const struct setting *const tables[] = { SETTINGS, NULL };
    const struct command *command = NULL;
    struct settings settings = { 0 };
    struct why why = { 0 };
    if (argc == 2 && str_equal(argv[1], "--settings-markdown")) {
        config_print_markdown(stdout, "cordon-offboard", ABOUT, tables);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; argc == 3 && i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (str_equal(COMMANDS[i].name, argv[1]))
            command = &COMMANDS[i];
    if (!command) {
        bool is_help = argc == 2 && str_equal(argv[1], "--help");
        (void)fputs(USAGE, is_help ? stdout : stderr);
        if (is_help)
            config_print_help(stdout, "cordon-offboard", ABOUT, tables);
        return is_help ? EXIT_SUCCESS : 2;
    }
    enum status st = config_load(SETTINGS, &settings, NULL, &why);
    config_wipe_environment();
    if (st == ST_OK)
        st = start(&settings, command, argv[2], &why);
    config_release(SETTINGS, &settings);
    if (st == ST_OK && command->done)
        (void)printf("%s: %s\n", argv[2], command->done);
    else if (st != ST_OK)
        (void)fprintf(stderr, "cordon-offboard: %s: %s\n", status_name(st), why.text);
    return st == ST_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
