#include "schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "core/worker.h"
#include "db/plain_tx.h"
#include "obs/log.h"

enum { DATABASE_BUDGET_MS = 5000, RUN_MARGIN_MS = 5000, NAMES_BYTES = 1024 };

struct schedule {
    struct schedule_options options;
    char worker_name[128];
    char names[NAMES_BYTES];        /* of the rows, as text[] */
    struct worker worker;
};

bool schedule_should_stop(struct schedule *s) {
    return worker_is_stopping(&s->worker);
}

static const struct schedule_row *find_row(const struct schedule *s, const char *name) {
    for (const struct schedule_row *r = s->options.rows; r->name; r++)
        if (str_equal(r->name, name))
            return r;
    return NULL;
}

static void finish(struct schedule *s, const char *name, int64_t fence, const char *outcome) {
    static const struct sql FINISH = { "finish_schedule", "SELECT jobs.finish_schedule($1, $2, $3)", 3 };
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(s->options.db, &FINISH, (struct db_param[]){ DB_TEXT(name), DB_INT(fence), DB_TEXT(outcome) },
                            clock_mono_ms() + DATABASE_BUDGET_MS, &rows, &why);
    if (st != ST_OK || !db_bool(rows, 0, 0))
        log_event(LOG_WARN, "schedule_not_finished", LOG_TEXT("schedule", name),
                  LOG_TEXT("why", st == ST_OK ? "somebody else has taken over" : why.text));
}

static void run(struct schedule *s, const struct schedule_row *row, int64_t fence) {
    struct why why = { 0 };
    int64_t began_ms = clock_mono_ms();
    enum status st = row->run(s->options.self, began_ms + s->options.run_ms - RUN_MARGIN_MS, &why);
    const char *outcome = st == ST_OK ? "done" : error_text_code(why.code);
    char labels[96];
    (void)snprintf(labels, sizeof labels, "schedule=\"%s\",outcome=\"%s\"", row->name, st == ST_OK ? "done" : "failed");
    counter_add(metrics_counter(s->options.metrics, "cordon_schedule_runs_total", "Runs of scheduled work, by how they ended.", labels), 1);
    log_event(st == ST_OK ? LOG_INFO : LOG_WARN, "schedule_ran", LOG_TEXT("schedule", row->name), LOG_TEXT("outcome", outcome),
              LOG_NUMBER("ms", clock_mono_ms() - began_ms), LOG_TEXT("why", why.text));
    finish(s, row->name, fence, outcome);
}

/* True: something was due and ran, so ask again. */
static bool run_due(struct schedule *s) {
    static const struct sql CLAIM = { "claim_schedule", "SELECT name, fence FROM jobs.claim_schedule($1, $2, $3)", 3 };
    struct why why = { 0 };
    CLEANUP(pgrows_destroy) PGresult *rows = NULL;
    enum status st = db_run(s->options.db, &CLAIM, (struct db_param[]){ DB_TEXT(s->names), DB_TEXT(s->worker_name), DB_INT(s->options.run_ms) },
                            clock_mono_ms() + DATABASE_BUDGET_MS, &rows, &why);
    if (st != ST_OK)
        log_event(LOG_WARN, "schedules_not_claimed", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
    if (st != ST_OK || db_count(rows) == 0)
        return false;
    const struct schedule_row *row = find_row(s, db_text(rows, 0, 0));
    if (row)
        run(s, row, db_i64(rows, 0, 1));
    return row;
}

static void *thread_main(void *arg) {
    struct schedule *s = arg;
    bool again;
    do
        again = run_due(s);
    while (worker_rests(&s->worker, again ? 0 : s->options.poll_ms));
    return NULL;
}

struct schedule *schedule_start(const struct schedule_options *options) {
    struct schedule *s = xalloc(sizeof *s);
    s->options = *options;
    char host[64] = "";
    (void)gethostname(host, sizeof host - 1);
    (void)snprintf(s->worker_name, sizeof s->worker_name, "%s:%ld", host, (long)getpid());
    size_t used = 0;
    for (const struct schedule_row *r = options->rows; r->name; r++)
        used += (size_t)snprintf(s->names + used, sizeof s->names - used, "%s%s", r == options->rows ? "{" : ",", r->name);
    (void)snprintf(s->names + used, sizeof s->names - used, "%s", used ? "}" : "{}");
    worker_start(&s->worker, thread_main, s);
    return s;
}

bool schedule_destroy(struct schedule **s_p, int64_t deadline_ms) {
    struct schedule *s = *s_p;
    if (!s)
        return true;
    if (!worker_stop_by(&s->worker, deadline_ms))
        return false;
    free(s);
    *s_p = NULL;
    return true;
}
