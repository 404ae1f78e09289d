/* migrate — numbered SQL, up and down. NNNN_name.up.sql and NNNN_name.down.sql are one migration;
 * database.sql is run after every `up`. What was applied, with the SHA-256 of both files, is in
 * migrate.applied. */
#ifndef CORDON_MIGRATE_H
#define CORDON_MIGRATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/secret.h"
#include "core/status.h"
#include "crypto/digest.h"

enum { MIGRATIONS_MAX = 512 };

struct script { const char *text; char sha256[SHA256_HEX_BYTES]; };

struct migration {
    int version;                /* from 1, without gaps */
    const char *name;           /* "roles" */
    struct script up, down;
    bool is_applied;            /* from migrate.applied */
    const char *applied_at;
};

/* One run's state; everything else is in mem. */
struct migrate {
    struct arena *mem;
    PGconn *pg;
    struct migration list[MIGRATIONS_MAX];
    size_t count;
    const char *database_script;
};

/* Read the directory into m. ST_INVALID: gaps, doubles, a half missing, or a name that is not NNNN_name.up|down.sql. */
enum status files_read(struct migrate *m, const char *dir, struct why *why) MUST_USE;

/* Take the advisory lock, make migrate.applied when it is new, and compare it with the files.
 * ST_CONFLICT: an applied migration is unknown here (this tree is older) or one of its files was changed. */
enum status apply_open(struct migrate *m, struct why *why) MUST_USE;
/* Apply everything up to and including version `to`; print a line for each. */
enum status apply_up(struct migrate *m, int to, struct why *why) MUST_USE;
/* Take back everything above version `to`, newest first. */
enum status apply_down(struct migrate *m, int to, struct why *why) MUST_USE;
void apply_status(const struct migrate *m);
/* A new key signs tickets from now on; the old one still verifies those that live. */
enum status apply_new_ticket_key(struct migrate *m, struct why *why) MUST_USE;
/* An operator's word that the bucket of signed heads is ahead of this database, up to number `anchored`. */
enum status apply_recovery(struct migrate *m, int64_t anchored, const char *reason, struct why *why) MUST_USE;

/* One statement as cordon_owner, which holds what nobody else may say; what: in words, for a failure; parameter NULL: it has
 * none. ST_NOT_FOUND: the statement's answer is false. */
enum status apply_owners_word(struct migrate *m, const char *what, const char *statement, const char *parameter, struct why *why) MUST_USE;

/* ALTER ROLE ... PASSWORD with a SCRAM verifier computed here: the password itself never travels. */
enum status apply_password(struct migrate *m, const char *role, const struct secret *password, struct why *why) MUST_USE;

int migrate_main(int argc, char **argv);

#endif
