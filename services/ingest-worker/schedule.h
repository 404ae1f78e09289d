/* schedule — work that is due now and then: housekeeping. When it is due is in the database (jobs.schedules), what it is
 * in a constant table here; one thread asks for what is due, and the database gives each run to one replica. A run that
 * its process did not survive is given to another when its lease is over, so a run must be safe to repeat. */
#ifndef CORDON_INGEST_SCHEDULE_H
#define CORDON_INGEST_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "db/pool.h"
#include "obs/metrics.h"

struct schedule_row {
    const char *name;               /* as in jobs.schedules; NULL ends the table */
    /* Runs on the schedule's thread, until deadline_ms at most. What fails is shown to operators, and comes again. */
    enum status (*run)(void *self, int64_t deadline_ms, struct why *why);
};

struct schedule_options {
    const struct schedule_row *rows;
    struct db_pool *db;             /* cordon_jobs */
    struct metrics *metrics;
    int64_t poll_ms, run_ms;        /* how often to ask; how long a run may take */
    void *self;
};

struct schedule;

/* Starts the thread. */
struct schedule *schedule_start(const struct schedule_options *options);
/* For the running function, from its thread: the process stops. */
bool schedule_should_stop(struct schedule *s);
/* Ends the thread and frees the schedule. False: at deadline_ms a run goes on, so all that it uses must stay; it may be
 * called again. */
bool schedule_destroy(struct schedule **s_p, int64_t deadline_ms) MUST_USE;

#endif
