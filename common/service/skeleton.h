/* skeleton — what the files of common/service share: the settings that every process has, the worker
 * pool, and the health answers. Private to common/service. */
#ifndef CORDON_SERVICE_SKELETON_H
#define CORDON_SERVICE_SKELETON_H

#include <pthread.h>

#include "bus/options.h"
#include "bus/serve.h"
#include "obs/listener.h"
#include "obs/log.h"
#include "otlp/otlp.h"
#include "service/service.h"
#include "service/stop.h"

/* ---- settings of every process: rows depend on whom it talks with and whether it serves ---- */

struct skeleton_values {
    const char *environment, *log_level, *metrics_listen, *bus_listen;
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

/* ---- health ---- */

struct health {
    const struct service *svc;
    void *self;
    const struct runtime *rt;
    int64_t started_us;
};

void health_collect(void *health);
void health_ready(void *health, struct health_report *report);

#endif
