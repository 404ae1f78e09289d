/* A whole process: settings from its environment, the bus, health, drain on SIGTERM. */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "bus_fixture.h"
#include "core/cancel.h"
#include "service/service.h"

/* The process forbids being traced, which the leak checker at its end would need. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

TestSuite(service_main, .init = make_keys, .timeout = 60);

struct sample_settings { const char *greeting; };
struct sample { char *greeting; struct runtime *rt; pthread_t thread; bool has_thread; };

static const struct setting SETTINGS[] = {
    { "T_GREETING", SET_TEXT, "hello", 1, 20, "", offsetof(struct sample_settings, greeting), "What it says." },
    { 0 },
};

/* What the hardening of the process is, and what is left of its environment. */
static enum status on_search(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    const Query__SearchRequest *req = (const void *)in;
    Query__SearchReply *reply = (void *)out;
    const struct sample *s = self;
    struct rlimit core;
    if (str_equal(req->question, "slow"))
        usleep(700 * 1000);
    if (str_equal(req->question, "stuck"))
        sleep(60);
    if (str_equal(req->question, "wait")) {         /* for a server, as http and db do */
        struct pollfd item = { cancel_fd(), POLLIN, 0 };
        (void)poll(&item, 1, 60000);
        return fail(&call->why, ST_UNAVAILABLE, "cancelled");
    }
    if (str_equal(req->question, "fail"))
        return fail_as(&call->why, ERR_DOC_TYPE, "a reason for operators");
    getrlimit(RLIMIT_CORE, &core);
    char *text = arena_printf(call->mem, "%s dumpable=%d nnp=%d core=%d key=%s", s->greeting, prctl(PR_GET_DUMPABLE), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
                              (int)core.rlim_max, getenv("CORDON_CURVE_SECRET_KEY") ? "there" : "gone");
    reply->event_id = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
    return ST_OK;
}

static enum status on_get(void *self, struct call *call, const ProtobufCMessage *in, ProtobufCMessage *out) {
    (void)self, (void)call, (void)in, (void)out;
    return ST_OK;
}

static const struct route ROUTES[] = {
    { "query.Search", PEER_EDGE, SCOPE_QUERY, &query__search_request__descriptor, &query__search_reply__descriptor, on_search },
    { "query.GetDocument", PEER_AUTH, SCOPE_DOCUMENTS_READ, &query__get_document_request__descriptor, &query__get_document_reply__descriptor, on_get },
    { 0 },
};

static enum status sample_open(void **self_p, const void *settings, struct runtime *rt, struct why *why) {
    const struct sample_settings *given = settings;
    if (str_equal(given->greeting, "refuse"))
        return fail(why, ST_FORBIDDEN, "the role is a superuser");
    struct sample *s = *self_p = xalloc(sizeof *s);
    s->greeting = xstrdup(given->greeting);
    s->rt = rt;
    return ST_OK;
}

/* A background thread as the job loops are: it waits for work or the end. */
static void *linger(void *arg) {
    struct sample *s = arg;
    struct bus_client *client = bus_client_new(s->rt->bus);
    while (!runtime_wait_stop(s->rt, 10000) || str_equal(s->greeting, "stay"))
        usleep(1000);
    bus_client_destroy(&client);
    return NULL;
}

static enum status sample_start(void *self, struct runtime *rt, struct why *why) {
    (void)rt;
    struct sample *s = self;
    s->has_thread = pthread_create(&s->thread, NULL, linger, s) == 0;
    return s->has_thread ? ST_OK : fail(why, ST_UNAVAILABLE, "no thread");
}

static void sample_close(void **self_p) {
    struct sample *s = *self_p;
    if (str_equal(s->greeting, "stay")) {       /* the thread that holds a bus client does not end */
        s->rt->has_left_behind = true;
        return;
    }
    if (s->has_thread)
        pthread_join(s->thread, NULL);
    free(s->greeting);
    free(s);
    *self_p = NULL;
}

static enum status check_database(void *self, struct why *why) {
    (void)self, (void)why;
    return ST_OK;
}

static void collect(void *self, struct metrics *m) {
    (void)self;
    gauge_set(metrics_gauge(m, "sample_depth", "Depth.", ""), 3);
}

static const struct ready_check READY[] = { { "database", check_database }, { 0 } };

static const struct service SAMPLE = {
    .name = "query", .peer = PEER_QUERY, .about = "a sample", .settings = SETTINGS, .settings_size = sizeof(struct sample_settings),
    .routes = ROUTES, .ready = READY, .open = sample_open, .start = sample_start, .close = sample_close, .collect = collect,
};

struct program { pid_t pid; int log_fd; unsigned bus_port, metrics_port; };

static void set_environment(const struct program *p, const char *greeting) {
    char listen[64], metrics_listen[64];
    snprintf(listen, sizeof listen, "tcp://127.0.0.1:%u", p->bus_port);
    snprintf(metrics_listen, sizeof metrics_listen, "127.0.0.1:%u", p->metrics_port);
    setenv("ENVIRONMENT", "development", 1);
    setenv("CORDON_BUS_LISTEN", listen, 1);
    setenv("CORDON_METRICS_LISTEN", metrics_listen, 1);
    setenv("CORDON_WORKERS", "2", 1);
    setenv("CORDON_CURVE_SECRET_KEY", secret_keys[peer_index(PEER_QUERY)], 1);
    setenv("CORDON_EDGE_PUBLIC_KEY", public_keys[peer_index(PEER_EDGE)], 1);
    setenv("CORDON_AUTH_PUBLIC_KEY", public_keys[peer_index(PEER_AUTH)], 1);
    setenv("T_GREETING", greeting, 1);
    if (str_equal(greeting, "demand"))
        setenv("CORDON_REQUIRE_HARDENING", "no_new_privs, walls", 1);
}

static void program_start(struct program *p, const char *greeting, const char *missing) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    *p = (struct program){ .bus_port = free_port(), .metrics_port = free_port(), .log_fd = ends[0] };
    p->pid = fork();
    if (p->pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        set_environment(p, greeting);
        if (missing)
            unsetenv(missing);
        _exit(service_main(1, (char *[]){ (char *)"cordon-query", NULL }, &SAMPLE));
    }
    close(ends[1]);
}

/* The exit status, and everything that it logged. */
static int program_end(struct program *p, char *log, size_t size) {
    int status = 0;
    size_t len = 0;
    for (ssize_t n; len < size - 1 && (n = read(p->log_fd, log + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    log[len] = '\0';
    close(p->log_fd);
    cr_assert_eq(waitpid(p->pid, &status, 0), p->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void edge_for(struct node *edge, const struct program *p, char *endpoint, size_t size) {
    snprintf(endpoint, size, "tcp://127.0.0.1:%u", p->bus_port);
    caller_start(edge, PEER_QUERY, endpoint);
}

static void http_get(unsigned port, const char *path, char *out, size_t size) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    size_t len = 0;
    for (ssize_t n; len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = '\0';
    close(fd);
}

Test(service_main, a_process_serves_reports_and_drains) {
    struct program p;
    struct node edge;
    struct asker a;
    char endpoint[64], log[8192], answer[65536];
    program_start(&p, "good day", NULL);
    edge_for(&edge, &p, endpoint, sizeof endpoint);
    asker_start(&a, &edge, PATIENCE_MS);
    Query__SearchReply *reply = NULL;
    cr_assert_eq(search(&a.call, "q", &reply), ST_OK, "%s", a.call.why.text);
    static const char WANT[] = "good day dumpable=0 nnp=1 core=0 key=gone";
    cr_expect_eq(reply->event_id.len, sizeof WANT - 1);
    cr_expect_eq(memcmp(reply->event_id.data, WANT, reply->event_id.len), 0, "%.*s", (int)reply->event_id.len, reply->event_id.data);

    cr_expect_eq(search(&a.call, "fail", NULL), ST_INVALID);
    cr_expect_eq(a.call.why.code, ERR_DOC_TYPE);
    Query__GetDocumentRequest req = QUERY__GET_DOCUMENT_REQUEST__INIT;
    ProtobufCMessage *any = NULL;
    cr_expect_eq(bus_ask(&a.call, "query.GetDocument", &req.base, &query__get_document_reply__descriptor, &any), ST_FORBIDDEN);
    cr_expect_eq(bus_ask(&a.call, "query.Nothing", &req.base, &query__get_document_reply__descriptor, &any), ST_NOT_FOUND);

    http_get(p.metrics_port, "/health/ready", answer, sizeof answer);
    cr_expect(strstr(answer, "200 OK") && strstr(answer, "{\"accepting\":\"ok\",\"database\":\"ok\",\"hardening:no_new_privs\":\"ok\","), "%s", answer);
    http_get(p.metrics_port, "/metrics", answer, sizeof answer);
    cr_expect(strstr(answer, "\ncordon_requests_total{method=\"query.Search\",status=\"ST_OK\"} 1\n"), "%s", answer);
    cr_expect(strstr(answer, "\ncordon_requests_total{method=\"query.Search\",status=\"ST_INVALID\"} 1\n"));
    cr_expect(strstr(answer, "\ncordon_requests_total{method=\"other\",status=\"ST_NOT_FOUND\"} 1\n"));
    cr_expect(strstr(answer, "\ncordon_request_seconds_count{method=\"query.Search\"} 2\n"));
    cr_expect(strstr(answer, "\nsample_depth 3\n"));
    cr_expect(strstr(answer, "\ncordon_build_info{process=\"query\""));
    cr_expect(strstr(answer, "\nprocess_resident_memory_bytes ") && strstr(answer, "\nprocess_open_fds "), "open since before hardening");

    asker_end(&a);
    kill(p.pid, SIGTERM);
    int status = program_end(&p, log, sizeof log);
    node_stop(&edge);
    cr_expect_eq(status, 0, "%s", log);
    cr_expect(strstr(log, "\"event\":\"started\""), "%s", log);
    cr_expect(strstr(log, "\"event\":\"call_failed\""), "%s", log);
    cr_expect(strstr(log, "\"code\":\"DOC_001\",\"why\":\"a reason for operators\""), "%s", log);
    cr_expect(strstr(log, "\"event\":\"stopped\",\"clean\":1"), "%s", log);
    for (unsigned i = 0; i < PEER_COUNT; i++)
        cr_expect_null(strstr(log, secret_keys[i]));
}

static void *ask_slowly(void *arg) {
    return (void *)(intptr_t)ask_once(arg, "slow", PATIENCE_MS);
}

Test(service_main, a_running_call_is_finished_before_the_end) {
    struct program p;
    struct node edge;
    char endpoint[64], log[8192];
    program_start(&p, "good day", NULL);
    edge_for(&edge, &p, endpoint, sizeof endpoint);
    WAIT_FOR(bus_peer_is_up(edge.bus, PEER_QUERY));
    pthread_t thread;
    void *got = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, ask_slowly, &edge), 0);
    WAIT_FOR(metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"0\"} ") == 1);
    int64_t began_ms = clock_mono_ms();
    kill(p.pid, SIGTERM);
    pthread_join(thread, &got);
    cr_expect_eq((intptr_t)got, ST_OK);
    cr_expect_eq(program_end(&p, log, sizeof log), 0, "%s", log);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    node_stop(&edge);
}

static void *ask_stuck(void *arg) {
    return (void *)(intptr_t)ask_once(arg, "stuck", 3 * PATIENCE_MS);
}

Test(service_main, a_handler_that_never_returns_does_not_keep_the_process) {
    struct program p;
    struct node edge;
    char endpoint[64], log[8192];
    program_start(&p, "good day", NULL);
    edge_for(&edge, &p, endpoint, sizeof endpoint);
    pthread_t thread;
    void *got = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, ask_stuck, &edge), 0);
    WAIT_FOR(metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"0\"} ") == 1);
    int64_t began_ms = clock_mono_ms();
    kill(p.pid, SIGTERM);
    cr_expect_eq(program_end(&p, log, sizeof log), 3, "%s", log);
    cr_expect_lt(clock_mono_ms() - began_ms, 8000);
    cr_expect(strstr(log, "\"event\":\"stopped\",\"clean\":0"), "%s", log);
    pthread_join(thread, &got);
    cr_expect_eq((intptr_t)got, ST_UNAVAILABLE);
    node_stop(&edge);
}

static void *ask_waiting(void *arg) {
    return (void *)(intptr_t)ask_once(arg, "wait", PATIENCE_MS);
}

Test(service_main, a_handler_that_waits_long_is_cancelled_and_the_end_is_clean) {
    struct program p;
    struct node edge;
    char endpoint[64], log[8192];
    program_start(&p, "good day", NULL);
    edge_for(&edge, &p, endpoint, sizeof endpoint);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, ask_waiting, &edge), 0);
    WAIT_FOR(metric(&edge, "cordon_bus_outstanding{peer=\"query\",replica=\"0\"} ") == 1);
    int64_t began_ms = clock_mono_ms();
    kill(p.pid, SIGTERM);
    cr_expect_eq(program_end(&p, log, sizeof log), 0, "%s", log);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    node_stop(&edge);
    pthread_join(thread, NULL);
}

Test(service_main, a_thread_of_the_service_that_stays_does_not_keep_the_process) {
    struct program p;
    struct node edge;
    char endpoint[64], log[8192];
    program_start(&p, "stay", NULL);
    edge_for(&edge, &p, endpoint, sizeof endpoint);
    cr_expect_eq(ask_once(&edge, "hello", PATIENCE_MS), ST_OK);
    kill(p.pid, SIGTERM);
    cr_expect_eq(program_end(&p, log, sizeof log), 3, "%s", log);
    cr_expect(strstr(log, "\"event\":\"stopped\",\"clean\":0"), "%s", log);
    node_stop(&edge);
}

struct start_case { const char *greeting, *missing, *mention; };

Test(service_main, a_process_that_cannot_start_says_why) {
    static const struct start_case CASES[] = {
        { "good day", "CORDON_CURVE_SECRET_KEY", "CORDON_CURVE_SECRET_KEY: required, and not set" },
        { "good day", "CORDON_AUTH_PUBLIC_KEY", "CORDON_AUTH_PUBLIC_KEY: required, and not set" },
        { "a greeting that is far too long", NULL, "T_GREETING: needs 1 to 20 bytes" },
        { "refuse", NULL, "the role is a superuser" },
        { "demand", NULL, "CORDON_REQUIRE_HARDENING: there is no 'walls'" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct program p;
        char log[8192];
        program_start(&p, CASES[i].greeting, CASES[i].missing);
        cr_expect_eq(program_end(&p, log, sizeof log), 1, "case %zu: %s", i, log);
        cr_expect(strstr(log, CASES[i].mention), "case %zu: %s", i, log);
    }
}

static int run_option(const char *option, char *out, size_t size) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    struct program p = { .log_fd = ends[0] };
    p.pid = fork();
    if (p.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(service_main(2, (char *[]){ (char *)"cordon-query", (char *)option, NULL }, &SAMPLE));
    }
    close(ends[1]);
    return program_end(&p, out, size);
}

Test(service_main, options_print_and_end) {
    char out[16384];
    cr_expect_eq(run_option("--version", out, sizeof out), 0);
    cr_expect(strstr(out, "cordon-query 0."), "%s", out);
    cr_expect_eq(run_option("--help", out, sizeof out), 0);
    cr_expect(strstr(out, "T_GREETING") && strstr(out, "CORDON_EDGE_PUBLIC_KEY") && strstr(out, "CORDON_WORKERS"), "%s", out);
    cr_expect_null(strstr(out, "CORDON_EDGE_ENDPOINTS"), "it does not call edge");
    cr_expect_eq(run_option("--settings-markdown", out, sizeof out), 0);
    cr_expect(strstr(out, "| `CORDON_QUEUE` | integer | `256` |"), "%s", out);
    cr_expect_eq(run_option("--nothing", out, sizeof out), 2);
    cr_expect(strstr(out, "usage:"), "%s", out);
}
