/* line — the line before one model: whose call goes next (fair.h), how many may be on their way (pace.h), and none while the
 * model is away (breaker.h). Interactive calls go first, but of nine one is a batch's when both wait. Pure state without
 * threads or clocks: the caller has a lock around it and gives the time, clock_mono_us(). */
#ifndef CORDON_EMBEDDING_LINE_H
#define CORDON_EMBEDDING_LINE_H

#include "breaker.h"
#include "core/status.h"
#include "fair.h"
#include "obs/metrics.h"
#include "pace.h"

struct line;

struct line_options {
    const char *model;                      /* label of its metrics: "embed" */
    unsigned most_at_once;                  /* from 2 */
    int64_t requests_per_minute, tokens_per_minute;     /* 0: no limit */
    unsigned breaker_failures;
    struct metrics *metrics;
};

/* One call to the model, from line_join to line_leave or line_withdraw. */
struct turn {
    struct fair_item item;                  /* first: the queue knows a turn by it */
    struct uuid tenant;
    double weight;
    enum pace_class class;
    uint32_t tokens;                        /* about what it will take, at least 1 */
    /* the line's own */
    enum { TURN_NONE, TURN_WAITS, TURN_GOES } state;
    int64_t since_us;                       /* in this state */
    uint64_t begun;
    bool is_trial;
};

enum line_outcome {
    LINE_GOOD, LINE_THROTTLED,
    LINE_FAILED,                            /* the model or the way there is to blame */
    LINE_UNKNOWN,                           /* nobody wanted it any more, or we asked for something wrong */
};

struct line *line_new(const struct line_options *options, int64_t now_us);
/* No turn may be in it. */
void line_destroy(struct line **line_p);

void line_join(struct line *line, struct turn *turn, int64_t now_us);
/* The turn that goes now; NULL: none may. */
struct turn *line_next(struct line *line, int64_t now_us);
/* When line_next may have one though nothing has happened; INT64_MAX: never. As of the last line_next. */
int64_t line_wake_us(const struct line *line);
/* Before line_next has given it: it goes nowhere. */
void line_withdraw(struct line *line, struct turn *turn);
/* A turn that went has ended. tokens: what it took. asked_ms: the model's Retry-After, of a throttled one. */
void line_leave(struct line *line, struct turn *turn, enum line_outcome outcome, uint32_t tokens, int64_t asked_ms, int64_t now_us);
/* A throttled turn that has left joins before the others of its tenant. */
void line_rejoin(struct line *line, struct turn *turn, int64_t now_us);

/* ST_UNAVAILABLE MODEL_001 with when to come back while the model is away: nothing that waits will go. */
enum status line_status(const struct line *line, int64_t now_us, struct why *why) MUST_USE;

/* What the end of a turn's call says of the model. */
enum line_outcome line_judge(const struct turn *turn, enum status st, const struct why *why, bool is_unwanted, int64_t now_us);

size_t line_waiting(const struct line *line, enum pace_class class);
/* Gauges for a scrape. */
void line_collect(const struct line *line, int64_t now_us);

#endif
