#include "config/config.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/str.h"

static void *member(const struct setting *row, void *settings) {
    return (char *)settings + row->offset;
}

static bool has_limits(const struct setting *row) {
    return row->min != 0 || row->max != 0;
}

static enum status check_length(const struct setting *row, const char *value, struct why *why) {
    int64_t len = (int64_t)strlen(value);
    if (has_limits(row) && (len < row->min || len > row->max))
        return fail(why, ST_INVALID, "%s: needs %lld to %lld bytes", row->name, (long long)row->min,
                    (long long)row->max);
    return ST_OK;
}

static enum status load_text(const struct setting *row, const char *value, void *settings, struct why *why) {
    if (*value && check_length(row, value, why) != ST_OK)
        return ST_INVALID;
    *(char **)member(row, settings) = xstrdup(value);
    return ST_OK;
}

static enum status load_int(const struct setting *row, const char *value, void *settings, struct why *why) {
    int64_t min = has_limits(row) ? row->min : INT64_MIN, max = has_limits(row) ? row->max : INT64_MAX;
    if (!str_to_i64(value, min, max, member(row, settings)))
        return fail(why, ST_INVALID, "%s: needs a whole number from %lld to %lld", row->name, (long long)min,
                    (long long)max);
    return ST_OK;
}

static enum status load_bool(const struct setting *row, const char *value, void *settings, struct why *why) {
    bool is_true = str_equal(value, "true") || str_equal(value, "1");
    if (!is_true && !str_equal(value, "false") && !str_equal(value, "0"))
        return fail(why, ST_INVALID, "%s: needs true or false", row->name);
    *(bool *)member(row, settings) = is_true;
    return ST_OK;
}

static enum status load_secret(const struct setting *row, const char *value, void *settings, struct why *why) {
    if (!*value)
        return ST_OK;
    if (check_length(row, value, why) != ST_OK)
        return ST_INVALID;
    if (row->type == SET_LIVE_SECRET)
        *(struct live_secret **)member(row, settings) = live_secret_new(value, strlen(value));
    else
        *(struct secret **)member(row, settings) = secret_new(value, strlen(value));
    return ST_OK;
}

static bool is_secret(const struct setting *row) {
    return row->type == SET_SECRET || row->type == SET_LIVE_SECRET || row->type == SET_CREDENTIAL;
}

/* May it be named instead of given? */
static bool is_nameable(const struct setting *row) {
    return row->type == SET_SECRET || row->type == SET_LIVE_SECRET;
}

typedef enum status (*load_fn)(const struct setting *row, const char *value, void *settings, struct why *why);

static const struct { const char *name; load_fn load; } TYPES[] = {
    [SET_TEXT] = { "text", load_text },
    [SET_INT] = { "integer", load_int },
    [SET_BOOL] = { "true or false", load_bool },
    [SET_SECRET] = { "secret", load_secret },
    [SET_LIVE_SECRET] = { "secret", load_secret },
    [SET_CREDENTIAL] = { "secret", load_secret },
};

/* Empty is absent: supervisors and compose files cannot always leave a variable out. */
static const char *given(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

const char *config_reference_name(const struct setting *row, char out[CONFIG_NAME_BYTES]) {
    size_t len = strlen(row->name), end = sizeof "_SECRET" - 1;
    bool ends_so = len > end && str_equal(row->name + len - end, "_SECRET");
    (void)snprintf(out, CONFIG_NAME_BYTES, "%s%s", row->name, ends_so ? "_ARN" : "_SECRET_ARN");
    return out;
}

static enum status add_reference(const struct setting *row, const char *name, const char *text, void *settings,
                                 struct config_references *references, struct why *why) {
    if (!references)
        return fail(why, ST_INVALID, "%s: this program asks no Secrets Manager; it takes %s", name, row->name);
    if (given(row->name))
        return fail(why, ST_INVALID, "%s and %s are both set: one of them", row->name, name);
    if (references->count == CONFIG_REFERENCES_MAX)
        return fail(why, ST_INVALID, "%s: more than %d secrets are named", name, CONFIG_REFERENCES_MAX);
    references->list[references->count++] = (struct config_reference){ row, settings, xstrdup(text) };
    return ST_OK;
}

enum status config_load(const struct setting *table, void *settings, struct config_references *references, struct why *why) {
    char name[CONFIG_NAME_BYTES];
    for (const struct setting *row = table; row->name; row++) {
        const char *value = given(row->name);
        const char *named = is_nameable(row) ? given(config_reference_name(row, name)) : NULL;
        if (!value)
            value = row->fallback;
        if (!value && !named)
            return fail(why, ST_INVALID, "%s: required, and not set", row->name);
        enum status st = named ? add_reference(row, name, named, settings, references, why) : TYPES[row->type].load(row, value, settings, why);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status config_resolve(const struct config_reference *reference, const void *bytes, size_t len, bool *ret_changed, struct why *why) {
    const struct setting *row = reference->row;
    char name[CONFIG_NAME_BYTES];
    (void)config_reference_name(row, name);
    if (len == 0 || memchr(bytes, '\0', len))
        return fail(why, ST_INVALID, "%s: the secret is %s", name, len ? "no text" : "empty");
    if (has_limits(row) && ((int64_t)len < row->min || (int64_t)len > row->max))
        return fail(why, ST_INVALID, "%s: the secret needs %lld to %lld bytes", name, (long long)row->min, (long long)row->max);
    void *at = member(row, reference->settings);
    if (row->type == SET_LIVE_SECRET && *(struct live_secret **)at) {
        *ret_changed = live_secret_set(*(struct live_secret **)at, bytes, len);
        return ST_OK;
    }
    if (row->type == SET_LIVE_SECRET) {
        *(struct live_secret **)at = live_secret_new(bytes, len);
    } else {
        secret_destroy(at);
        *(struct secret **)at = secret_new(bytes, len);
    }
    *ret_changed = true;
    return ST_OK;
}

void config_references_end(struct config_references *references) {
    for (size_t i = 0; i < references->count; i++)
        free(references->list[i].text);
    references->count = 0;
}

static bool is_kept(const char *variable) {
    static const char *const KEPT[] = { "PATH=", "LANG=", "TZ=" };
    for (size_t i = 0; i < sizeof KEPT / sizeof *KEPT; i++)
        if (str_starts_with(variable, KEPT[i]))
            return true;
    return false;
}

void config_wipe_environment(void) {
    char **kept = environ;
    for (char **variable = environ; variable && *variable; variable++)
        if (is_kept(*variable))
            *kept++ = *variable;
        else
            explicit_bzero(*variable, strlen(*variable));    /* also what /proc/PID/environ shows */
    if (kept)
        *kept = NULL;
}

bool config_is_environment_wiped(void) {
    for (char **variable = environ; variable && *variable; variable++)
        if (!is_kept(*variable))
            return false;
    return true;
}

/* The folder of the path that begins at text and ends before any of `ends`. */
static void visit_folder(const char *text, const char *ends, void (*visit)(void *ctx, const char *path), void *ctx) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%.*s", (int)strcspn(text, ends), text);
    if (*path != '/')
        return;
    char *slash = strrchr(path, '/');
    if (slash != path)      /* of a file at the root itself, not its folder */
        *slash = '\0';
    visit(ctx, path);
}

void config_each_folder(const struct setting *table, const void *settings, void (*visit)(void *ctx, const char *path), void *ctx) {
    static const char *const IN_URLS[] = { "sslrootcert=", "sslcert=", "sslkey=", "sslcrl=" };
    for (const struct setting *row = table; row->name; row++) {
        const void *at = (const char *)settings + row->offset;
        unsigned ignored;
        CLEANUP(secret_destroy) struct secret *live = row->type == SET_LIVE_SECRET ? live_secret_copy(*(struct live_secret *const *)at, &ignored) : NULL;
        const char *text = row->type == SET_TEXT ? *(const char *const *)at : live ? secret_text(live) :
                           row->type == SET_SECRET ? secret_text(*(struct secret *const *)at) : NULL;
        if (!text)
            continue;
        visit_folder(str_starts_with(text, "file://") ? text + sizeof "file://" - 1 : text, "", visit, ctx);
        for (size_t i = 0; i < sizeof IN_URLS / sizeof *IN_URLS; i++) {
            const char *found = strstr(text, IN_URLS[i]);
            if (found)
                visit_folder(found + strlen(IN_URLS[i]), "& ", visit, ctx);
        }
    }
}

void config_describe(const struct setting *table, const void *settings, struct buffer *lines, struct buffer *changed) {
    for (const struct setting *row = table; row->name; row++) {
        const void *at = (const char *)settings + row->offset;
        char number[32];
        const char *text = row->type == SET_TEXT ? *(const char *const *)at : number;
        if (is_secret(row))
            text = *(const void *const *)at ? "set" : "";
        else if (row->type == SET_BOOL)
            text = *(const bool *)at ? "true" : "false";
        else if (row->type == SET_INT)
            (void)snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)at);
        buffer_printf(lines, "%s=%s\n", row->name, text);
        if (!row->fallback || !str_equal(text, row->fallback))
            buffer_printf(changed, "%s%s", changed->len ? "," : "", row->name);
    }
}

void config_release(const struct setting *table, void *settings) {
    for (const struct setting *row = table; row->name; row++)
        if (row->type == SET_LIVE_SECRET) {
            live_secret_destroy(member(row, settings));
        } else if (is_secret(row)) {
            secret_destroy(member(row, settings));
        } else if (row->type == SET_TEXT) {
            char **text = member(row, settings);
            free(*text);
            *text = NULL;
        }
}

/* "1 to 512 bytes", or "" without limits. */
static void format_limits(const struct setting *row, char *out, size_t size) {
    const char *unit = row->unit && *row->unit ? row->unit : row->type == SET_INT ? "" : "bytes";
    out[0] = '\0';
    if (has_limits(row))
        (void)snprintf(out, size, "%lld to %lld%s%s", (long long)row->min, (long long)row->max, *unit ? " " : "", unit);
    else if (row->type == SET_INT)
        (void)snprintf(out, size, "%s", unit);
}

static const char *format_default(const struct setting *row) {
    return !row->fallback ? "required" : *row->fallback ? row->fallback : "optional";
}

/* Is there a setting that says where Secrets Manager is? */
static bool has_manager(const struct setting *const tables[]) {
    for (const struct setting *const *table = tables; *table; table++)
        for (const struct setting *row = *table; row->name; row++)
            if (str_equal(row->name, "AWS_ENDPOINT_URL_SECRETS_MANAGER"))
                return true;
    return false;
}

/* " Or named by ...", or "" where it can only be given. tick: "`" or "". */
static const char *format_reference(const struct setting *row, bool can_ask, const char *tick, char *out, size_t size) {
    char name[CONFIG_NAME_BYTES];
    *out = '\0';
    if (can_ask && is_nameable(row))
        (void)snprintf(out, size, " Or in Secrets Manager: %s%s%s%s.", tick, config_reference_name(row, name), tick,
                       row->type == SET_LIVE_SECRET ? ", read again while running" : ", read at start");
    return out;
}

void config_print_help(FILE *out, const char *process, const char *about, const struct setting *const tables[]) {
    (void)fprintf(
        out,
        "%s - %s\n\nusage: %s [--help | --settings-markdown | --version]\n\nSettings come from the environment:\n\n",
        process, about, process);
    bool can_ask = has_manager(tables);
    for (const struct setting *const *table = tables; *table; table++)
        for (const struct setting *row = *table; row->name; row++) {
            char limits[96], named[192];
            format_limits(row, limits, sizeof limits);
            (void)fprintf(out, "  %-36s %s%s%s; %s\n      %s%s\n", row->name, TYPES[row->type].name, *limits ? ", " : "",
                          limits, format_default(row), row->help, format_reference(row, can_ask, "", named, sizeof named));
        }
}

void config_print_markdown(FILE *out, const char *process, const char *about, const struct setting *const tables[]) {
    (void)fprintf(out, "## %s\n\n%s\n\n| Variable | Type | Default | Limits | Meaning |\n|---|---|---|---|---|\n",
                  process, about);
    bool can_ask = has_manager(tables);
    for (const struct setting *const *table = tables; *table; table++)
        for (const struct setting *row = *table; row->name; row++) {
            char limits[96], named[192];
            format_limits(row, limits, sizeof limits);
            const char *tick = row->fallback && *row->fallback ? "`" : "";
            (void)fprintf(out, "| `%s` | %s | %s%s%s | %s | %s%s |\n", row->name, TYPES[row->type].name, tick,
                          format_default(row), tick, limits, row->help, format_reference(row, can_ask, "`", named, sizeof named));
        }
    (void)fputc('\n', out);
}
