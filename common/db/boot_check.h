/* boot_check — a process refuses to start when its database role can do more than its duty.
 *
 * Everything that the role may do is read from the catalogue and compared with grants.def, the list
 * of what it should; more is refused, and less as well (the schema is not the one that this binary was
 * made for). Also refused: superuser, BYPASSRLS, CREATEROLE, CREATEDB, REPLICATION, membership in any
 * role, ownership of anything, settings of the role, TEMP or CREATE anywhere, a tenant table or
 * partition without forced row-level security, and a vector extension that is missing (in production
 * also one before 0.8.2: CVE-2026-3172). */
#ifndef CORDON_DB_BOOT_CHECK_H
#define CORDON_DB_BOOT_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "core/uuid.h"
#include "db/pool.h"

/* role: "cordon_query"; the pool's connection must be that one. ST_FORBIDDEN with the first thing that
 * is wrong; ST_UNAVAILABLE, ST_TIMEOUT: could not ask. Also fit for /ready. */
enum status db_boot_check(struct db_pool *pool, const char *role, bool is_production, int64_t deadline_ms,
                          struct why *why) MUST_USE;

/* Put the process's start on the record, through the outbox: which, the start's id, its version, a digest of its settings (64 hexadecimal
 * digits) and the names of those that are not the default, separated by commas; "" when the process has no settings, as in
 * tests: then nothing is recorded. ST_FORBIDDEN: the pool's role is not that process's. */
enum status db_record_start(struct db_pool *pool, const char *process, const struct uuid *instance, const char *version, const char *settings_sha256,
                            const char *settings_changed, int64_t deadline_ms, struct why *why) MUST_USE;

/* The same for a process without a database, which has said so on the bus: instance tells its starts apart, and one that is
 * said twice is recorded once. ST_INVALID: no version or settings of the form that a process prints. */
enum status db_record_reported_start(struct db_pool *pool, const char *process, const struct uuid *instance, const char *version,
                                     const char *settings_sha256, const char *settings_changed, int64_t deadline_ms, struct why *why) MUST_USE;

/* The end of such a start, of the pool's own process or of one that has said so on the bus; nothing happens when the start is not on
 * the record, or its end is. */
enum status db_record_end(struct db_pool *pool, const char *process, const struct uuid *instance, int64_t deadline_ms, struct why *why) MUST_USE;

#endif
