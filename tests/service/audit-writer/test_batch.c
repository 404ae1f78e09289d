/* Batches against a real PostgreSQL: places without gaps, repeats and conflicts, refusals that stay alone, several
 * writers at once. */
#include <pthread.h>
#include <unistd.h>

#include "claims.h"
#include "committer.h"
#include "rig.h"

TestSuite(audit_batch, .init = rig_open, .fini = rig_close, .timeout = 120);

static const char *ticket_a(void) { return pg_ticket(PG_SLUG_A, "clinician", "alice"); }
static const char *ticket_b(void) { return pg_ticket(PG_SLUG_B, "clinician", "bob"); }

#define WAITS_SQL "datname = current_database() AND wait_event_type = 'Lock'"       /* in pg_stat_activity: others have tests in the same cluster */

static bool does_anybody_wait(void) {
    return *pg_ask(pg_admin(), "SELECT count(*) FROM pg_stat_activity WHERE " WAITS_SQL) != '0';
}

Test(audit_batch, many_tenants_commit_together_each_into_its_own_tree) {
    struct rig_call calls[7];
    const char *a = ticket_a(), *b = ticket_b();
    for (int i = 0; i < 7; i++)
        rig_call(&calls[i], AUDIT_SEARCH_DISCLOSE, i % 3 == 2 ? b : a, NULL, NULL);
    cr_assert_eq(rig_commit(calls, 7), ST_OK);
    int64_t want[7] = { 0, 1, 0, 2, 3, 1, 4 };
    for (int i = 0; i < 7; i++) {
        cr_expect_eq(calls[i].call.status, ST_OK, "%s", calls[i].call.why.text);
        cr_expect_eq(calls[i].stamp.seq, want[i]);
        rig_call_end(&calls[i]);
    }
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 5);
    cr_assert_eq(rig_check_tree(PG_TENANT_B), 2);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_logs l JOIN auth.users u ON u.id = l.actor_id AND u.tenant_id = l.tenant_id "
        "WHERE l.session_id IS NOT NULL AND convert_from(l.event, 'UTF8')::jsonb ->> 'actor_id' = u.id::text"), "7", "the ticket's user, in column and event");
}

Test(audit_batch, a_repeat_is_acknowledged_with_its_first_place) {
    struct uuid id = uuid_v7();
    struct rig_call first, other, again;
    const char *a = ticket_a();
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    rig_call(&other, AUDIT_SEARCH_DISCLOSE, a, NULL, NULL);
    rig_call(&again, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    cr_assert_eq(rig_commit(&first, 1), ST_OK);
    cr_assert_eq(rig_commit(&other, 1), ST_OK);
    cr_assert_eq(rig_commit(&again, 1), ST_OK);
    cr_assert_eq(again.call.status, ST_OK);
    cr_assert_eq(again.stamp.seq, 0);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    rig_call_end(&first);
    rig_call_end(&other);
    rig_call_end(&again);
}

Test(audit_batch, an_id_with_other_content_is_refused_and_nothing_is_replaced) {
    struct uuid id = uuid_v7();
    struct rig_call calls[5];
    const char *a = ticket_a();
    rig_call(&calls[0], AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    rig_call(&calls[1], AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A2, &id);            /* other document, same batch */
    rig_call(&calls[2], AUDIT_SEARCH_DISCLOSE, ticket_b(), DOCUMENT_A1, &id);   /* other tenant */
    rig_call(&calls[3], AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);            /* a repeat within the batch */
    rig_call(&calls[4], AUDIT_SEARCH_DISCLOSE, a, NULL, NULL);
    cr_assert_eq(rig_commit(calls, 5), ST_OK);
    enum status want[5] = { ST_OK, ST_CONFLICT, ST_CONFLICT, ST_OK, ST_OK };
    for (int i = 0; i < 5; i++)
        cr_expect_eq(calls[i].call.status, want[i], "%d: %s", i, calls[i].call.why.text);
    cr_assert_eq(calls[3].stamp.seq, calls[0].stamp.seq);
    cr_assert_eq(rig_commit(&calls[1], 1), ST_OK);
    cr_assert_eq(calls[1].call.status, ST_CONFLICT, "later as well");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    cr_assert_eq(rig_check_tree(PG_TENANT_B), 0);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT document_ids FROM audit.audit_logs WHERE event_id = '%s'", rig_text(&id)), "{" DOCUMENT_A1 "}");
    for (int i = 0; i < 5; i++)
        rig_call_end(&calls[i]);
}

Test(audit_batch, a_refused_ticket_fails_its_own_call_only) {
    const char *revoked = pg_ticket(PG_SLUG_A, "clinician", "mallory");
    pg_ask(pg_admin(), "UPDATE auth.sessions s SET revoked_at = now() FROM auth.users u WHERE u.id = s.user_id AND u.subject = 'mallory'");
    const char *good = ticket_a();
    char altered[4096];
    snprintf(altered, sizeof altered, "%s", good);
    altered[strlen(altered) - 1] = altered[strlen(altered) - 1] == '0' ? '1' : '0';
    const char *expired = pg_forge("{\"kind\":\"user\",\"tenant_id\":\"" PG_TENANT_A "\",\"user_id\":\"" DOCUMENT_A1 "\",\"session_id\":\"" DOCUMENT_A1
                                   "\",\"scopes\":[\"query\"],\"expires_at\":\"2020-01-01T00:00:00Z\"}");
    const char *tickets[] = { good, revoked, altered, "", expired, "1.1.7b7d.00", good };
    struct rig_call calls[7];
    for (int i = 0; i < 7; i++)
        rig_call(&calls[i], AUDIT_SEARCH_DISCLOSE, tickets[i], NULL, NULL);
    cr_assert_eq(rig_commit(calls, 7), ST_OK);
    for (int i = 0; i < 7; i++) {
        cr_expect_eq(calls[i].call.status, i == 0 || i == 6 ? ST_OK : ST_UNAUTHENTICATED, "%d: %s", i, calls[i].call.why.text);
        rig_call_end(&calls[i]);
    }
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
}

/* A deadline that has passed: who asks the database hears of it. */
static bool are_kept(struct claims_memory *memory, struct batch_call *calls[], size_t count) {
    struct why why = { 0 };
    return claims_fill(memory, rig_pool(), calls, count, clock_mono_ms() - 1, &why) == ST_OK;
}

Test(audit_batch, no_ticket_pushes_out_another_that_is_in_use) {
    enum { TICKETS = 128, TRIES = 50, WELL_WITHIN_MS = 150 };
    struct rig_call calls[TICKETS];
    struct batch_call *list[TICKETS];
    struct why why = { 0 };
    for (int i = 0; i < TICKETS; i++) {
        rig_call(&calls[i], AUDIT_DOCUMENT_READ, ticket_a(), DOCUMENT_A1, NULL);
        list[i] = &calls[i].call;
    }
    bool kept = false, in_time = false;
    for (int i = 0; !in_time && i < TRIES; i++) {       /* they are kept for 250 ms, which a slow machine may be away for */
        struct claims_memory *memory = claims_memory_new();
        int64_t began_ms = clock_mono_ms();
        cr_assert_eq(claims_fill(memory, rig_pool(), list, TICKETS, began_ms + 10000, &why), ST_OK, "%s", why.text);
        kept = are_kept(memory, list, TICKETS);
        in_time = clock_mono_ms() - began_ms < WELL_WITHIN_MS;
        claims_memory_destroy(&memory);
    }
    cr_assert(kept || !in_time);
    for (int i = 0; i < TICKETS; i++)
        rig_call_end(&calls[i]);
}

Test(audit_batch, events_of_one_call_are_all_or_none) {
    struct uuid taken = uuid_v7();
    const char *a = ticket_a();
    struct rig_call first;
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &taken);
    cr_assert_eq(rig_commit(&first, 1), ST_OK);

    struct audit_event *events[3] = { rig_event(AUDIT_SEARCH_DISCLOSE, a, NULL, NULL), rig_event(AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A2, &taken),
                                      rig_event(AUDIT_SEARCH_DISCLOSE, a, NULL, NULL) };
    struct audit_stamp stamps[3] = { 0 };
    struct batch_call call = { .events = events, .count = 3, .ticket = a, .stamps = stamps };
    struct why why = { 0 };
    cr_assert_eq(batch_commit(rig_pool(), NULL, (struct batch_call *[]){ &call }, 1, clock_mono_ms() + 5000, &why), ST_OK);
    cr_assert_eq(call.status, ST_CONFLICT);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1);
    for (int i = 0; i < 3; i++)
        audit_event_destroy(&events[i]);
    rig_call_end(&first);
}

Test(audit_batch, a_jobs_ticket_speaks_for_the_user_who_asked) {
    const char *asker = ticket_a();
    PGconn *ingest = pg_connect("cordon_ingest"), *jobs = pg_connect("cordon_jobs");
    pg_ask(ingest, "BEGIN; SELECT * FROM authz.enter('%s')", asker);
    pg_ask(ingest, "SELECT jobs.enqueue('01920000-0000-7000-8000-0000000000e1', 'ingest', 'ingest', '" DOCUMENT_A1 "')");
    pg_ask(ingest, "COMMIT");
    const char *job = pg_ask(jobs, "SELECT ticket FROM jobs.claim('ingest', 'w', 1, 60000)");
    rig_append(AUDIT_MODEL_DISCLOSE, job, DOCUMENT_A1);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT job_id || ' ' || (session_id IS NULL) || ' ' || (SELECT subject FROM auth.users u WHERE u.id = actor_id) "
        "FROM audit.audit_logs WHERE action = 'model.disclose'"), "01920000-0000-7000-8000-0000000000e1 true alice");

    pg_ask(pg_admin(), "UPDATE jobs.jobs SET lease_until = now() - interval '1 s'");
    struct rig_call late;
    rig_call(&late, AUDIT_MODEL_DISCLOSE, job, DOCUMENT_A1, NULL);
    cr_assert_eq(rig_commit(&late, 1), ST_OK);
    cr_assert_eq(late.call.status, ST_UNAUTHENTICATED, "the lease is lost");
    rig_call_end(&late);
    PQfinish(ingest);
    PQfinish(jobs);
}

Test(audit_batch, events_without_a_tenant_have_their_own_tree) {
    struct rig_call c;
    rig_call(&c, AUDIT_AUTH_DENIED, NULL, NULL, NULL);
    cr_assert_eq(rig_commit(&c, 1), ST_OK);
    cr_assert_eq(c.call.status, ST_OK);
    rig_call_end(&c);
    rig_append(AUDIT_TENANT_READ, pg_ticket(NULL, "platform_admin", "root"), NULL);
    cr_assert_eq(rig_check_tree(NIL_TENANT), 2, "also the platform's people");
}

Test(audit_batch, nothing_remains_of_a_batch_that_the_database_refuses) {
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads ADD CONSTRAINT full_disk CHECK (size < 2)");
    struct rig_call calls[3];
    const char *a = ticket_a(), *b = ticket_b();
    for (int i = 0; i < 3; i++)
        rig_call(&calls[i], AUDIT_SEARCH_DISCLOSE, i == 2 ? b : a, NULL, NULL);
    cr_assert_eq(rig_commit(calls, 3), ST_OK, "call by call what can be committed is");
    cr_expect_eq(calls[0].call.status, ST_OK);
    cr_expect_neq(calls[1].call.status, ST_OK);
    cr_expect_eq(calls[2].call.status, ST_OK);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1);
    cr_assert_eq(rig_check_tree(PG_TENANT_B), 1);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads DROP CONSTRAINT full_disk");
    cr_assert_eq(rig_commit(&calls[1], 1), ST_OK, "the same again, once it can");
    cr_assert_eq(calls[1].stamp.seq, 1);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    for (int i = 0; i < 3; i++)
        rig_call_end(&calls[i]);
}

Test(audit_batch, a_head_that_contradicts_itself_is_not_built_upon) {
    const char *a = ticket_a();
    rig_append(AUDIT_SEARCH_DISCLOSE, a, NULL);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads DISABLE TRIGGER ALL; UPDATE audit.audit_heads SET root = sha256('forged')");
    struct rig_call c;
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, a, NULL, NULL);
    cr_assert_eq(rig_commit(&c, 1), ST_INTERNAL);
    rig_call_end(&c);
}

/* ---- on heads as they were left ---- */

static enum status commit_with(struct batch_memory *memory, struct rig_call *c) {
    struct why why = { 0 };
    return batch_commit(rig_pool(), memory, (struct batch_call *[]){ &c->call }, 1, clock_mono_ms() + 5000, &why);
}

/* Put a fresh event of A on the log and return its place, or -1 */
static int64_t append_with(struct batch_memory *memory, const char *ticket) {
    struct rig_call c;
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, ticket, DOCUMENT_A1, NULL);
    bool is_on = commit_with(memory, &c) == ST_OK && c.call.status == ST_OK;
    int64_t seq = is_on ? c.stamp.seq : -1;
    rig_call_end(&c);
    return seq;
}

Test(audit_batch, a_writer_alone_needs_neither_lock_nor_look_before_it_puts) {
    struct batch_memory *memory = batch_memory_new();
    const char *a = ticket_a(), *b = ticket_b();
    cr_assert_eq(append_with(memory, a), 0, "where the head is nobody knows yet");
    pg_ask(pg_admin(), "ALTER FUNCTION audit.lock_heads(uuid[]) RENAME TO hidden; ALTER FUNCTION audit.find_events(uuid[]) RENAME TO hidden_too");
    for (int i = 1; i < 300; i++)
        cr_assert_eq(append_with(memory, a), i);
    cr_assert_eq(append_with(memory, b), -1, "another tenant's head is not known");
    pg_ask(pg_admin(), "ALTER FUNCTION audit.hidden(uuid[]) RENAME TO lock_heads");
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM (SELECT recorded_at < lag(recorded_at) OVER (ORDER BY seq) OR recorded_at > now() AS odd "
        "FROM audit.audit_logs WHERE tenant_id = '" PG_TENANT_A "') x WHERE odd"), "0", "times of a tree do not go back");
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 300);
    batch_memory_destroy(&memory);
}

Test(audit_batch, a_head_that_another_writer_has_moved_is_looked_for) {
    struct batch_memory *memories[2] = { batch_memory_new(), batch_memory_new() };
    const char *a = ticket_a();
    for (int i = 0; i < 40; i++)
        cr_assert_eq(append_with(memories[i / 3 % 2], a), i);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 40);
    for (int i = 0; i < 2; i++)
        batch_memory_destroy(&memories[i]);
}

Test(audit_batch, a_repeat_and_a_conflict_are_found_without_looking_first) {
    struct batch_memory *memory = batch_memory_new();
    struct uuid id = uuid_v7();
    struct rig_call first, again, other;
    const char *a = ticket_a();
    cr_assert_eq(append_with(memory, a), 0);
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    rig_call(&again, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    rig_call(&other, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A2, &id);
    cr_assert_eq(commit_with(memory, &first), ST_OK);
    cr_assert_eq(commit_with(memory, &again), ST_OK);
    cr_expect_eq(again.call.status, ST_OK, "%s", again.call.why.text);
    cr_expect_eq(again.stamp.seq, 1);
    cr_assert_eq(append_with(memory, a), 2);
    cr_assert_eq(commit_with(memory, &other), ST_OK);
    cr_expect_eq(other.call.status, ST_CONFLICT);
    cr_assert_eq(append_with(memory, a), 3);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 4);
    rig_call_end(&first);
    rig_call_end(&again);
    rig_call_end(&other);
    batch_memory_destroy(&memory);
}

Test(audit_batch, a_tree_that_was_changed_is_not_built_upon_from_memory) {
    struct batch_memory *memory = batch_memory_new();
    const char *a = ticket_a();
    cr_assert_eq(append_with(memory, a), 0);
    pg_ask(pg_admin(), "ALTER TABLE audit.audit_heads DISABLE TRIGGER ALL; UPDATE audit.audit_heads SET root = sha256('forged')");
    cr_assert_eq(append_with(memory, a), -1);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT size FROM audit.audit_heads WHERE tenant_id = '" PG_TENANT_A "'"), "1");
    batch_memory_destroy(&memory);
}

/* ---- beside each other ---- */

/* Whoever is about to be committed starts the next, and goes on when that waits for it. */
static struct { struct batch_memory *memory; struct rig_call *next; pthread_t thread; enum status outcome; } after;

static void *commit_next(void *unused) {
    (void)unused;
    return commit_with(after.memory, after.next) == ST_OK ? after.next : NULL;
}

static enum status start_next(struct why *why) {
    pthread_create(&after.thread, NULL, commit_next, NULL);
    int64_t until_ms = clock_mono_ms() + 1000;      /* or it was there and has given up meanwhile: what becomes of it is the same */
    while (pg_ask(pg_admin(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1953854062 "
                              "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")[0] == '0' && clock_mono_ms() < until_ms)
        usleep(1000);
    return after.outcome == ST_OK ? ST_OK : fail(why, after.outcome, "as the test wants it");
}

/* first, and next while first is in flight. */
static enum status commit_beside(struct rig_call *first, struct rig_call *next, enum status outcome) {
    struct why why = { 0 };
    CLEANUP(plain_tx_end) struct plain_tx tx = { 0 };
    void *landed = NULL;
    bool guessed = false;
    after.next = next;
    after.outcome = outcome;
    cr_assert_eq(append_with(after.memory, next->call.ticket), 0, "where the head is is known from here on");
    cr_assert_eq(plain_tx_begin(&tx, rig_pool(), clock_mono_ms() + 20000, &why), ST_OK);
    first->stamp.tenant_id = rig_uuid(PG_TENANT_A);
    enum status st = batch_append_commit(&tx, after.memory, (struct batch_call *[]){ &first->call }, 1, start_next, &guessed, &why);
    plain_tx_end(&tx);
    pthread_join(after.thread, &landed);
    cr_expect(guessed);
    cr_expect_eq(landed, next, "%s", next->call.why.text);
    cr_expect_eq(next->call.status, ST_OK, "%s", next->call.why.text);
    return st;
}

Test(audit_batch, one_is_placed_on_another_that_is_not_committed_yet_and_waits_for_it) {
    struct rig_call first, next;
    const char *a = ticket_a();
    after.memory = batch_memory_new();
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, NULL, DOCUMENT_A1, NULL);
    rig_call(&next, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A2, NULL);
    cr_assert_eq(commit_beside(&first, &next, ST_OK), ST_OK);
    cr_expect_eq(first.stamp.seq, 1);
    cr_expect_eq(next.stamp.seq, 2);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 3);
    rig_call_end(&first);
    rig_call_end(&next);
    batch_memory_destroy(&after.memory);
}

Test(audit_batch, one_whose_predecessor_fails_takes_its_place) {
    struct rig_call first, next;
    const char *a = ticket_a();
    after.memory = batch_memory_new();
    rig_call(&first, AUDIT_SEARCH_DISCLOSE, NULL, DOCUMENT_A1, NULL);
    rig_call(&next, AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A2, NULL);
    cr_assert_eq(commit_beside(&first, &next, ST_UNAVAILABLE), ST_UNAVAILABLE);
    cr_expect_eq(next.stamp.seq, 1);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    cr_assert_eq(append_with(after.memory, a), 2);
    rig_call_end(&first);
    rig_call_end(&next);
    batch_memory_destroy(&after.memory);
}

Test(audit_batch, the_same_event_in_two_batches_is_on_the_log_once) {
    struct uuid id = uuid_v7();
    struct rig_call calls[2];
    const char *a = ticket_a();
    after.memory = batch_memory_new();
    after.next = &calls[1];
    for (int i = 0; i < 2; i++)
        rig_call(&calls[i], AUDIT_SEARCH_DISCLOSE, a, DOCUMENT_A1, &id);
    cr_assert_eq(append_with(after.memory, a), 0);
    pthread_create(&after.thread, NULL, commit_next, NULL);
    cr_expect_eq(commit_with(after.memory, &calls[0]), ST_OK);
    pthread_join(after.thread, NULL);
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(calls[i].call.status, ST_OK, "%s", calls[i].call.why.text);
        cr_expect_eq(calls[i].stamp.seq, 1);
        rig_call_end(&calls[i]);
    }
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 2);
    batch_memory_destroy(&after.memory);
}

enum { DOUBT_MS = 4500 };       /* less than lock_timeout, which would be another end */

struct doubt { struct batch_memory *memory; struct rig_call call; enum status status; };

static void *commit_in_doubt(void *arg) {
    struct doubt *d = arg;
    struct why why = { 0 };
    d->status = batch_commit(rig_pool(), d->memory, (struct batch_call *[]){ &d->call.call }, 1, clock_mono_ms() + DOUBT_MS, &why);
    return NULL;
}

Test(audit_batch, time_that_runs_out_after_a_cut_connection_does_not_mean_that_nothing_is_on_the_log) {
    struct doubt d = { .memory = batch_memory_new() };
    pthread_t thread;
    PGconn *other = pg_connect(NULL);
    cr_assert_eq(append_with(d.memory, ticket_a()), 0);
    rig_call(&d.call, AUDIT_SEARCH_DISCLOSE, ticket_a(), DOCUMENT_A1, NULL);
    pg_ask(other, "BEGIN; SELECT FROM audit.audit_heads FOR UPDATE");
    pthread_create(&thread, NULL, commit_in_doubt, &d);
    int64_t deadline_ms = clock_mono_ms() + 10000;
    while (*pg_ask(pg_admin(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE " WAITS_SQL) != 't') {
        cr_assert_lt(clock_mono_ms(), deadline_ms, "nobody waits for the head");
        usleep(1000);
    }
    pthread_join(thread, NULL);
    cr_expect_eq(d.status, ST_UNAVAILABLE, "%s", status_name(d.status));
    PQfinish(other);
    rig_call_end(&d.call);
    batch_memory_destroy(&d.memory);
}

Test(audit_batch, a_database_that_admits_nobody_is_unavailable_and_recovers) {
    struct rig_call c;
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, ticket_a(), NULL, NULL);
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT 0', current_database()); END $$");
    cr_assert_eq(rig_commit(&c, 1), ST_UNAVAILABLE);
    cr_assert_eq(c.call.status, ST_UNAVAILABLE);
    pg_ask(pg_admin(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT -1', current_database()); END $$");
    int64_t deadline_ms = clock_mono_ms() + 10000;
    while (rig_commit(&c, 1) != ST_OK) {
        cr_assert_lt(clock_mono_ms(), deadline_ms, "the pool does not come back");
        usleep(20000);
    }
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1);
    rig_call_end(&c);
}

/* ---- several writers, group commit ---- */

enum { THREADS = 8, CALLS_EACH = 25 };

struct storm { struct committer *committer; const char *tickets[2]; int number, failed; };

static void *storm_run(void *arg) {
    struct storm *s = arg;
    for (int i = 0; i < CALLS_EACH; i++) {
        struct rig_call c;
        rig_call(&c, AUDIT_SEARCH_DISCLOSE, s->tickets[(i + s->number) % 2], NULL, NULL);
        if (committer_append(s->committer, &c.call, clock_mono_ms() + 20000) != ST_OK)
            s->failed++;
        rig_call_end(&c);
    }
    return NULL;
}

Test(audit_batch, concurrent_committers_leave_no_gap_and_no_fork) {
    struct metrics *metrics = metrics_new();
    struct committer *committers[2] = { committer_new(rig_pool(), metrics), committer_new(rig_pool(), metrics) };
    struct storm storms[THREADS];
    pthread_t threads[THREADS];
    const char *a = ticket_a(), *b = ticket_b();
    for (int i = 0; i < THREADS; i++) {
        storms[i] = (struct storm){ .committer = committers[i % 2], .tickets = { a, b }, .number = i };
        pthread_create(&threads[i], NULL, storm_run, &storms[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(storms[i].failed, 0);
    }
    for (int i = 0; i < 2; i++)
        committer_destroy(&committers[i]);
    cr_assert_eq(rig_check_tree(PG_TENANT_A) + rig_check_tree(PG_TENANT_B), THREADS * CALLS_EACH);
    uint64_t batches = counter_value(metrics_counter(metrics, "cordon_audit_batches_total", "", ""));
    cr_assert_lt(batches, THREADS * CALLS_EACH, "calls that wait share a batch");
    metrics_destroy(&metrics);
}

enum { WIDE_EVENTS = 40, WIDE_CALLS = 6 };      /* wide enough that batches go out beside each other */

struct wide { struct committer *committer; const char *ticket; _Atomic int *decided; int repeats; };

/* As a client does: whoever does not know repeats, with the same ids. */
static void *wide_run(void *arg) {
    struct wide *w = arg;
    for (int i = 0; i < WIDE_CALLS; i++) {
        struct audit_event *events[WIDE_EVENTS];
        struct audit_stamp stamps[WIDE_EVENTS] = { 0 };
        struct batch_call call = { .events = events, .count = WIDE_EVENTS, .ticket = w->ticket, .stamps = stamps };
        for (int k = 0; k < WIDE_EVENTS; k++)
            events[k] = rig_event(AUDIT_SEARCH_DISCLOSE, w->ticket, DOCUMENT_A1, NULL);
        while (committer_append(w->committer, &call, clock_mono_ms() + 20000) != ST_OK && w->repeats < 1000)
            w->repeats++;
        cr_expect_eq(call.status, ST_OK, "%s", call.why.text);
        for (int k = 0; k < WIDE_EVENTS; k++)
            audit_event_destroy(&events[k]);
        (*w->decided)++;
    }
    return NULL;
}

Test(audit_batch, batches_beside_each_other_leave_one_tree_while_their_connections_are_cut) {
    struct metrics *metrics = metrics_new();
    struct committer *committer = committer_new(rig_pool(), metrics);
    struct wide wides[THREADS];
    pthread_t threads[THREADS];
    _Atomic int decided = 0;
    const char *a = ticket_a();
    for (int i = 0; i < THREADS; i++) {
        wides[i] = (struct wide){ .committer = committer, .ticket = a, .decided = &decided };
        pthread_create(&threads[i], NULL, wide_run, &wides[i]);
    }
    for (int cut = 0; decided < THREADS * WIDE_CALLS;)
        if (cut < decided / 8) {
            pg_ask(pg_admin(), "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'cordon_audit' AND state = 'active'");
            cut++;
        } else {
            usleep(1000);
        }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    committer_destroy(&committer);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), THREADS * WIDE_CALLS * WIDE_EVENTS, "each event once");
    metrics_destroy(&metrics);
}

Test(audit_batch, a_call_that_no_batch_takes_leaves_at_its_deadline) {
    struct metrics *metrics = metrics_new();
    struct committer *committer = committer_new(rig_pool(), metrics);
    PGconn *blocker = pg_connect(NULL);
    const char *a = ticket_a();
    rig_append(AUDIT_SEARCH_DISCLOSE, a, NULL);
    pg_ask(blocker, "BEGIN; SELECT * FROM audit.audit_heads FOR UPDATE");

    struct storm held = { .committer = committer, .tickets = { a, a } };
    pthread_t thread;
    pthread_create(&thread, NULL, storm_run, &held);       /* its first call is in flight, behind the lock */
    while (!does_anybody_wait())
        usleep(1000);
    struct rig_call late;
    rig_call(&late, AUDIT_SEARCH_DISCLOSE, a, NULL, NULL);
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(committer_append(committer, &late.call, clock_mono_ms() + 100), ST_TIMEOUT);
    cr_expect_lt(clock_mono_ms() - began_ms, 4500, "not with the batch that waits for the lock, and gives up after five seconds");
    pg_ask(blocker, "ROLLBACK");
    pthread_join(thread, NULL);
    cr_expect_eq(held.failed, 0);
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1 + CALLS_EACH, "the late one is not there");
    rig_call_end(&late);
    committer_destroy(&committer);
    metrics_destroy(&metrics);
    PQfinish(blocker);
}

enum { LAST_CALLS = 6 };

struct last { struct committer *committer; const char *ticket; _Atomic pid_t tid; enum status status; };

static void *last_run(void *arg) {
    struct last *l = arg;
    struct rig_call c;
    rig_call(&c, AUDIT_SEARCH_DISCLOSE, l->ticket, NULL, NULL);
    l->tid = gettid();
    l->status = committer_append(l->committer, &c.call, clock_mono_ms() + 20000);
    rig_call_end(&c);
    return NULL;
}

static void *end_run(void *committer_p) {
    committer_destroy(committer_p);
    return NULL;
}

static bool is_asleep(pid_t tid) {
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
    FILE *stat = fopen(path, "r");
    bool is_read = stat && fgets(line, sizeof line, stat);
    if (stat)
        (void)fclose(stat);
    return is_read && strncmp(strrchr(line, ')'), ") S", 3) == 0;
}

Test(audit_batch, what_is_queued_when_the_committer_ends_is_on_the_log_and_everybody_knows) {
    struct metrics *metrics = metrics_new();
    struct committer *committer = committer_new(rig_pool(), metrics);
    PGconn *blocker = pg_connect(NULL);
    const char *a = ticket_a();
    struct last lasts[LAST_CALLS] = { 0 };
    pthread_t threads[LAST_CALLS], ends;
    rig_append(AUDIT_SEARCH_DISCLOSE, a, NULL);
    pg_ask(blocker, "BEGIN; SELECT * FROM audit.audit_heads FOR UPDATE");
    for (int i = 0; i < LAST_CALLS; i++) {      /* the first is in flight, behind the lock, and the others wait for that */
        lasts[i] = (struct last){ .committer = committer, .ticket = a };
        pthread_create(&threads[i], NULL, last_run, &lasts[i]);
        while (!lasts[i].tid || !is_asleep(lasts[i].tid) || (i == 0 && !does_anybody_wait()))
            usleep(1000);
    }
    pthread_create(&ends, NULL, end_run, &committer);
    pg_ask(blocker, "ROLLBACK");
    pthread_join(ends, NULL);
    for (int i = 0; i < LAST_CALLS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(lasts[i].status, ST_OK, "%d", i);
    }
    cr_assert_eq(rig_check_tree(PG_TENANT_A), 1 + LAST_CALLS);
    metrics_destroy(&metrics);
    PQfinish(blocker);
}
