// links: http bench
/* Requests per second at the edge of a running stack: a route that needs no token, and one that is
 * authenticated, asks the database under the ticket and commits an audit event. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "support/measure.h"

static char live_url[256], job_url[256], authorization[8192];

struct client { CURL *curl; struct curl_slist *headers; };

static size_t drop(char *data, size_t size, size_t count, void *ctx) {
    (void)data;
    (void)ctx;
    return size * count;
}

static void *client_begin(void *ctx, unsigned caller) {
    struct client *c = xalloc(sizeof *c);
    (void)caller;
    c->curl = curl_easy_init();
    c->headers = ctx == job_url ? curl_slist_append(NULL, authorization) : NULL;
    curl_easy_setopt(c->curl, CURLOPT_URL, (const char *)ctx);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    return c;
}

static void client_get(void *state, struct stopwatch *watch) {
    struct client *c = state;
    long status = 0;
    (void)watch;
    CURLcode code = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status != 200)
        bench_fail("%s, status %ld", curl_easy_strerror(code), status);
}

static void client_end(void *state) {
    struct client *c = state;
    curl_easy_cleanup(c->curl);
    curl_slist_free_all(c->headers);
    free(c);
}

#define ROW(label, n, reference, url) { label, n, 1, "requests", reference, url, client_begin, client_get, client_end }

int main(void) {
    const char *edge = bench_setting("BENCH_EDGE");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    snprintf(live_url, sizeof live_url, "%s/api/v1/health/live", edge);
    snprintf(job_url, sizeof job_url, "%s/api/v1/jobs/%s", edge, bench_setting("BENCH_JOB_ID"));
    snprintf(authorization, sizeof authorization, "Authorization: Bearer %s", bench_setting("BENCH_TOKEN"));
    const struct bench_row rows[] = {
        ROW("GET /api/v1/health/live", 1, NO_ROW, live_url),
        ROW("the same", 16, NO_ROW, live_url),
        ROW("GET /api/v1/jobs/{id}", 1, 0, job_url),
        ROW("the same", 16, 1, job_url),
    };
    measure("http", "Connections are kept. The job is behind a bearer token, a ticket, a tenant transaction and a committed audit event.",
            rows, sizeof rows / sizeof *rows);
    curl_global_cleanup();
    return 0;
}
