/* gate — a line (line.h) that threads wait in: its lock, and where they sleep. Whoever has a turn in the line waits for it, and
 * while it waits keeps the line's time. A chat call is made by the thread that waits; embed_pool has threads for its calls. */
#ifndef CORDON_EMBEDDING_GATE_H
#define CORDON_EMBEDDING_GATE_H

#include <pthread.h>

#include "line.h"

struct gate {
    pthread_mutex_t lock;           /* guards the line */
    pthread_cond_t changed;         /* for those who have a turn in the line */
    struct line *line;
};

/* For how long somebody waits. */
struct patience {
    int64_t deadline_ms;
    bool (*is_unwanted)(void *ctx); /* asked at least once a second; NULL: always wanted */
    void *ctx;
    struct why throttled;           /* why the last try was refused; code ERR_NONE: there was none */
};

void gate_init(struct gate *gate, const struct line_options *options);
/* Nobody may be in it. */
void gate_end(struct gate *gate);

/* Wait until it is the turn's, which then must leave. is_again: it was throttled and goes before its tenant's others.
 * ST_UNAVAILABLE: the model is away (MODEL_001), or nobody wants it any more; ST_LIMITED, MODEL_002: the time is over, and it
 * was throttled; ST_TIMEOUT. */
enum status gate_enter(struct gate *gate, struct turn *turn, bool is_again, const struct patience *patience, struct why *why) MUST_USE;
/* As line_leave. */
void gate_leave(struct gate *gate, struct turn *turn, enum line_outcome outcome, uint32_t tokens, int64_t asked_ms);

/* Gauges for a scrape. */
void gate_collect(struct gate *gate);

/* ---- for embed_pool, with the lock held ---- */

/* ST_OK: waiting may yet help. Else as gate_enter. */
enum status gate_standing(struct gate *gate, const struct patience *patience, struct why *why) MUST_USE;
/* Sleep until something changes, the line has a turn by the clock, or patience is to be asked again. */
void gate_sleep(struct gate *gate, const struct patience *patience);

#endif
