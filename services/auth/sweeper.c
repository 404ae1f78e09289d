#include "sweeper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/clock.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { NAP_MS = 200, SWEEP_MS = 5000 };

struct sweeper {
    struct db_pool *db;
    const struct runtime *rt;
    pthread_t thread;
    atomic_bool is_closing;
};

static void sweep(struct sweeper *s) {
    static const struct sql SWEEP = { "sweep_logins", "SELECT FROM authz.sweep_logins()", 0 };
    struct why why = { 0 };
    if (db_run(s->db, &SWEEP, NULL, clock_mono_ms() + SWEEP_MS, NULL, &why) != ST_OK)
        log_event(LOG_WARN, "sweep_failed", LOG_TEXT("why", why.text));
}

/* True when the thread shall end. */
static bool rest(struct sweeper *s) {
    int64_t until_ms = clock_mono_ms() + SWEEPER_PAUSE_MS;
    while (!atomic_load(&s->is_closing) && clock_mono_ms() < until_ms)
        if (runtime_wait_stop(s->rt, NAP_MS))
            return true;
    return atomic_load(&s->is_closing);
}

static void *run(void *arg) {
    struct sweeper *s = arg;
    while (!rest(s))
        sweep(s);
    return NULL;
}

struct sweeper *sweeper_new(struct db_pool *db, const struct runtime *rt) {
    struct sweeper *s = xalloc(sizeof *s);
    s->db = db;
    s->rt = rt;
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        abort();
    return s;
}

void sweeper_destroy(struct sweeper **sweeper_p) {
    struct sweeper *s = *sweeper_p;
    if (!s)
        return;
    atomic_store(&s->is_closing, true);
    (void)pthread_join(s->thread, NULL);
    free(s);
    *sweeper_p = NULL;
}
