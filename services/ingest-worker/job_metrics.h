/* job_metrics — the queue, and the work on tenants as wholes, as their rows are, asked for at each scrape while it is short; a long one is counted again only
 * after up to a minute, because counting takes longer the more there is. Every replica tells the same: whoever adds them
 * up takes the greatest. A scrape without the database shows the last values; readiness shows the cause. */
#ifndef CORDON_INGEST_JOB_METRICS_H
#define CORDON_INGEST_JOB_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "db/pool.h"
#include "obs/metrics.h"

/* One for a process; zeros at first. */
struct job_gauges { _Atomic int64_t count_at_ms; };     /* until then (clock_mono_ms) the last count stands */

/* jobs_db: as cordon_jobs. rotation_days: a tenant's key that is older is due. Waits a few seconds at most. From any thread. */
void job_metrics_collect(struct job_gauges *gauges, struct db_pool *jobs_db, const char *queue, int64_t rotation_days,
                         struct metrics *m);

#endif
