/* config — settings come from environment variables, declared in one table per process. The same rows
 * make the start-up check, `--help`, docs/settings.md and the redaction of secrets. Read once at start
 * by one thread; afterwards the environment is wiped, so that no child, dump or /proc file shows it. */
#ifndef CORDON_CONFIG_CONFIG_H
#define CORDON_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/buffer.h"
#include "core/live_secret.h"
#include "core/secret.h"
#include "core/status.h"

enum setting_type {
    SET_TEXT,           /* const char *: owned by the settings struct; never NULL */
    SET_INT,            /* int64_t within [min, max] */
    SET_BOOL,           /* bool: true|false|1|0 */
    /* Of these three only the first two may be named instead of given: NAME_SECRET_ARN (OIDC_CLIENT_SECRET_ARN of
     * OIDC_CLIENT_SECRET), by which common/secrets asks Secrets Manager. */
    SET_SECRET,         /* struct secret *: NULL when optional and absent; stays as it is until a restart */
    SET_LIVE_SECRET,    /* struct live_secret *: likewise, but may change while the process runs */
    SET_CREDENTIAL,     /* struct secret *: by which the others would be asked for */
};

struct setting {
    const char *name;
    enum setting_type type;
    const char *fallback;       /* NULL: required. "": optional, empty (secret: NULL) */
    int64_t min, max;           /* SET_INT: value; SET_TEXT, SET_SECRET: length in bytes; both 0: no limit */
    const char *unit;           /* "ms", "bytes", "" */
    size_t offset;              /* offsetof the member in the process's settings struct */
    const char *help;           /* a sentence */
};

/* Tables end with a row whose name is NULL. */

/* A secret that is named instead of given: what NAME_SECRET_ARN says, and where the value goes. */
struct config_reference {
    const struct setting *row;      /* borrowed: constant, or the caller's own table */
    void *settings;                 /* the struct that has the member */
    char *text;                     /* "arn:aws:secretsmanager:..."; owned by the list */
};

enum { CONFIG_REFERENCES_MAX = 16, CONFIG_NAME_BYTES = 80 };

struct config_references { struct config_reference list[CONFIG_REFERENCES_MAX]; size_t count; };

/* Fill settings (zeroed by the caller) from the environment. Secrets that are named are added to *references and have no
 * value yet; NULL: this program asks nobody, and refuses such a name. On failure *why names the first bad variable, never
 * its value. ST_INVALID: also when a secret is both given and named. */
enum status config_load(const struct setting *table, void *settings, struct config_references *references, struct why *why) MUST_USE;

/* The variable by which a secret setting is named: in out. */
const char *config_reference_name(const struct setting *row, char out[CONFIG_NAME_BYTES]);
/* Give a named secret its value, as long as its row wants it, or a live one another. *ret_changed: it was none, or another.
 * ST_INVALID: *why names the variable, never the value. */
enum status config_resolve(const struct config_reference *reference, const void *bytes, size_t len, bool *ret_changed, struct why *why) MUST_USE;
void config_references_end(struct config_references *references);

/* Overwrite and clear every environment variable but PATH, LANG, TZ. Call after the last config_load. */
void config_wipe_environment(void);

/* The folders that settings name: of texts that are an absolute path or file:///path, and of sslrootcert=, sslcert=, sslkey=
 * and sslcrl= in texts and secrets. path is borrowed for the call. */
void config_each_folder(const struct setting *table, const void *settings, void (*visit)(void *ctx, const char *path), void *ctx);
/* Is nothing left in the environment but what config_wipe_environment keeps? */
bool config_is_environment_wiped(void);

/* What tells one configuration from another, for its digest: a line NAME=value of each setting, of a secret only whether
 * there is one. *changed gets the names, separated by commas, of those that are not as their rows say. */
void config_describe(const struct setting *table, const void *settings, struct buffer *lines, struct buffer *changed);

/* Release texts and secrets of settings; may run twice. */
void config_release(const struct setting *table, void *settings);

/* Help for a terminal, and a Markdown table for docs/settings.md. tables: NULL-terminated list. Where one of them says
 * where Secrets Manager is, the names of secrets are told too. */
void config_print_help(FILE *out, const char *process, const char *about, const struct setting *const tables[]);
void config_print_markdown(FILE *out, const char *process, const char *about, const struct setting *const tables[]);

#endif
