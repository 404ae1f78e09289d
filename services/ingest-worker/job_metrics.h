/* job_metrics — the queue as its rows are, asked for at each scrape. Every replica tells the same: whoever adds
 * them up takes the greatest. A scrape without the database shows the last values; readiness shows the cause. */
#ifndef CORDON_INGEST_JOB_METRICS_H
#define CORDON_INGEST_JOB_METRICS_H

#include "db/pool.h"
#include "obs/metrics.h"

/* jobs_db: as cordon_jobs. Waits a few seconds at most. */
void job_metrics_collect(struct db_pool *jobs_db, const char *queue, struct metrics *m);

#endif
