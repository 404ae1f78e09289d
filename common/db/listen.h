/* listen — a connection of its own that waits for NOTIFY. A wake-up may be lost, so whoever uses it
 * also looks by itself now and then; reconnecting counts as a wake-up, for what was missed meanwhile.
 * One thread. */
#ifndef CORDON_DB_LISTEN_H
#define CORDON_DB_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "db/pool.h"
#include "db/rows.h"
#include "db/sql.h"

struct db_listener;

/* channel: a lower-case SQL name ("jobs_ingest"). Connects at the first turn. Options as for a pool. */
enum status db_listener_new(const struct db_options *options, const char *channel, struct db_listener **ret_listener,
                            struct why *why) MUST_USE;
void db_listener_destroy(struct db_listener **listener_p);

/* The descriptor to poll for reading; -1 while not connected. Ask again after every turn. */
int db_listener_fd(const struct db_listener *l);

/* Counts the connections made so far; 0 while there is none. What belongs to a session, like a lock, is to be
 * taken anew when this changes. */
unsigned db_listener_session(const struct db_listener *l);

/* One statement in the listener's own session; parameters and results as db_run. ST_UNAVAILABLE: not connected. */
enum status db_listener_run(struct db_listener *l, const struct sql *q, const struct db_param params[], int64_t deadline_ms,
                            PGresult **ret_rows, struct why *why) MUST_USE;

/* Take what has arrived; connect when not connected and the back-off allows it (at most until
 * deadline_ms). *ret_woken: look for work now. ST_UNAVAILABLE: not connected, call again later. */
enum status db_listener_turn(struct db_listener *l, int64_t deadline_ms, bool *ret_woken, struct why *why) MUST_USE;

#endif
