#include "migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/str.h"
#include "db/pool.h"

struct settings {
    const char *environment, *migrations;
    struct secret *database_url;
    struct secret *auth, *ingest, *jobs, *query, *audit_reader, *audit;
};

#define OFF(member) offsetof(struct settings, member)
static const struct setting SETTINGS[] = {
    /* name                           type        default       min max   unit offset               help */
    { "ENVIRONMENT",                  SET_TEXT,   "production",   1,   16, "", OFF(environment),    "development or production: the latter demands sslmode=verify-full" },
    { "DATABASE_URL",                 SET_SECRET, NULL,           1, 4096, "", OFF(database_url),   "libpq URL of an administrator who may create roles" },
    { "CORDON_MIGRATIONS",            SET_TEXT,   "/usr/local/share/cordon/migrations", 1, 4096, "", OFF(migrations), "directory of the migrations; --dir wins" },
    { "CORDON_DB_PASSWORD_AUTH",         SET_SECRET, "",         16,  512, "", OFF(auth),           "password to set for role cordon_auth" },
    { "CORDON_DB_PASSWORD_INGEST",       SET_SECRET, "",         16,  512, "", OFF(ingest),         "password to set for role cordon_ingest" },
    { "CORDON_DB_PASSWORD_JOBS",         SET_SECRET, "",         16,  512, "", OFF(jobs),           "password to set for role cordon_jobs" },
    { "CORDON_DB_PASSWORD_QUERY",        SET_SECRET, "",         16,  512, "", OFF(query),          "password to set for role cordon_query" },
    { "CORDON_DB_PASSWORD_AUDIT_READER", SET_SECRET, "",         16,  512, "", OFF(audit_reader),   "password to set for role cordon_audit_reader" },
    { "CORDON_DB_PASSWORD_AUDIT",        SET_SECRET, "",         16,  512, "", OFF(audit),          "password to set for role cordon_audit" },
    { 0 }
};

static const char ABOUT[] = "Brings the database's schema to this version, or back.";
static const char USAGE[] =
    "usage: cordon-migrate [--dir DIRECTORY] COMMAND\n"
    "  up [--to N]         apply what is missing, up to version N; set the role passwords that the environment gives\n"
    "  down --to N         take back everything above version N (data is lost)\n"
    "  status              list the migrations and when each was applied\n"
    "  rotate-ticket-key   sign tickets with a new key from now on\n"
    "  recover-audit --to N --reason CODE\n"
    "                      record that the database was put back to a state before signed head N of the audit log,\n"
    "                      which audit-writer named when it refused to append; it appends again\n"
    "  hold-audit --reason CODE\n"
    "                      legal hold of the platform's audit log: no month with events of it leaves the database\n"
    "  release-audit       end it\n"
    "  drop-archived --month YYYY-MM\n"
    "                      drop the table that an archived month of the audit log had been; refused unless audit-writer\n"
    "                      has verified all its objects in the bucket since\n"
    "  --help, --settings-markdown\n\n";

enum option { OPT_DIR = 1, OPT_TO = 2, OPT_REASON = 4, OPT_MONTH = 8 };

struct arguments {
    const char *command, *dir;
    unsigned given;             /* enum option */
    int64_t to;
    const char *reason, *month;
};

static bool is_month(const char *text) {
    int64_t year, month;
    char digits[5] = "";
    (void)snprintf(digits, sizeof digits, "%s", text);
    return strlen(text) == strlen("YYYY-MM") && text[4] == '-' && strspn(text, "0123456789") == 4 && strspn(text + 5, "0123456789") == 2 &&
           str_to_i64(digits, 1970, 9999, &year) && str_to_i64(text + 5 + (text[5] == '0'), 1, 12, &month);
}

static bool parse(int argc, char **argv, struct arguments *args) {
    const struct { const char *name; enum option option; const char **text; } options[] = {
        { "--dir", OPT_DIR, &args->dir }, { "--to", OPT_TO, NULL }, { "--reason", OPT_REASON, &args->reason }, { "--month", OPT_MONTH, &args->month },
    };
    for (int i = 1; i < argc; i++) {
        size_t n = 0;
        while (n < sizeof options / sizeof *options && !str_equal(argv[i], options[n].name))
            n++;
        if (n == sizeof options / sizeof *options) {
            if (args->command)
                return false;
            args->command = argv[i];
            continue;
        }
        if (++i == argc || (!options[n].text && !str_to_i64(argv[i], 0, INT64_MAX, &args->to)))
            return false;
        if (options[n].text)
            *options[n].text = argv[i];
        args->given |= options[n].option;
    }
    return args->command && (!args->month || is_month(args->month)) && (!args->reason || *args->reason);
}

static enum status set_passwords(struct migrate *m, const struct settings *s, struct why *why) {
    const struct { const char *role; const struct secret *password; } roles[] = {
        { "cordon_auth", s->auth }, { "cordon_ingest", s->ingest }, { "cordon_jobs", s->jobs }, { "cordon_query", s->query },
        { "cordon_audit_reader", s->audit_reader }, { "cordon_audit", s->audit },
    };
    enum status st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < sizeof roles / sizeof *roles; i++)
        if (roles[i].password)
            st = apply_password(m, roles[i].role, roles[i].password, why);
    return st;
}

static enum status command_up(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    enum status st = apply_up(m, !(args->given & OPT_TO) || args->to > MIGRATIONS_MAX ? MIGRATIONS_MAX : (int)args->to, why);
    return st == ST_OK ? set_passwords(m, s, why) : st;
}

static enum status command_down(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)s;
    return apply_down(m, args->to > MIGRATIONS_MAX ? MIGRATIONS_MAX : (int)args->to, why);
}

static enum status command_status(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)args, (void)s, (void)why;
    apply_status(m);
    return ST_OK;
}

static enum status command_rotate(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)args, (void)s;
    return apply_new_ticket_key(m, why);
}

static enum status command_recover(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)s;
    return apply_recovery(m, args->to, args->reason, why);
}

static enum status command_hold(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)s;
    return apply_owners_word(m, "holding the platform's log", "SELECT audit.hold_log($1)", args->reason, why);
}

static enum status command_release(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)args, (void)s;
    return apply_owners_word(m, "releasing the platform's log", "SELECT audit.release_log()", NULL, why);
}

static enum status command_drop(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why) {
    (void)s;
    return apply_owners_word(m, "dropping an archived month", "SELECT audit.drop_archived(to_date($1, 'YYYY-MM'))", args->month, why);
}

static const struct command {
    const char *name;
    unsigned needs, takes;      /* enum option */
    enum status (*run)(struct migrate *m, const struct arguments *args, const struct settings *s, struct why *why);
} COMMANDS[] = {
    { "up",                0,                   OPT_TO, command_up },
    { "down",              OPT_TO,              0,      command_down },
    { "status",            0,                   0,      command_status },
    { "rotate-ticket-key", 0,                   0,      command_rotate },
    { "recover-audit",     OPT_TO | OPT_REASON, 0,      command_recover },
    { "hold-audit",        OPT_REASON,          0,      command_hold },
    { "release-audit",     0,                   0,      command_release },
    { "drop-archived",     OPT_MONTH,           0,      command_drop },
};

static const struct command *find_command(const struct arguments *args) {
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        const struct command *c = &COMMANDS[i];
        if (str_equal(c->name, args->command) && (args->given & c->needs) == c->needs && (args->given & ~(c->needs | c->takes | OPT_DIR)) == 0)
            return c;
    }
    return NULL;
}

static enum status run(const struct command *command, const struct arguments *args, const struct settings *s, struct why *why) {
    enum status st = db_url_check(secret_text(s->database_url), !str_equal(s->environment, "development"), why);
    if (st != ST_OK)
        return st;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct migrate *m = arena_alloc(mem, sizeof *m);
    m->mem = mem;
    st = files_read(m, args->dir ? args->dir : s->migrations, why);
    if (st != ST_OK)
        return st;
    m->pg = PQconnectdb(secret_text(s->database_url));
    st = PQstatus(m->pg) == CONNECTION_OK ? ST_OK : fail(why, ST_UNAVAILABLE, "%.200s", PQerrorMessage(m->pg));
    if (st == ST_OK)
        st = apply_open(m, why);
    if (st == ST_OK)
        st = command->run(m, args, s, why);
    PQfinish(m->pg);
    return st;
}

int migrate_main(int argc, char **argv) {
    enum { USAGE_EXIT = 2 };
    const struct setting *const tables[] = { SETTINGS, NULL };
    struct arguments args = { 0 };
    bool parsed = parse(argc, argv, &args);
    if (parsed && str_equal(args.command, "--help")) {
        fputs(USAGE, stdout);
        config_print_help(stdout, "cordon-migrate", ABOUT, tables);
        return EXIT_SUCCESS;
    }
    if (parsed && str_equal(args.command, "--settings-markdown")) {
        config_print_markdown(stdout, "cordon-migrate", ABOUT, tables);
        return EXIT_SUCCESS;
    }
    const struct command *command = parsed ? find_command(&args) : NULL;
    if (!command) {
        fputs(USAGE, stderr);
        return USAGE_EXIT;
    }
    struct settings settings = { 0 };
    struct why why = { 0 };
    enum status st = config_load(SETTINGS, &settings, NULL, &why);
    config_wipe_environment();
    if (st == ST_OK)
        st = run(command, &args, &settings, &why);
    config_release(SETTINGS, &settings);
    if (st != ST_OK)
        fprintf(stderr, "cordon-migrate: %s\n", why.text);
    return st == ST_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
