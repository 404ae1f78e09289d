#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "confine/confine.h"
#include "service/skeleton.h"

void health_open(struct health *h) {
    h->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    h->open_files = opendir("/proc/self/fd");
}

void health_close(struct health *h) {
    if (h->statm_fd >= 0)
        (void)close(h->statm_fd);
    if (h->open_files)
        (void)closedir(h->open_files);
    h->statm_fd = -1;
    h->open_files = NULL;
}

static void collect_memory(const struct health *h) {
    struct metrics *m = h->rt->metrics;
    char text[128] = "";
    long whole = 0, resident = 0;
    if (pread(h->statm_fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%ld %ld", &whole, &resident) != 2)
        return;
    double page_bytes = (double)sysconf(_SC_PAGESIZE);
    gauge_set(metrics_gauge(m, "process_virtual_memory_bytes", "Virtual memory.", ""), (double)whole * page_bytes);
    gauge_set(metrics_gauge(m, "process_resident_memory_bytes", "Resident memory.", ""), (double)resident * page_bytes);
}

static void collect_files(const struct health *h) {
    struct metrics *m = h->rt->metrics;
    struct rlimit limit;
    if (h->open_files) {
        int count = -2;             /* "." and ".." */
        rewinddir(h->open_files);
        while (readdir(h->open_files))
            count++;
        gauge_set(metrics_gauge(m, "process_open_fds", "Open file descriptors.", ""), count);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        gauge_set(metrics_gauge(m, "process_max_fds", "Limit of open file descriptors.", ""), (double)limit.rlim_cur);
}

static double seconds(struct timeval t) {
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* The names that Prometheus' own client libraries use. */
static void collect_process(const struct health *h) {
    struct metrics *m = h->rt->metrics;
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used) == 0)
        gauge_set(metrics_total(m, "process_cpu_seconds_total", "User and system time.", ""),
                  seconds(used.ru_utime) + seconds(used.ru_stime));
    collect_memory(h);
    collect_files(h);
    gauge_set(metrics_gauge(m, "process_start_time_seconds", "Start time since the epoch.", ""),
              (double)h->started_us / 1e6);
    char labels[96];
    (void)snprintf(labels, sizeof labels, "process=\"%s\",version=\"%s\"", h->rt->process, CORDON_VERSION);
    gauge_set(metrics_gauge(m, "cordon_build_info", "Which program this is; always 1.", labels), 1);
}

void health_collect(void *health) {
    struct health *h = health;
    collect_process(h);
    if (h->svc->collect)
        h->svc->collect(h->self, h->rt->metrics);
}

void health_ready(void *health, struct health_report *report) {
    struct health *h = health;
    health_report_add(report, "accepting", runtime_is_stopping(h->rt) ? ST_UNAVAILABLE : ST_OK, "draining");
    for (unsigned i = 0; i < PEER_COUNT; i++)
        if (h->svc->calls & peer_at(i)) {
            char name[48];
            (void)snprintf(name, sizeof name, "peer:%s", peer_name(peer_at(i)));
            health_report_add(report, name, bus_peer_is_up(h->rt->bus, peer_at(i)) ? ST_OK : ST_UNAVAILABLE,
                              "no replica is connected");
        }
    if (h->announce)
        health_report_add(report, "start_recorded", announce_is_recorded(h->announce) ? ST_OK : ST_UNAVAILABLE, "nobody has put it on the record yet");
    for (const struct ready_check *c = h->svc->ready; c && c->name; c++) {
        struct why why = { 0 };
        enum status st = c->check(h->self, &why);
        health_report_add(report, c->name, st, why.text);
    }
    for (unsigned i = 0; i < HARDEN_COUNT; i++) {
        char name[48];
        bool is_lost = i == HARDEN_LOCKED_MEMORY && h->hardening->steps[i].is_done && !memory_is_lockable();
        (void)snprintf(name, sizeof name, "hardening:%s", hardening_name(i));
        health_report_note(report, name, is_lost ? "no more keys can be locked: RLIMIT_MEMLOCK" : h->hardening->steps[i].text);
    }
}
