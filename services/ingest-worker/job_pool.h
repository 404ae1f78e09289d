/* job_pool — takes jobs from the queue and keeps hold of them while they run.
 *
 * One coordinator thread owns the conversation with the jobs tables (role cordon_jobs): it claims as
 * many jobs as there are idle threads, prolongs the leases of those that run, hands each its next
 * ticket, and returns to the queue what dead workers left. Job threads run one job each. A wake-up
 * (NOTIFY) only says "look now"; without it the coordinator looks every poll interval. The listener's
 * session says that this worker lives: when it is gone, others need not wait for the leases (jobs.attend). */
#ifndef CORDON_INGEST_JOB_POOL_H
#define CORDON_INGEST_JOB_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/uuid.h"
#include "db/listen.h"
#include "db/pool.h"
#include "obs/trace.h"
#include "service/service.h"

enum { JOB_KIND_BYTES = 33, JOB_THREADS_MAX = 64 };

struct job_pool;

/* A claimed job, as its thread sees it. */
struct job {
    struct uuid id, document_id;
    char kind[JOB_KIND_BYTES];
    int attempt, max_attempts;
    char traceparent[TRACEPARENT_BYTES];    /* of the call that asked for it, or "" */
};

struct job_pool_options {
    const char *queue;
    int threads_count;              /* 1 to JOB_THREADS_MAX */
    int64_t lease_ms;
    int64_t poll_ms;
    struct db_pool *db;             /* cordon_jobs */
    struct db_listener *listener;   /* on jobs_<queue>; used by the coordinator only */
    struct runtime *runtime;
    /* Run one job to its end, and record that end in the database. Called on a job thread that has `bus`. */
    void (*run)(void *self, struct job_pool *pool, const struct job *job, struct bus_client *bus);
    /* Hand back a job whose thread does not end in time. Called on the thread that drains. */
    void (*hand_back)(void *self, struct job_pool *pool, const struct job *job, int64_t deadline_ms);
    void *self;
};

/* Starts the threads. options are copied. ST_INTERNAL: a thread cannot be started. */
enum status job_pool_start(const struct job_pool_options *options, struct job_pool **ret_pool, struct why *why) MUST_USE;
/* Claims nothing more, and waits until the running jobs ended or deadline_ms (clock_mono_ms) passed. Jobs
 * that ask job_should_stop() hand themselves back; those that still run are handed back for them, which may
 * take until give_up_ms. */
void job_pool_drain(struct job_pool *pool, int64_t deadline_ms, int64_t give_up_ms);
/* Ends the threads and frees the pool. False: at deadline_ms a thread still runs, so the pool and all that it
 * uses must stay; it may be called again. */
bool job_pool_destroy(struct job_pool **pool_p, int64_t deadline_ms) MUST_USE;

/* For the running job: the newest ticket, copied into mem. ST_CONFLICT: the lease is lost, stop at once. */
enum status job_ticket(struct job_pool *pool, const struct job *job, struct arena *mem, const char **ret_ticket,
                       struct why *why) MUST_USE;
/* The lease is lost, somebody cancels the job, or the process drains: stop between two steps. */
bool job_should_stop(struct job_pool *pool, const struct job *job);
/* Somebody cancels it: however this attempt ends, unless done, the database ends the job as cancelled. */
bool job_is_cancelled(struct job_pool *pool, const struct job *job);

#endif
