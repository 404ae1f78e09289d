#include "sweeper.h"

#include <stdlib.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/worker.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { SWEEP_MS = 5000 };

struct sweeper {
    struct db_pool *db;
    struct worker worker;
};

static void sweep(struct sweeper *s) {
    static const struct sql SWEEP = { "sweep_logins", "SELECT FROM authz.sweep_logins()", 0 };
    struct why why = { 0 };
    if (db_run(s->db, &SWEEP, NULL, clock_mono_ms() + SWEEP_MS, NULL, &why) != ST_OK)
        log_event(LOG_WARN, "sweep_failed", LOG_TEXT("why", why.text));
}

static void *run(void *arg) {
    struct sweeper *s = arg;
    while (worker_rests(&s->worker, SWEEPER_PAUSE_MS))
        sweep(s);
    return NULL;
}

struct sweeper *sweeper_new(struct db_pool *db) {
    struct sweeper *s = xalloc(sizeof *s);
    s->db = db;
    worker_start(&s->worker, run, s);
    return s;
}

void sweeper_destroy(struct sweeper **sweeper_p) {
    struct sweeper *s = *sweeper_p;
    if (!s)
        return;
    worker_stop(&s->worker);
    free(s);
    *sweeper_p = NULL;
}
