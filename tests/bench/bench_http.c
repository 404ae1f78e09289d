// links: http bench
/* Requests per second at the edge of a running stack: a route that needs no token; one that a token opens and that the edge
 * itself then refuses as malformed, so that nothing but the authentication is added, with one token, whose ticket the
 * edge keeps for a second, and with so many that auth is asked each time; and one that asks the
 * database under the ticket and commits an audit event. */
#include <curl/curl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "support/measure.h"

/* What a row asks for. Headers are shared by callers and not changed. */
struct target { char url[256]; long wanted; struct curl_slist **headers; unsigned header_count; atomic_uint next; };

struct client { CURL *curl; struct target *target; };

static size_t drop(char *data, size_t size, size_t count, void *ctx) {
    (void)data;
    (void)ctx;
    return size * count;
}

static void *client_begin(void *ctx, unsigned caller) {
    struct client *c = xalloc(sizeof *c);
    (void)caller;
    c->target = ctx;
    c->curl = curl_easy_init();
    curl_easy_setopt(c->curl, CURLOPT_URL, c->target->url);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    return c;
}

static void client_get(void *state, struct stopwatch *watch) {
    struct client *c = state;
    long status = 0;
    (void)watch;
    if (c->target->header_count)
        curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, c->target->headers[atomic_fetch_add(&c->target->next, 1) % c->target->header_count]);
    CURLcode code = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status != c->target->wanted)
        bench_fail("%s, status %ld", curl_easy_strerror(code), status);
}

static void client_end(void *state) {
    struct client *c = state;
    curl_easy_cleanup(c->curl);
    free(c);
}

static struct curl_slist *authorization(const char *token) {
    char line[8192 + 32];
    (void)snprintf(line, sizeof line, "Authorization: Bearer %s", token);
    return curl_slist_append(NULL, line);
}

/* One token a line; first used here, so that the row does not count the sessions that first uses make. */
static void read_tokens(const char *path, struct target *target) {
    FILE *file = fopen(path, "re");
    char line[8192];
    target->headers = xalloc(65536 * sizeof *target->headers);
    while (file && target->header_count < 65536 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        target->headers[target->header_count++] = authorization(line);
    }
    if (!target->header_count)
        bench_fail("%s: no tokens", path);
    (void)fclose(file);
    struct client *c = client_begin(target, 0);
    for (unsigned i = 0; i < target->header_count; i++)
        client_get(c, NULL);
    client_end(c);
}

#define ROW(label, n, reference, target) { label, n, 1, "requests", reference, target, client_begin, client_get, client_end }

int main(void) {
    const char *edge = bench_setting("BENCH_EDGE");
    static struct target live = { .wanted = 200 }, known = { .wanted = 400 }, unknown = { .wanted = 400 }, job = { .wanted = 200 };
    struct curl_slist *one = authorization(bench_setting("BENCH_TOKEN"));
    curl_global_init(CURL_GLOBAL_DEFAULT);
    snprintf(live.url, sizeof live.url, "%s/api/v1/health/live", edge);
    snprintf(known.url, sizeof known.url, "%s/api/v1/jobs/0", edge);
    snprintf(unknown.url, sizeof unknown.url, "%s/api/v1/jobs/0", edge);
    snprintf(job.url, sizeof job.url, "%s/api/v1/jobs/%s", edge, bench_setting("BENCH_JOB_ID"));
    known.headers = job.headers = &one;
    known.header_count = job.header_count = 1;
    read_tokens(bench_setting("BENCH_TOKENS"), &unknown);
    const struct bench_row rows[] = {
        ROW("GET /api/v1/health/live", 1, NO_ROW, &live),
        ROW("the same", 16, NO_ROW, &live),
        ROW("a token whose ticket the edge has, and 400", 1, 0, &known),
        ROW("the same", 16, 1, &known),
        ROW("a token that auth must be asked about, and 400", 1, 0, &unknown),
        ROW("the same", 16, 1, &unknown),
        ROW("GET /api/v1/jobs/{id}", 1, 0, &job),
        ROW("the same", 16, 1, &job),
    };
    measure("http", "Connections are kept. 400: the id is malformed, which the edge says once it knows who asks, so that the rows differ from the first by authentication alone. "
            "The job is behind a bearer token, a ticket, a tenant transaction and a committed audit event.",
            rows, sizeof rows / sizeof *rows);
    curl_global_cleanup();
    return 0;
}
