#include "aws/refresher.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "aws/sources.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"

enum { START_MS = 15000, FETCH_MS = 4000, RETRY_MIN_MS = 500, RETRY_MAX_MS = 30000, GET_WAIT_MS = 3000 };

struct refresher {
    const struct aws_settings *settings;
    const struct credentials_source *source;
    struct http_client *http, *metadata;
    pthread_t thread;
    bool has_thread;
    struct counter *renewed, *failed;   /* NULL without metrics */
    struct gauge *end;
    pthread_mutex_t lock;
    pthread_cond_t changed;             /* on the monotonic clock */
    /* under the lock */
    struct credentials *current;        /* NULL: rejected, or over */
    bool is_stopping;
};

static enum status fetch(struct refresher *r, bool is_production, int64_t deadline_ms, struct credentials **ret_credentials,
                         struct why *why) {
    const struct aws_settings *s = r->settings;
    struct source_context context = { .settings = s, .http = r->http, .metadata = r->metadata, .allow_plain = !is_production };
    CLEANUP(credentials_release) struct credentials *base = NULL;
    enum status st = r->source->fetch(&context, deadline_ms, &base, why);
    if (st != ST_OK || !s->assume_role_arn || !*s->assume_role_arn) {
        *ret_credentials = base;
        base = NULL;
        return st;
    }
    struct sts_role role = { .arn = s->assume_role_arn, .session_name = s->role_session_name };
    return source_assume(&context, base, &role, deadline_ms, ret_credentials, why);
}

static void set_current(struct refresher *r, struct credentials *fresh) {
    if (r->end)
        gauge_set(r->end, (double)fresh->expires_at_us / 1e6);
    pthread_mutex_lock(&r->lock);
    credentials_release(&r->current);
    r->current = fresh;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static int64_t jitter_ms(int64_t limit_ms) {
    uint32_t bits;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
        abort();
    return (int64_t)bits % limit_ms;
}

/* Wait under the lock until something changed or ms passed. */
static void wait_ms(struct refresher *r, int64_t ms) {
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&r->changed, &r->lock, &until);
}

/* Sleep until it is time to fetch; false: time to end. */
static bool wait_until_due(struct refresher *r, int64_t retry_ms) {
    pthread_mutex_lock(&r->lock);
    int64_t not_before_ms = clock_mono_ms() + (retry_ms ? RETRY_MIN_MS + jitter_ms(retry_ms) : 0);
    for (;;) {
        int64_t left_ms = not_before_ms - clock_mono_ms();
        int64_t until_due_ms = r->current ? (r->current->renew_at_us - clock_unix_us()) / 1000 : 0;
        if (until_due_ms > left_ms)
            left_ms = until_due_ms;
        if (r->is_stopping || left_ms <= 0)
            break;
        wait_ms(r, left_ms < 3600000 ? left_ms : 3600000);
    }
    bool goes_on = !r->is_stopping;
    pthread_mutex_unlock(&r->lock);
    return goes_on;
}

struct thread_start { struct refresher *refresher; bool is_production; };

static void *renew(void *arg) {
    struct thread_start start = *(struct thread_start *)arg;
    struct refresher *r = start.refresher;
    free(arg);
    for (int64_t retry_ms = 0; wait_until_due(r, retry_ms);) {
        struct credentials *fresh = NULL;
        struct why why = { 0 };
        if (fetch(r, start.is_production, clock_mono_ms() + FETCH_MS, &fresh, &why) == ST_OK) {
            set_current(r, fresh);
            retry_ms = RETRY_MIN_MS;    /* whatever the source says, it is not asked without a pause */
            if (r->renewed)
                counter_add(r->renewed, 1);
            continue;
        }
        retry_ms = retry_ms < RETRY_MIN_MS ? RETRY_MIN_MS : retry_ms < RETRY_MAX_MS / 2 ? retry_ms * 2 : RETRY_MAX_MS;
        if (r->failed)
            counter_add(r->failed, 1);
    }
    return NULL;
}

static void count_in(struct refresher *r, struct metrics *metrics) {
    static const char NAME[] = "cordon_aws_credentials_renewals_total", HELP[] = "Fetches of AWS credentials after the first, by outcome.";
    char labels[96];
    (void)snprintf(labels, sizeof labels, "source=\"%s\",outcome=\"ok\"", r->source->name);
    r->renewed = metrics_counter(metrics, NAME, HELP, labels);
    (void)snprintf(labels, sizeof labels, "source=\"%s\",outcome=\"failed\"", r->source->name);
    r->failed = metrics_counter(metrics, NAME, HELP, labels);
    (void)snprintf(labels, sizeof labels, "source=\"%s\"", r->source->name);
    r->end = metrics_gauge(metrics, "cordon_aws_credentials_expiry_timestamp_seconds", "When the present AWS credentials end; 0: never.", labels);
}

static enum status start_thread(struct refresher *r, bool is_production, struct why *why) {
    struct thread_start *start = xalloc(sizeof *start);
    *start = (struct thread_start){ r, is_production };
    if (pthread_create(&r->thread, NULL, renew, start) != 0) {
        free(start);
        return fail(why, ST_UNAVAILABLE, "aws credentials: no thread");
    }
    r->has_thread = true;
    return ST_OK;
}

enum status refresher_start(const struct aws_settings *settings, bool is_production, bool renews, struct metrics *metrics,
                            struct refresher **ret_refresher, struct why *why) {
    const struct credentials_source *source = credentials_source_of(settings);
    if (!source)
        return fail(why, ST_INVALID, "aws credentials: none are set (AWS_ACCESS_KEY_ID and others, see --help)");
    CLEANUP(refresher_destroy) struct refresher *r = xalloc(sizeof *r);
    r->settings = settings;
    r->source = source;
    r->http = http_client_new(&(struct http_options){ .allow_plain = !is_production, .proxy = settings->proxy });
    r->metadata = http_client_new(&(struct http_options){ .allow_plain = true });
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&r->lock, NULL);
    if (metrics)
        count_in(r, metrics);
    struct credentials *first = NULL;
    enum status st = fetch(r, is_production, clock_mono_ms() + START_MS, &first, why);
    if (st != ST_OK)
        return st;
    bool lasts = first->renew_at_us == 0;
    set_current(r, first);
    if (renews && !lasts && (st = start_thread(r, is_production, why)) != ST_OK)
        return st;
    *ret_refresher = r;
    r = NULL;
    return ST_OK;
}

void refresher_destroy(struct refresher **refresher_p) {
    struct refresher *r = *refresher_p;
    *refresher_p = NULL;
    if (!r)
        return;
    if (r->has_thread) {
        pthread_mutex_lock(&r->lock);
        r->is_stopping = true;
        pthread_cond_broadcast(&r->changed);
        pthread_mutex_unlock(&r->lock);
        pthread_join(r->thread, NULL);
    }
    credentials_release(&r->current);
    http_client_destroy(&r->http);
    http_client_destroy(&r->metadata);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static bool is_over(const struct credentials *c) {
    return !c || (c->expires_at_us && c->expires_at_us <= clock_unix_us());
}

static enum status get(void *ctx, struct credentials **ret_credentials, struct why *why) {
    struct refresher *r = ctx;
    int64_t until_ms = clock_mono_ms() + GET_WAIT_MS;
    pthread_mutex_lock(&r->lock);
    while (is_over(r->current) && r->has_thread && !r->is_stopping && clock_mono_ms() < until_ms)
        wait_ms(r, until_ms - clock_mono_ms() > 0 ? until_ms - clock_mono_ms() : 1);
    bool has = !is_over(r->current);
    if (has)
        *ret_credentials = credentials_hold(r->current);
    pthread_mutex_unlock(&r->lock);
    return has ? ST_OK : fail(why, ST_UNAVAILABLE, "aws credentials: they ended, and %s gives no others", r->source->name);
}

static void reject(void *ctx, const struct credentials *rejected) {
    struct refresher *r = ctx;
    pthread_mutex_lock(&r->lock);
    if (r->has_thread && r->current == rejected) {
        credentials_release(&r->current);
        pthread_cond_broadcast(&r->changed);
    }
    pthread_mutex_unlock(&r->lock);
}

struct credentials_provider refresher_provider(struct refresher *refresher) {
    return (struct credentials_provider){ .get = get, .reject = reject, .ctx = refresher };
}
