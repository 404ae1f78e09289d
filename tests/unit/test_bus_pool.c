#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bus_fixture.h"

TestSuite(bus_pool, .init = make_keys, .timeout = 120);

/* A handler that holds its calls until it is let go. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    unsigned inside, served;
};

static void gate_init(struct gate *g) {
    *g = (struct gate){ .is_open = false };
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

static void gate_open(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    g->is_open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

static unsigned gate_inside(struct gate *g) {
    pthread_mutex_lock(&g->lock);
    unsigned n = g->inside;
    pthread_mutex_unlock(&g->lock);
    return n;
}

static enum status pass_gate(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    struct gate *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->inside++;
    while (!g->is_open)
        pthread_cond_wait(&g->changed, &g->lock);
    g->inside--;
    g->served++;
    pthread_mutex_unlock(&g->lock);
    *ret_reply = search_reply(call, "through");
    return ST_OK;
}

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    atomic_uint *count = ctx;
    if (count)
        (*count)++;
    *ret_reply = search_reply(call, "here");
    return ST_OK;
}

/* Asks once on a thread of its own. */
struct background { pthread_t thread; struct node *node; const char *question; int64_t budget_ms; enum status got; };

static void *ask_in_background(void *arg) {
    struct background *b = arg;
    b->got = ask_once(b->node, b->question, b->budget_ms);
    return NULL;
}

static void background_start(struct background *b, struct node *n, int64_t budget_ms) {
    *b = (struct background){ .node = n, .question = "q", .budget_ms = budget_ms };
    cr_assert_eq(pthread_create(&b->thread, NULL, ask_in_background, b), 0);
}

static enum status background_end(struct background *b) {
    pthread_join(b->thread, NULL);
    return b->got;
}

static bool both_up(struct node *edge) {
    return metric(edge, "cordon_bus_link_up{peer=\"query\",replica=\"0\"} ") == 1 && metric(edge, "cordon_bus_link_up{peer=\"query\",replica=\"1\"} ") == 1;
}

static void two_endpoints(char *out, size_t size, const struct node *a, const struct node *b) {
    snprintf(out, size, "%s,%s", a->listen, b->listen);
}

Test(bus_pool, calls_go_to_the_replica_with_the_fewest_outstanding) {
    struct node slow, fast, edge;
    struct gate gate;
    atomic_uint count = 0;
    char endpoints[160];
    gate_init(&gate);
    callee_start(&slow, PEER_QUERY, 0, 2, pass_gate, &gate);
    callee_start(&fast, PEER_QUERY, 0, 2, answer, &count);
    two_endpoints(endpoints, sizeof endpoints, &slow, &fast);
    caller_start(&edge, PEER_QUERY, endpoints);
    WAIT_FOR(both_up(&edge));
    struct background stuck[2];
    background_start(&stuck[0], &edge, PATIENCE_MS);
    background_start(&stuck[1], &edge, PATIENCE_MS);
    WAIT_FOR(gate_inside(&gate) + count >= 2);
    for (unsigned i = 0; i < 50; i++)
        cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_leq(gate_inside(&gate), 2);
    cr_expect_geq(count, 50);
    gate_open(&gate);
    cr_expect_eq(background_end(&stuck[0]), ST_OK);
    cr_expect_eq(background_end(&stuck[1]), ST_OK);
    node_stop(&edge);
    node_stop(&slow);
    node_stop(&fast);
}

Test(bus_pool, a_full_queue_answers_busy_with_advice) {
    struct node query, edge;
    struct gate gate;
    gate_init(&gate);
    callee_init(&query, PEER_QUERY, 0, 0, pass_gate, &gate);
    query.opt.queue_max_count = 1;
    node_start(&query);
    caller_start(&edge, PEER_QUERY, query.listen);
    struct background waiting;
    background_start(&waiting, &edge, 1500);
    WAIT_FOR(metric(&query, "cordon_queue_depth ") == 1);
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    cr_expect_eq(search(&a.call, "q", NULL), ST_UNAVAILABLE);
    cr_expect_eq(a.call.why.code, ERR_BUSY);
    cr_expect_gt(a.call.why.retry_after_ms, 0);
    cr_expect_eq(metric(&query, "cordon_shed_total "), 1);
    asker_end(&a);
    cr_expect_eq(background_end(&waiting), ST_TIMEOUT);
    node_stop(&edge);
    node_stop(&query);
}

Test(bus_pool, a_busy_replica_hands_a_repeatable_call_on) {
    struct node busy, idle, edge;
    atomic_uint count = 0;
    char endpoints[160];
    callee_init(&busy, PEER_QUERY, 0, 0, answer, NULL);
    busy.opt.queue_max_count = 0;
    node_start(&busy);
    callee_start(&idle, PEER_QUERY, 0, 1, answer, &count);
    two_endpoints(endpoints, sizeof endpoints, &busy, &idle);
    caller_start(&edge, PEER_QUERY, endpoints);
    WAIT_FOR(both_up(&edge));
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_eq(count, 10);
    cr_expect_geq(metric(&busy, "cordon_shed_total "), 1);
    cr_expect_geq(metric(&edge, "cordon_bus_retries_total{peer=\"query\"} "), 1);
    node_stop(&edge);
    node_stop(&busy);
    node_stop(&idle);
}

Test(bus_pool, a_call_that_expired_in_the_queue_never_starts) {
    struct node query, edge;
    struct gate gate;
    gate_init(&gate);
    callee_start(&query, PEER_QUERY, 0, 1, pass_gate, &gate);
    caller_start(&edge, PEER_QUERY, query.listen);
    struct background first, second;
    background_start(&first, &edge, PATIENCE_MS);
    WAIT_FOR(gate_inside(&gate) == 1);
    background_start(&second, &edge, 200);
    cr_expect_eq(background_end(&second), ST_TIMEOUT);
    gate_open(&gate);
    cr_expect_eq(background_end(&first), ST_OK);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    pthread_mutex_lock(&gate.lock);
    cr_expect_eq(gate.served, 2, "the expired call was served too");
    pthread_mutex_unlock(&gate.lock);
    node_stop(&edge);
    node_stop(&query);
}

Test(bus_pool, a_deadline_is_kept_and_the_handler_hears_of_it) {
    struct node query, edge;
    struct gate gate;
    gate_init(&gate);
    callee_start(&query, PEER_QUERY, 0, 1, pass_gate, &gate);
    caller_start(&edge, PEER_QUERY, query.listen);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY));
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(ask_once(&edge, "q", 200), ST_TIMEOUT);
    cr_expect_lt(clock_mono_ms() - began_ms, 2000);
    cr_expect_eq(ask_once(&edge, "q", 0), ST_TIMEOUT);
    gate_open(&gate);
    node_stop(&edge);
    node_stop(&query);
}

Test(bus_pool, without_a_replica_a_call_waits_a_moment_and_fails) {
    struct node edge;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", free_port());
    caller_start(&edge, PEER_QUERY, endpoint);
    cr_expect_eq(ask_once(&edge, "q", 1000), ST_UNAVAILABLE, "what was never sent did not take too long: it may be tried again");
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_UNAVAILABLE);
    int64_t began_ms = clock_mono_ms();
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_UNAVAILABLE);
    cr_expect_lt(clock_mono_ms() - began_ms, 1000, "a peer that is long gone is not waited for");
    node_stop(&edge);
}

Test(bus_pool, a_call_made_before_the_replica_is_there_is_answered) {
    struct node query, edge;
    char endpoint[64];
    unsigned port = free_port();
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", port);
    caller_start(&edge, PEER_QUERY, endpoint);
    struct background early;
    background_start(&early, &edge, PATIENCE_MS);
    callee_start(&query, PEER_QUERY, port, 1, answer, NULL);
    cr_expect_eq(background_end(&early), ST_OK);
    node_stop(&edge);
    node_stop(&query);
}

/* ---- a replica as a process of its own, to be killed ---- */

static pid_t spawn_replica(unsigned port, test_handler handle) {
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);     /* also when the test fails */
    struct node query;
    struct gate gate;
    gate_init(&gate);
    callee_start(&query, PEER_QUERY, port, 2, handle, &gate);
    for (;;)
        pause();
}

static void reap(pid_t pid, int signal_number) {
    kill(pid, signal_number);
    waitpid(pid, NULL, 0);
}

/* A call is with the replica that dies; the other one has the answer. */
static void survive(int signal_number) {
    unsigned ports[2] = { free_port(), free_port() };
    pid_t stuck = spawn_replica(ports[0], pass_gate);
    struct node good, edge;
    atomic_uint count = 0;
    char endpoints[160];
    snprintf(endpoints, sizeof endpoints, "tcp://127.0.0.1:%u,tcp://127.0.0.1:%u", ports[0], ports[1]);
    caller_start(&edge, PEER_QUERY, endpoints);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY));
    struct background calls[2];
    background_start(&calls[0], &edge, PATIENCE_MS);
    background_start(&calls[1], &edge, PATIENCE_MS);
    WAIT_FOR(metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"0\"} ") + metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"1\"} ") >= 2);
    callee_start(&good, PEER_QUERY, ports[1], 1, answer, &count);
    WAIT_FOR(both_up(&edge));
    kill(stuck, signal_number);
    cr_expect_eq(background_end(&calls[0]), ST_OK);
    cr_expect_eq(background_end(&calls[1]), ST_OK);
    cr_expect_eq(count, 2);
    cr_expect_geq(metric(&edge, "cordon_bus_retries_total{peer=\"query\"} "), 2);
    reap(stuck, SIGKILL);
    node_stop(&edge);
    node_stop(&good);
}

Test(bus_pool, a_killed_replicas_calls_are_answered_by_another) { survive(SIGKILL); }
Test(bus_pool, a_frozen_replicas_calls_are_answered_by_another) { survive(SIGSTOP); }

Test(bus_pool, what_may_not_be_repeated_is_not) {
    unsigned port = free_port();
    pid_t stuck = spawn_replica(port, pass_gate);
    struct node edge;
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", port);
    caller_start(&edge, PEER_QUERY, endpoint);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY));     /* under valgrind the replica starts slowly */
    struct asker a;
    asker_start(&a, &edge, PATIENCE_MS);
    Query__GetContentRequest req = QUERY__GET_CONTENT_REQUEST__INIT;
    struct bus_stream *s = NULL;
    cr_assert_eq(bus_stream_open(&a.call, "query.GetContent", &req.base, &s), ST_OK);
    WAIT_FOR(metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"0\"} ") == 1);
    reap(stuck, SIGKILL);
    const void *data;
    size_t len;
    cr_expect_eq(bus_stream_read(s, &data, &len), ST_UNAVAILABLE);
    cr_expect_gt(a.call.why.retry_after_ms, 0);
    bus_stream_destroy(&s);
    asker_end(&a);
    node_stop(&edge);
}

/* Rolling restart: calls go on without one failure while replicas drain and come back. */
static void *ask_until_told(void *arg) {
    struct { struct node *edge; atomic_bool stop; atomic_uint ok, failed; } *load = arg;
    struct asker a;
    while (!load->stop) {
        asker_start(&a, load->edge, PATIENCE_MS);
        enum status st = search(&a.call, "q", NULL);
        if (st == ST_OK)
            load->ok++;
        else
            load->failed++;
        asker_end(&a);
    }
    return NULL;
}

Test(bus_pool, a_rolling_restart_loses_no_call) {
    struct node replicas[2], edge;
    unsigned ports[2] = { free_port(), free_port() };
    char endpoints[160];
    for (unsigned i = 0; i < 2; i++)
        callee_start(&replicas[i], PEER_QUERY, ports[i], 2, answer, NULL);
    two_endpoints(endpoints, sizeof endpoints, &replicas[0], &replicas[1]);
    caller_start(&edge, PEER_QUERY, endpoints);
    WAIT_FOR(both_up(&edge));
    struct { struct node *edge; atomic_bool stop; atomic_uint ok, failed; } load = { .edge = &edge };
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, ask_until_told, &load), 0);
    for (unsigned round = 0; round < 4; round++) {
        unsigned i = round % 2, seen = load.ok;
        bus_drain(replicas[i].bus);
        cr_expect(bus_wait_quiet(replicas[i].bus, clock_mono_ms() + PATIENCE_MS), "the drain did not end");
        node_stop(&replicas[i]);
        WAIT_FOR(load.ok > seen + 10);
        callee_start(&replicas[i], PEER_QUERY, ports[i], 2, answer, NULL);
        WAIT_FOR(both_up(&edge));
    }
    load.stop = true;
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(load.failed, 0);
    cr_expect_gt(load.ok, 100);
    node_stop(&edge);
    for (unsigned i = 0; i < 2; i++)
        node_stop(&replicas[i]);
}

Test(bus_pool, a_drain_lets_the_running_call_finish) {
    struct node query, edge;
    struct gate gate;
    gate_init(&gate);
    callee_start(&query, PEER_QUERY, 0, 1, pass_gate, &gate);
    caller_start(&edge, PEER_QUERY, query.listen);
    struct background running;
    background_start(&running, &edge, PATIENCE_MS);
    WAIT_FOR(gate_inside(&gate) == 1);
    bus_drain(query.bus);
    cr_expect_not(bus_wait_quiet(query.bus, clock_mono_ms() + 300));
    WAIT_FOR(!bus_peer_is_up(edge.bus, PEER_QUERY));
    gate_open(&gate);
    cr_expect(bus_wait_quiet(query.bus, clock_mono_ms() + PATIENCE_MS));
    cr_expect_eq(background_end(&running), ST_OK);
    node_stop(&edge);
    node_stop(&query);
}
