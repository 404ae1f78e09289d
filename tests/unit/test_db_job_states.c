/* job_states.def against the constraint and the table of moves that the database enforces. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/scopes.h"
#include "support/pg.h"

static const char *const STATES[] = {
#define JOB_STATE(id, text, crash) text,
#include "db/job_states.def"
#undef JOB_STATE
};

enum job_state {
#define JOB_STATE(id, text, crash) id,
#include "db/job_states.def"
#undef JOB_STATE
    JOB_STATE_COUNT
};

static const struct { enum job_state from, to; const char *by; } MOVES[] = {
#define JOB_MOVE(from, to, by) { from, to, by },
#include "db/job_states.def"
#undef JOB_MOVE
};

TestSuite(db_job_states, .init = pg_open, .fini = pg_close, .timeout = 60);

Test(db_job_states, the_check_has_the_same_states) {
    const char *check = pg_ask(pg_admin(), "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'jobs_state'");
    size_t quoted = 0;
    for (const char *c = check; (c = strstr(c, "'::text")); c++)
        quoted++;
    cr_assert_eq(quoted, (size_t)JOB_STATE_COUNT, "%s", check);
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        char needle[64];
        snprintf(needle, sizeof needle, "'%s'::text", STATES[i]);
        cr_expect(strstr(check, needle), "%s lacks %s", check, needle);
    }
}

Test(db_job_states, the_moves_are_the_same) {
    enum { COUNT = sizeof MOVES / sizeof *MOVES };
    char want[8];
    snprintf(want, sizeof want, "%d", COUNT);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM jobs.moves"), want);
    for (int i = 0; i < COUNT; i++)
        cr_expect_str_eq(pg_ask(pg_admin(), "SELECT by_what FROM jobs.moves WHERE from_state = '%s' AND to_state = '%s'",
                                STATES[MOVES[i].from], STATES[MOVES[i].to]), MOVES[i].by);
}

Test(db_job_states, every_state_can_be_reached_from_queued) {
    bool reached[JOB_STATE_COUNT] = { [JOB_QUEUED] = true };
    for (int round = 0; round < JOB_STATE_COUNT; round++)
        for (size_t i = 0; i < sizeof MOVES / sizeof *MOVES; i++)
            if (reached[MOVES[i].from])
                reached[MOVES[i].to] = true;
    for (int i = 0; i < JOB_STATE_COUNT; i++)
        cr_expect(reached[i], "%s", STATES[i]);
}

/* The scopes of tickets: the C table against the policy tables (a job's scope is made by jobs.claim). */
Test(db_job_states, scopes_are_the_same) {
    static const char *const scopes[] = {
#define SCOPE(id, bit, text) text,
#include "core/scopes.def"
#undef SCOPE
    };
    int granted = 0;        /* those that roles may hold: jobs have theirs from the queue */
    for (size_t i = 0; i < sizeof scopes / sizeof *scopes; i++)
        if (strncmp(scopes[i], "job:", 4) != 0) {
            granted++;
            cr_expect_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.scopes WHERE name = '%s'", scopes[i]), "1", "%s", scopes[i]);
        }
    cr_expect_str_eq(pg_ask(pg_admin(), "SELECT (count(*) = %d)::text FROM auth.scopes", granted), "true");
    cr_expect_eq(scope_from_text("query", 5), (uint64_t)SCOPE_QUERY);
}
