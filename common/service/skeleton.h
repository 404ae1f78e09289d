/* skeleton — what the files of common/service share: the settings that every process has, the worker
 * pool, and the health answers. Private to common/service. */
#ifndef CORDON_SERVICE_SKELETON_H
#define CORDON_SERVICE_SKELETON_H

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "bus/options.h"
#include "bus/serve.h"
#include "obs/listener.h"
#include "obs/log.h"
#include "otlp/otlp.h"
#include "service/service.h"
#include "service/stop.h"

/* ---- settings of every process: rows depend on whom it talks with and whether it serves ---- */

struct skeleton_values {
    const char *environment, *log_level, *metrics_listen, *bus_listen, *required_hardening;
    struct secret *curve_secret_key;
    int64_t worker_count, queue_count;
    const char *public_keys[PEER_COUNT], *endpoints[PEER_COUNT];
    struct otlp_settings otlp;
};

enum { SKELETON_ROWS_MAX = 16 + 2 * PEER_COUNT, SKELETON_NAME_BYTES = 64 };

struct skeleton_table {
    struct setting rows[SKELETON_ROWS_MAX];
    char names[2 * PEER_COUNT][SKELETON_NAME_BYTES];
    unsigned row_count, name_count;
};

unsigned service_callers(const struct service *svc);        /* union of its routes' peers */
void skeleton_table_fill(struct skeleton_table *table, const struct service *svc);

/* ---- workers ---- */

struct pool;

/* ST_UNAVAILABLE: a thread could not be made. */
enum status pool_start(const struct service *svc, void *self, const struct runtime *rt, unsigned worker_count,
                       struct pool **ret_pool, struct why *why) MUST_USE;
/* After bus_halt: join all; false when some still run at deadline_ms (the pool then stays). */
bool pool_join(struct pool **pool_p, int64_t deadline_ms);

/* ---- the start of a process that has no database (announce.c) ---- */

struct announce;

/* A thread asks by method ("audit.RecordStart") until the start is on the record or the process stops. */
struct announce *announce_new(const struct runtime *rt, const char *method);
bool announce_is_recorded(const struct announce *a);        /* NULL: there is nothing to record */
/* The same method is told that what it has put on the record has ended. NULL: nothing. */
enum status announce_end(struct announce *a, int64_t deadline_ms, struct why *why) MUST_USE;
void announce_destroy(struct announce **announce_p);        /* once the process is stopping and the bus halts */

/* ---- hardening: what the process gave up, in the order in which it does (harden.c) ---- */

enum hardening_step {
    HARDEN_NO_NEW_PRIVS, HARDEN_CAPABILITIES, HARDEN_NO_CORE_DUMPS, HARDEN_LOCKED_MEMORY, HARDEN_ENVIRONMENT, HARDEN_LANDLOCK,
    HARDEN_SYSTEM_CALLS, HARDEN_COUNT
};

enum { HARDENING_TEXT_BYTES = 160 };

struct hardening { struct { bool is_done; char text[HARDENING_TEXT_BYTES]; } steps[HARDEN_COUNT]; };

const char *hardening_name(enum hardening_step step);
/* Before settings are read: new rights, capabilities, dumps, limits. ST_INTERNAL: the kernel refused. */
enum status harden_begin(struct hardening *h, struct why *why) MUST_USE;
/* After they are read and before the first thread: files, ports and system calls. ST_INVALID: the setting names no step.
 * ST_FORBIDDEN: a step that is required is not to be had here. */
enum status harden_finish(struct hardening *h, const struct service *svc, const void *settings, const struct skeleton_values *values,
                          const struct setting *rows, bool is_production, struct why *why) MUST_USE;

/* ---- health ---- */

struct health {
    const struct service *svc;
    void *self;
    const struct runtime *rt;
    const struct hardening *hardening;
    const struct announce *announce;    /* NULL: the process records its start itself */
    int64_t started_us;
    int statm_fd;               /* of /proc/self, open since before it was out of reach; -1 */
    DIR *open_files;            /* likewise; NULL */
};

void health_open(struct health *h);
void health_close(struct health *h);

void health_collect(void *health);
void health_ready(void *health, struct health_report *report);

#endif
