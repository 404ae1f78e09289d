#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "service/skeleton.h"

static void collect_memory(struct metrics *m) {
    long whole = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (!statm)
        return;
    if (fscanf(statm, "%ld %ld", &whole, &resident) == 2) {
        double page_bytes = (double)sysconf(_SC_PAGESIZE);
        gauge_set(metrics_gauge(m, "process_virtual_memory_bytes", "Virtual memory.", ""), (double)whole * page_bytes);
        gauge_set(metrics_gauge(m, "process_resident_memory_bytes", "Resident memory.", ""), (double)resident * page_bytes);
    }
    (void)fclose(statm);
}

static void collect_files(struct metrics *m) {
    struct rlimit limit;
    DIR *open_files = opendir("/proc/self/fd");
    if (open_files) {
        int count = -3;             /* ".", ".." and the directory itself */
        while (readdir(open_files))
            count++;
        (void)closedir(open_files);
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
    collect_memory(m);
    collect_files(m);
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
    for (const struct ready_check *c = h->svc->ready; c && c->name; c++) {
        struct why why = { 0 };
        enum status st = c->check(h->self, &why);
        health_report_add(report, c->name, st, why.text);
    }
}
