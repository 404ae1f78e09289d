/* job_run — one attempt at a job: what every kind of work holds, and how it takes its steps. Each step has a fresh ticket
 * and a budget of its own, so an attempt may take as long as it lives. One thread's. */
#ifndef CORDON_INGEST_JOB_RUN_H
#define CORDON_INGEST_JOB_RUN_H

#include "bus/bus.h"
#include "db/tenant_tx.h"
#include "ingest.h"
#include "verdict.h"

enum { STEP_BUDGET_MS = 30000 };    /* for one transaction, or one call to another service */

struct job_run {
    struct ingest *ingest;
    struct job_pool *pool;
    const struct job *job;
    uint64_t scope;                 /* that the job's ticket carries */
    struct call call;               /* our own: a job is a caller, and has no request above it */
    struct arena *mem;              /* the attempt's: what each of many steps needs has no place in it */
    struct arena *ticket_mem;       /* of the step's ticket; NULL before the first */
    enum job_step step;
    struct claims claims;           /* after the first transaction */
};

/* ST_UNAVAILABLE: the process stops; ST_CONFLICT: the lease is lost. */
enum status job_run_step(struct job_run *run, enum job_step step, int64_t budget_ms) MUST_USE;
/* A step that is a transaction. Statuses of job_run_step and tenant_tx_begin. */
enum status job_run_tx(struct job_run *run, struct tenant_tx *tx) MUST_USE;
/* One statement and its COMMIT. A job made of many such ends between two of them when it is to stop. ret_rows may be NULL. */
enum status job_run_ask(struct job_run *run, const struct sql *q, const struct db_param params[], PGresult **ret_rows) MUST_USE;

/* The kinds of work. ST_OK: the job is over in the database, too. */
enum status ingest_document(struct job_run *run) MUST_USE;      /* ingest_job.c */
enum status erase(struct job_run *run) MUST_USE;                /* erasure.c */
enum status pack_evidence(struct job_run *run) MUST_USE;        /* evidence_job.c */
enum status rewrap_keys(struct job_run *run) MUST_USE;          /* rotation.c */
enum status promote_vectors(struct job_run *run) MUST_USE;      /* promotion.c */
enum status reembed(struct job_run *run) MUST_USE;              /* reembed.c */

#endif
