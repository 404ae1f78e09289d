#include "service/service.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "crypto/digest.h"
#include "service/skeleton.h"

/* Together less than 5 s, the time from SIGTERM to the end. */
enum { EXIT_USAGE = 2, EXIT_UNCLEAN = 3, DRAIN_MS = 3300, JOIN_MS = 1300, FLUSH_MS = 300, RECORD_END_MS = 500 };

/* Everything that a process has, in the order in which it comes to be. */
struct process {
    const struct service *svc;
    int signal_fd;
    struct skeleton_table table;
    struct skeleton_values values;
    void *settings;
    struct runtime runtime;
    void *self;
    struct bus_options bus_options;
    struct pool *pool;
    struct announce *announce;
    struct hardening hardening;
    struct health health;
    struct listener *listener;
    struct otlp *otlp;
};

static int answer_option(const struct service *svc, const char *option) {
    struct skeleton_table table;
    skeleton_table_fill(&table, svc);
    static const struct setting NONE[] = { { 0 } };
    const struct setting *const tables[] = { svc->settings ? svc->settings : NONE, table.rows, NULL };
    char name[64];
    (void)snprintf(name, sizeof name, "cordon-%s", svc->name);
    if (str_equal(option, "--help"))
        config_print_help(stdout, name, svc->about, tables);
    else if (str_equal(option, "--settings-markdown"))
        config_print_markdown(stdout, name, svc->about, tables);
    else if (str_equal(option, "--version"))
        (void)printf("%s %s\n", name, CORDON_VERSION);
    else {
        (void)fprintf(stderr, "usage: %s [--help | --settings-markdown | --version]\n", name);
        return EXIT_USAGE;
    }
    return EXIT_SUCCESS;
}

/* Signals are read by the main thread only; blocked before any other thread exists. */
static enum status catch_signals(int *ret_fd, struct why *why) {
    sigset_t stop;
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigaddset(&stop, SIGINT);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &stop, NULL) != 0)
        return fail(why, ST_INTERNAL, "signals cannot be blocked");
    *ret_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    return *ret_fd >= 0 ? ST_OK : fail(why, ST_INTERNAL, "no signalfd");
}

/* For the record of the start (db/boot_check.h): no value leaves. */
static void print_settings(struct process *p) {
    CLEANUP(buffer_end) struct buffer lines = { 0 };
    CLEANUP(buffer_end) struct buffer changed = { 0 };
    uint8_t digest[SHA256_BYTES];
    config_describe(p->table.rows, &p->values, &lines, &changed);
    if (p->svc->settings)
        config_describe(p->svc->settings, p->settings, &lines, &changed);
    sha256(lines.data, lines.len, digest);
    (void)hex_encode(digest, sizeof digest, p->runtime.settings_sha256);
    (void)snprintf(p->runtime.settings_changed, sizeof p->runtime.settings_changed, "%s", changed.data ? changed.data : "");
    p->runtime.version = CORDON_VERSION;
    p->runtime.instance_id = uuid_v7();
}

static enum status check_settings(struct process *p, struct why *why) {
    enum log_level level;
    if (!log_level_from_text(p->values.log_level, &level))
        return fail(why, ST_INVALID, "LOG_LEVEL: needs debug, info, warn or error");
    log_open(p->svc->name, level);
    p->runtime.is_production = !str_equal(p->values.environment, "development");
    if (p->runtime.is_production && !str_equal(p->values.environment, "production"))
        return fail(why, ST_INVALID, "ENVIRONMENT: needs development or production");
    return ST_OK;
}

static enum status load_settings(struct process *p, struct why *why) {
    struct config_references named = { 0 }, *references = p->svc->secrets ? &named : NULL;
    skeleton_table_fill(&p->table, p->svc);
    enum status st = config_load(p->table.rows, &p->values, references, why);
    if (st == ST_OK && p->svc->settings) {
        p->settings = xalloc(p->svc->settings_size);
        st = config_load(p->svc->settings, p->settings, references, why);
    }
    config_wipe_environment();
    if (st == ST_OK)
        st = check_settings(p, why);
    if (st == ST_OK && named.count > 0)
        st = p->svc->secrets->fetch(&named, (char *)p->settings + p->svc->aws_offset, p->runtime.is_production, &p->runtime.secrets, why);
    config_references_end(&named);
    if (st == ST_OK)
        print_settings(p);
    return st;
}

static void on_link(void *ctx, enum peer peer, const char *address, const char *what) {
    (void)ctx;
    log_event(LOG_INFO, "link", LOG_TEXT("peer", peer_name(peer)), LOG_TEXT("address", address),
              LOG_TEXT("state", what));
}

static enum status start_bus(struct process *p, struct why *why) {
    struct bus_options *opt = &p->bus_options;
    *opt = (struct bus_options){ .self = p->svc->peer,
                                 .secret_key = p->values.curve_secret_key,
                                 .callers = service_callers(p->svc),
                                 .queue_max_count = (unsigned)p->values.queue_count,
                                 .streams_max_count = (unsigned)(p->values.worker_count - p->values.worker_count / 4),
                                 .metrics = p->runtime.metrics,
                                 .on_link = on_link };
    opt->listen = p->svc->routes ? p->values.bus_listen : NULL;
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        opt->public_keys[i] = p->values.public_keys[i];
        opt->endpoints[i] = p->values.endpoints[i];
    }
    return bus_start(opt, &p->runtime.bus, why);
}

static enum status start_listener(struct process *p, struct why *why) {
    p->health.self = p->self;
    struct listener_source source = { &p->health, p->runtime.metrics, health_collect, health_ready };
    return *p->values.metrics_listen ? listener_start(p->values.metrics_listen, &source, &p->listener, why) : ST_OK;
}

static enum status start(struct process *p, struct why *why) {
    enum status st = harden_begin(&p->hardening, why);
    if (st == ST_OK)
        st = catch_signals(&p->signal_fd, why);
    if (st == ST_OK)
        st = load_settings(p, why);
    health_open(&p->health);
    if (st == ST_OK)
        st = harden_finish(&p->hardening, p->svc, p->settings, &p->values, p->table.rows, p->runtime.is_production, why);
    if (st != ST_OK)
        return st;
    p->runtime.process = p->svc->name;
    p->runtime.metrics = metrics_new();
    p->runtime.stop = runtime_stop_new();
    p->runtime.halt = runtime_stop_new();
    st = otlp_start(&p->values.otlp, p->svc->name, p->runtime.is_production, p->runtime.metrics, &p->otlp, why);
    if (st == ST_OK)
        st = p->svc->open(&p->self, p->settings, &p->runtime, why);
    if (st == ST_OK)
        st = start_bus(p, why);
    if (st == ST_OK && p->svc->start_method)
        p->announce = announce_new(&p->runtime, p->svc->start_method);
    p->health.announce = p->announce;
    if (st == ST_OK && p->svc->start)
        st = p->svc->start(p->self, &p->runtime, why);
    if (st == ST_OK && p->svc->routes)
        st = pool_start(p->svc, p->self, &p->runtime, (unsigned)p->values.worker_count, &p->pool, why);
    if (st == ST_OK)
        st = start_listener(p, why);
    return st;
}

static void wait_for_signal(const struct process *p) {
    struct signalfd_siginfo info;
    while (read(p->signal_fd, &info, sizeof info) != sizeof info)
        ;
    log_event(LOG_INFO, "stopping", LOG_NUMBER("signal", info.ssi_signo));
}

/* Whoever is killed, or leaves something behind, says nothing: the next start tells that there is no word of its end. */
static void record_end(struct process *p, int64_t drain_until_ms) {
    struct why why = { 0 };
    int64_t soon_ms = clock_mono_ms() + RECORD_END_MS, deadline_ms = soon_ms < drain_until_ms ? soon_ms : drain_until_ms;
    enum status st = p->svc->record_end ? p->svc->record_end(p->self, &p->runtime, deadline_ms, &why) : announce_end(p->announce, deadline_ms, &why);
    if (st != ST_OK)
        log_event(LOG_WARN, "end_not_recorded", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
}

/* Callers are told to go elsewhere and may finish; what does not finish in time is cancelled. */
static bool drain(struct process *p) {
    int64_t deadline_ms = clock_mono_ms() + DRAIN_MS;
    runtime_stop_set(p->runtime.stop);
    bus_drain(p->runtime.bus);
    if (p->svc->drain)
        p->svc->drain(p->self, deadline_ms);
    bool is_quiet = bus_wait_quiet(p->runtime.bus, deadline_ms);
    if (is_quiet)
        record_end(p, deadline_ms);
    return is_quiet;
}

/* Also after a start that failed half-way. False: a thread does not end, so nothing may be taken down. */
static bool stop(struct process *p) {
    if (p->runtime.stop)
        runtime_stop_set(p->runtime.stop);
    if (p->runtime.halt)
        runtime_stop_set(p->runtime.halt);
    if (p->runtime.bus)
        bus_halt(p->runtime.bus);
    if (!pool_join(&p->pool, clock_mono_ms() + JOIN_MS))
        return false;
    listener_stop(&p->listener);
    announce_destroy(&p->announce);
    if (p->runtime.secrets)
        p->svc->secrets->stop(p->runtime.secrets);
    if (p->self && p->svc->close)
        p->svc->close(&p->self);
    if (p->runtime.has_left_behind)
        return false;
    bus_stop(&p->runtime.bus);
    runtime_stop_destroy(&p->runtime.stop);
    runtime_stop_destroy(&p->runtime.halt);
    otlp_stop(&p->otlp, clock_mono_ms() + FLUSH_MS);
    metrics_destroy(&p->runtime.metrics);
    if (p->runtime.secrets)
        p->svc->secrets->destroy(&p->runtime.secrets);
    if (p->settings)
        config_release(p->svc->settings, p->settings);
    free(p->settings);
    config_release(p->table.rows, &p->values);
    health_close(&p->health);
    if (p->signal_fd >= 0)
        (void)close(p->signal_fd);
    return true;
}

int service_main(int argc, char **argv, const struct service *svc) {
    if (argc > 1)
        return argc == 2 ? answer_option(svc, argv[1]) : answer_option(svc, "");
    struct process p = { .svc = svc, .signal_fd = -1 };
    p.health = (struct health){ .svc = svc, .rt = &p.runtime, .hardening = &p.hardening, .started_us = clock_unix_us(), .statm_fd = -1 };
    struct why why = { 0 };
    log_open(svc->name, LOG_INFO);
    enum status st = start(&p, &why);
    bool is_clean = st == ST_OK;
    if (st == ST_OK) {
        log_event(LOG_INFO, "started", LOG_TEXT("version", CORDON_VERSION), LOG_NUMBER("pid", getpid()));
        wait_for_signal(&p);
        is_clean = drain(&p);
    } else {
        log_event(LOG_ERROR, "cannot_start", LOG_TEXT("status", status_name(st)), LOG_TEXT("why", why.text));
    }
    bool has_ended = stop(&p);
    log_event(LOG_INFO, "stopped", LOG_NUMBER("clean", is_clean && has_ended));
    if (!has_ended)
        _exit(EXIT_UNCLEAN);        /* its threads use what exit handlers would take away */
    return st == ST_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
