#include "issuer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/str.h"
#include "json/reader.h"

#define URL_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?[]@!$&'()*+,;=%"

enum { DISCOVERY_MAX_BYTES = 64 << 10, URL_MAX_BYTES = 2048, RETRY_MAX_MS = 5000 };

struct issuer {
    struct issuer_options options;
    char *url, *discovery_url;
    pthread_t thread;
    pthread_mutex_t lock;           /* guards everything below */
    pthread_cond_t changed;         /* a fetch ended, one is wanted, or the end is near */
    struct jwks *keys;              /* NULL before the first good fetch */
    struct arena *metadata;         /* endpoints' texts; fetched with keys */
    struct issuer_endpoints endpoints;
    uint64_t edition;               /* of keys: counts good fetches */
    uint64_t attempts;              /* counts fetches that ended */
    int64_t fetched_ms;             /* when keys were fetched */
    int64_t next_ms;                /* when the next fetch is due by itself */
    int64_t earned_ms;              /* fetches for unknown keys are saved up since then: pause_ms each */
    int64_t retry_ms;               /* next distance after a failure */
    unsigned waiters;
    bool is_wanted, is_fetching, is_failing, is_ending;
    struct why last_failure;
};

static bool is_url_allowed(const struct issuer *issuer, const char *url) {
    return str_starts_with(url, "https://") || (issuer->options.allows_http && str_starts_with(url, "http://"));
}

/* An endpoint that is absent or may not be used is one that the issuer does not have: keys are good without. */
static const char *read_endpoint(const struct issuer *issuer, struct arena *mem, const json_t *document, const char *name) {
    const char *url = json_string_value(json_object_get(document, name));
    bool is_good = url && strlen(url) <= URL_MAX_BYTES && is_url_allowed(issuer, url) && strspn(url, URL_CHARS) == strlen(url);
    return is_good ? arena_strdup(mem, url) : NULL;
}

static bool lists(const json_t *array, const char *text) {
    for (size_t i = 0; i < json_array_size(array); i++)
        if (str_equal(json_string_value(json_array_get(array, i)), text))
            return true;
    return false;
}

static void read_endpoints(const struct issuer *issuer, struct arena *mem, const json_t *document, struct issuer_endpoints *out) {
    const json_t *methods = json_object_get(document, "token_endpoint_auth_methods_supported");
    *out = (struct issuer_endpoints){
        .authorization = read_endpoint(issuer, mem, document, "authorization_endpoint"),
        .token = read_endpoint(issuer, mem, document, "token_endpoint"),
        .end_session = read_endpoint(issuer, mem, document, "end_session_endpoint"),
        .revocation = read_endpoint(issuer, mem, document, "revocation_endpoint"),
        .names_itself = json_is_true(json_object_get(document, "authorization_response_iss_parameter_supported")),
        .wants_secret_in_body = lists(methods, "client_secret_post") && !lists(methods, "client_secret_basic"),
    };
}

/* OpenID Connect Discovery 1.0, 4: the document's issuer must be the one that we were told. */
static enum status read_discovery(const struct issuer *issuer, struct arena *mem, const char **ret_keys_url,
                                  struct issuer_endpoints *ret_endpoints, struct why *why) {
    CLEANUP(buffer_end) struct buffer body;
    buffer_init(&body, DISCOVERY_MAX_BYTES);
    enum status st = issuer->options.fetch(issuer->options.fetch_ctx, issuer->discovery_url, &body, why);
    if (st != ST_OK)
        return st;
    CLEANUP(json_destroy) json_t *document = NULL;
    st = json_parse(body.data, body.len, DISCOVERY_MAX_BYTES, &document, why);
    if (st != ST_OK)
        return st;
    const char *name = NULL, *keys_url = NULL;
    st = json_get_text(document, "issuer", JSON_REQUIRED, URL_MAX_BYTES, &name, why);
    if (st == ST_OK)
        st = json_get_text(document, "jwks_uri", JSON_REQUIRED, URL_MAX_BYTES, &keys_url, why);
    if (st != ST_OK)
        return st;
    if (!str_equal(name, issuer->url))
        return fail(why, ST_INVALID, "the discovery document is of another issuer");
    if (!is_url_allowed(issuer, keys_url))
        return fail(why, ST_INVALID, "jwks_uri is not https");
    *ret_keys_url = arena_strdup(mem, keys_url);
    read_endpoints(issuer, mem, document, ret_endpoints);
    return ST_OK;
}

static enum status fetch_keys(const struct issuer *issuer, struct arena *mem, struct jwks **ret_keys, struct issuer_endpoints *ret_endpoints,
                              struct why *why) {
    const char *keys_url = NULL;
    enum status st = read_discovery(issuer, mem, &keys_url, ret_endpoints, why);
    if (st != ST_OK)
        return st;
    CLEANUP(buffer_end) struct buffer body;
    buffer_init(&body, JWKS_MAX_BYTES);
    st = issuer->options.fetch(issuer->options.fetch_ctx, keys_url, &body, why);
    return st == ST_OK ? jwks_parse(body.data, body.len, ret_keys, why) : st;
}

/* Wait on `changed` until then; false: it is then. */
static bool wait_until(struct issuer *issuer, int64_t then_ms) {
    struct timespec at = { .tv_sec = then_ms / 1000, .tv_nsec = then_ms % 1000 * 1000000 };
    return pthread_cond_timedwait(&issuer->changed, &issuer->lock, &at) == 0;
}

/* Locked on entry and on return; unlocked while it waits for the provider. */
static void fetch_once(struct issuer *issuer) {
    issuer->is_wanted = false;
    issuer->is_fetching = true;
    pthread_mutex_unlock(&issuer->lock);

    struct jwks *keys = NULL;
    struct why why = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct issuer_endpoints endpoints = { 0 };
    enum status st = fetch_keys(issuer, mem, &keys, &endpoints, &why);

    pthread_mutex_lock(&issuer->lock);
    int64_t now = clock_mono_ms();
    issuer->is_fetching = false;
    issuer->is_failing = st != ST_OK;
    issuer->attempts++;
    if (st == ST_OK) {
        jwks_destroy(&issuer->keys);
        issuer->keys = keys;
        arena_destroy(&issuer->metadata);
        issuer->metadata = mem;
        mem = NULL;
        issuer->endpoints = endpoints;
        issuer->edition++;
        issuer->fetched_ms = now;
        issuer->retry_ms = issuer->options.retry_ms;
        issuer->next_ms = now + issuer->options.refresh_ms;
    } else {
        issuer->last_failure = why;
        issuer->next_ms = now + issuer->retry_ms;
        issuer->retry_ms = 2 * issuer->retry_ms < RETRY_MAX_MS ? 2 * issuer->retry_ms : RETRY_MAX_MS;
    }
    pthread_cond_broadcast(&issuer->changed);
}

static void *run(void *arg) {
    struct issuer *issuer = arg;
    pthread_mutex_lock(&issuer->lock);
    while (!issuer->is_ending) {
        if (issuer->is_wanted || clock_mono_ms() >= issuer->next_ms)
            fetch_once(issuer);
        else
            (void)wait_until(issuer, issuer->next_ms);
    }
    pthread_mutex_unlock(&issuer->lock);
    return NULL;
}

static char *discovery_url(const char *url) {
    static const char PATH[] = "/.well-known/openid-configuration";
    size_t len = strlen(url), size = len + sizeof PATH;
    char *made = xalloc(size);
    if (len && url[len - 1] == '/')
        len--;
    (void)snprintf(made, size, "%.*s%s", (int)len, url, PATH);
    return made;
}

static int64_t or_default(int64_t value, int64_t fallback) {
    return value ? value : fallback;
}

struct issuer *issuer_new(const struct issuer_options *options) {
    struct issuer *issuer = xalloc(sizeof *issuer);
    issuer->options = *options;
    issuer->options.refresh_ms = or_default(options->refresh_ms, 5 * 60 * 1000);
    issuer->options.retry_ms = or_default(options->retry_ms, 1000);
    issuer->options.pause_ms = or_default(options->pause_ms, 6 * 1000);
    issuer->options.asks_max = or_default(options->asks_max, 5);
    issuer->earned_ms = clock_mono_ms() - issuer->options.asks_max * issuer->options.pause_ms;
    issuer->options.stale_ms = or_default(options->stale_ms, 60 * 60 * 1000);
    issuer->retry_ms = issuer->options.retry_ms;
    issuer->url = xstrdup(options->url);
    issuer->discovery_url = discovery_url(options->url);
    issuer->last_failure = (struct why){ .code = ERR_AUTH_PROVIDER, .text = "no answer yet" };

    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&issuer->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&issuer->lock, NULL);
    if (pthread_create(&issuer->thread, NULL, run, issuer) != 0)
        abort();        /* as out of memory: the supervisor restarts us */
    return issuer;
}

void issuer_destroy(struct issuer **issuer_p) {
    struct issuer *issuer = *issuer_p;
    if (!issuer)
        return;
    *issuer_p = NULL;
    pthread_mutex_lock(&issuer->lock);
    issuer->is_ending = true;
    pthread_cond_broadcast(&issuer->changed);
    pthread_mutex_unlock(&issuer->lock);
    pthread_join(issuer->thread, NULL);
    pthread_cond_destroy(&issuer->changed);
    pthread_mutex_destroy(&issuer->lock);
    jwks_destroy(&issuer->keys);
    arena_destroy(&issuer->metadata);
    free(issuer->url);
    free(issuer->discovery_url);
    free(issuer);
}

static bool has_keys(const struct issuer *issuer) {
    return issuer->keys && clock_mono_ms() - issuer->fetched_ms < issuer->options.stale_ms;
}

static enum status out_of_reach(const struct issuer *issuer, struct why *why) {
    return fail_as(why, ERR_AUTH_PROVIDER, "no keys of the issuer: %.200s", issuer->last_failure.text);
}

/* Locked. A fetch under way is waited for, the next one is not: a provider that is down must not hold up workers. */
static enum status wait_for_keys(struct issuer *issuer, int64_t deadline_ms, struct why *why) {
    while (!has_keys(issuer) && (issuer->attempts == 0 || issuer->is_fetching) && wait_until(issuer, deadline_ms))
        continue;
    return has_keys(issuer) ? ST_OK : out_of_reach(issuer, why);
}

enum status issuer_keys(struct issuer *issuer, int64_t deadline_ms, struct jwks **ret_keys, uint64_t *ret_edition,
                        struct why *why) {
    pthread_mutex_lock(&issuer->lock);
    enum status st = wait_for_keys(issuer, deadline_ms, why);
    if (st == ST_OK) {
        *ret_keys = jwks_share(issuer->keys);
        *ret_edition = issuer->edition;
    }
    pthread_mutex_unlock(&issuer->lock);
    return st;
}

static const char *copy(struct arena *mem, const char *text) {
    return text ? arena_strdup(mem, text) : NULL;
}

enum status issuer_endpoints(struct issuer *issuer, int64_t deadline_ms, struct arena *mem, struct issuer_endpoints *ret_endpoints,
                             struct why *why) {
    pthread_mutex_lock(&issuer->lock);
    enum status st = wait_for_keys(issuer, deadline_ms, why);
    if (st == ST_OK) {
        *ret_endpoints = issuer->endpoints;
        ret_endpoints->authorization = copy(mem, issuer->endpoints.authorization);
        ret_endpoints->token = copy(mem, issuer->endpoints.token);
        ret_endpoints->end_session = copy(mem, issuer->endpoints.end_session);
        ret_endpoints->revocation = copy(mem, issuer->endpoints.revocation);
    }
    pthread_mutex_unlock(&issuer->lock);
    return st;
}

/* Locked. May an unknown key cause a fetch now, or is one under way that will answer for it? Takes what it spends. */
static bool may_ask(struct issuer *issuer) {
    if (issuer->is_fetching || issuer->is_wanted)
        return true;
    int64_t now = clock_mono_ms(), most_ms = issuer->options.asks_max * issuer->options.pause_ms;
    if (now - issuer->earned_ms > most_ms)
        issuer->earned_ms = now - most_ms;
    if (now - issuer->earned_ms < issuer->options.pause_ms)
        return false;
    issuer->earned_ms += issuer->options.pause_ms;
    return true;
}

static enum status wait_for_newer(struct issuer *issuer, uint64_t edition, int64_t deadline_ms, struct why *why) {
    if (issuer->edition > edition)
        return ST_OK;
    if (issuer->waiters >= ISSUER_WAITERS_MAX)
        return fail_as(why, ERR_AUTH_PROVIDER, "too many requests wait for the issuer's keys");
    if (!may_ask(issuer))
        return issuer->is_failing ? out_of_reach(issuer, why)
             : fail(why, ST_NOT_FOUND, "the issuer's keys were read a moment ago");
    uint64_t seen = issuer->attempts;
    if (!issuer->is_fetching) {
        issuer->is_wanted = true;
        pthread_cond_broadcast(&issuer->changed);
    }
    issuer->waiters++;
    while (issuer->attempts == seen && wait_until(issuer, deadline_ms))
        continue;
    issuer->waiters--;
    return issuer->edition > edition ? ST_OK : out_of_reach(issuer, why);
}

enum status issuer_newer_keys(struct issuer *issuer, uint64_t edition, int64_t deadline_ms, struct jwks **ret_keys,
                              struct why *why) {
    pthread_mutex_lock(&issuer->lock);
    enum status st = wait_for_newer(issuer, edition, deadline_ms, why);
    if (st == ST_OK)
        *ret_keys = jwks_share(issuer->keys);
    pthread_mutex_unlock(&issuer->lock);
    return st;
}

enum status issuer_check(struct issuer *issuer, struct why *why) {
    pthread_mutex_lock(&issuer->lock);
    enum status st = has_keys(issuer) ? ST_OK : out_of_reach(issuer, why);
    pthread_mutex_unlock(&issuer->lock);
    return st;
}
