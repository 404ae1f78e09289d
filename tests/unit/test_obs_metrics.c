#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "core/cleanup.h"
#include "obs/metrics.h"

static char *print(struct metrics *m, struct buffer *out) {
    metrics_print(m, out);
    return out->data ? out->data : "";
}

Test(metrics, families_are_sorted_and_described_once) {
    CLEANUP(metrics_destroy) struct metrics *m = metrics_new();
    CLEANUP(buffer_end) struct buffer out = { 0 };
    counter_add(metrics_counter(m, "b_total", "Second.", "x=\"2\""), 3);
    counter_add(metrics_counter(m, "b_total", "Second.", "x=\"1\""), 2);
    gauge_set(metrics_gauge(m, "a", "First.", ""), 1.5);
    cr_expect_str_eq(print(m, &out), "# HELP a First.\n# TYPE a gauge\na 1.5\n"
                                     "# HELP b_total Second.\n# TYPE b_total counter\n"
                                     "b_total{x=\"1\"} 2\nb_total{x=\"2\"} 3\n");
}

Test(metrics, the_same_name_and_labels_are_the_same_object) {
    CLEANUP(metrics_destroy) struct metrics *m = metrics_new();
    cr_expect_eq(metrics_counter(m, "a", "h", "x=\"1\""), metrics_counter(m, "a", "h", "x=\"1\""));
    cr_expect_neq(metrics_counter(m, "a", "h", "x=\"1\""), metrics_counter(m, "a", "h", "x=\"2\""));
}

Test(metrics, histogram_buckets_are_cumulative) {
    CLEANUP(metrics_destroy) struct metrics *m = metrics_new();
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct histogram *h = metrics_histogram(m, "t_seconds", "Time.", "k=\"v\"");
    histogram_observe_us(h, 500);
    histogram_observe_us(h, 2000);
    histogram_observe_us(h, 120 * 1000000LL);
    const char *text = print(m, &out);
    cr_expect(strstr(text, "t_seconds_bucket{k=\"v\",le=\"0.0005\"} 1\n"), "%s", text);
    cr_expect(strstr(text, "t_seconds_bucket{k=\"v\",le=\"0.0025\"} 2\n"), "%s", text);
    cr_expect(strstr(text, "t_seconds_bucket{k=\"v\",le=\"60\"} 2\n"), "%s", text);
    cr_expect(strstr(text, "t_seconds_bucket{k=\"v\",le=\"+Inf\"} 3\n"), "%s", text);
    cr_expect(strstr(text, "t_seconds_count{k=\"v\"} 3\n"), "%s", text);
    cr_expect(strstr(text, "t_seconds_sum{k=\"v\"} 120.0025"), "%s", text);
}

static void *count_up(void *arg) {
    struct metrics *m = arg;
    for (int i = 0; i < 10000; i++) {
        counter_add(metrics_counter(m, "n_total", "N.", ""), 1);
        gauge_add(metrics_gauge(m, "g", "G.", ""), 1);
    }
    return NULL;
}

Test(metrics, threads_lose_no_update) {
    CLEANUP(metrics_destroy) struct metrics *m = metrics_new();
    CLEANUP(buffer_end) struct buffer out = { 0 };
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, count_up, m), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const char *text = print(m, &out);
    cr_expect(strstr(text, "n_total 40000\n"), "%s", text);
    cr_expect(strstr(text, "g 40000\n"), "%s", text);
}
