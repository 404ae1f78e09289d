/* The issuer's keys: one fetch at a time, few of them, and old keys rather than none. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/str.h"
#include "issuer.h"
#include "support/signer.h"

#define URL "https://idp.example"

enum { PATIENCE_MS = 10000 };

/* A provider in memory: what it answers, and how often it was asked. */
struct provider {
    pthread_mutex_t lock;
    const char *discovery, *keys;       /* NULL: out of reach */
    int delay_ms;
    atomic_int asked;                   /* for discovery documents */
    char last_keys_url[256];
};

static struct arena *mem;
static struct provider provider;
static struct issuer *issuer;

static void sleep_ms(int ms) {
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static enum status fetch(void *ctx, const char *url, struct buffer *body, struct why *why) {
    struct provider *p = ctx;
    pthread_mutex_lock(&p->lock);
    bool is_discovery = str_ends_with(url, "/.well-known/openid-configuration");
    const char *text = is_discovery ? p->discovery : p->keys;
    int delay_ms = is_discovery ? p->delay_ms : 0;
    if (is_discovery)
        atomic_fetch_add(&p->asked, 1);
    else
        strncpy(p->last_keys_url, url, sizeof p->last_keys_url - 1);
    pthread_mutex_unlock(&p->lock);
    if (delay_ms)
        sleep_ms(delay_ms);
    if (!text)
        return fail(why, ST_UNAVAILABLE, "refused");
    return buffer_add_str(body, text) ? ST_OK : fail(why, ST_UNAVAILABLE, "too large");
}

static void answer(const char *discovery, const char *keys) {
    pthread_mutex_lock(&provider.lock);
    provider.discovery = discovery;
    provider.keys = keys;
    pthread_mutex_unlock(&provider.lock);
}

static const char *fresh_keys(const char *kid) {
    CLEANUP(signer_destroy) struct signer *s = signer_new("ES256", 0);
    return signer_jwks(s, mem, arena_printf(mem, "\"kid\":\"%s\"", kid));
}

static const char DISCOVERY[] = "{\"issuer\":\"" URL "\",\"jwks_uri\":\"https://idp.example/keys\"}";

static void start(struct issuer_options options) {
    options.url = options.url ? options.url : URL;
    options.fetch = fetch;
    options.fetch_ctx = &provider;
    issuer = issuer_new(&options);
}

static void begin(void) {
    mem = arena_new(0);
    pthread_mutex_init(&provider.lock, NULL);
    answer(DISCOVERY, fresh_keys("one"));
}
static void end(void) { issuer_destroy(&issuer); arena_destroy(&mem); }
TestSuite(issuer, .init = begin, .fini = end, .timeout = 30);

static enum status take(int wait_ms, char kid[32], uint64_t *ret_edition) {
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    struct why why = { 0 };
    enum status st = issuer_keys(issuer, clock_mono_ms() + wait_ms, &keys, ret_edition, &why);
    if (st == ST_OK)
        strncpy(kid, jwks_at(keys, 0)->id, 31);
    else
        cr_expect_eq(why.code, ERR_AUTH_PROVIDER);
    return st;
}

static enum status newer(uint64_t edition, char kid[32]) {
    CLEANUP(jwks_destroy) struct jwks *keys = NULL;
    struct why why = { 0 };
    enum status st = issuer_newer_keys(issuer, edition, clock_mono_ms() + PATIENCE_MS, &keys, &why);
    if (st == ST_OK)
        strncpy(kid, jwks_at(keys, 0)->id, 31);
    return st;
}

Test(issuer, keys_come_from_where_discovery_says) {
    char kid[32] = "";
    uint64_t edition = 0;
    start((struct issuer_options){ 0 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    cr_assert_str_eq(kid, "one");
    cr_assert_eq(edition, 1);
    cr_assert_str_eq(provider.last_keys_url, "https://idp.example/keys");
    cr_assert_eq(issuer_check(issuer, &(struct why){ 0 }), ST_OK);
}

Test(issuer, a_slash_at_the_end_belongs_to_the_issuers_name) {
    char kid[32] = "";
    uint64_t edition;
    answer("{\"issuer\":\"https://idp.example/\",\"jwks_uri\":\"https://idp.example/keys\"}", fresh_keys("one"));
    start((struct issuer_options){ .url = "https://idp.example/" });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
}

Test(issuer, discovery_documents_that_cannot_be_believed_give_no_keys) {
    static const char *const DOCUMENTS[] = {
        "{\"issuer\":\"https://idp.example/\",\"jwks_uri\":\"https://idp.example/keys\"}",
        "{\"issuer\":\"https://evil.example\",\"jwks_uri\":\"https://idp.example/keys\"}",
        "{\"issuer\":\"https://idp.example\",\"jwks_uri\":\"http://idp.example/keys\"}",
        "{\"issuer\":\"https://idp.example\",\"jwks_uri\":\"file:///etc/passwd\"}",
        "{\"issuer\":\"https://idp.example\"}", "{\"jwks_uri\":\"https://idp.example/keys\"}", "[]", "<html></html>", "",
        "{\"issuer\":\"https://idp.example\",\"issuer\":\"https://idp.example\",\"jwks_uri\":\"https://idp.example/keys\"}",
    };
    for (size_t i = 0; i < sizeof DOCUMENTS / sizeof *DOCUMENTS; i++) {
        char kid[32];
        uint64_t edition;
        answer(DOCUMENTS[i], fresh_keys("one"));
        start((struct issuer_options){ 0 });
        cr_expect_eq(take(500, kid, &edition), ST_UNAVAILABLE, "%s", DOCUMENTS[i]);
        issuer_destroy(&issuer);
    }
}

Test(issuer, plain_http_is_for_development) {
    char kid[32];
    uint64_t edition;
    answer("{\"issuer\":\"https://idp.example\",\"jwks_uri\":\"http://127.0.0.1/keys\"}", fresh_keys("one"));
    start((struct issuer_options){ .allows_http = true });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
}

Test(issuer, key_sets_that_are_no_key_sets_are_not_taken) {
    char kid[32] = "";
    uint64_t edition;
    start((struct issuer_options){ .refresh_ms = 20, .retry_ms = 20 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    answer(DISCOVERY, "{\"keys\":[]}");
    sleep_ms(100);
    cr_assert_eq(take(0, kid, &edition), ST_OK);
    cr_assert_str_eq(kid, "one");
}

Test(issuer, rotation_is_seen_when_a_token_names_the_new_key) {
    char kid[32] = "";
    uint64_t edition = 0;
    start((struct issuer_options){ 0 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    answer(DISCOVERY, fresh_keys("two"));
    cr_assert_eq(newer(edition, kid), ST_OK);
    cr_assert_str_eq(kid, "two");
    cr_assert_eq(newer(edition, kid), ST_OK, "whoever still holds the old edition gets the new one at once");
    cr_assert_eq(atomic_load(&provider.asked), 2);
}

Test(issuer, unknown_keys_cause_one_fetch_in_the_pause) {
    enum { PAUSE_MS = 3000 };       /* all is asked within it, however slow the machine is */
    char kid[32] = "";
    uint64_t edition = 0;
    start((struct issuer_options){ .pause_ms = PAUSE_MS, .asks_max = 1 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    cr_assert_eq(newer(edition, kid), ST_OK);
    for (int i = 0; i < 50; i++)
        cr_assert_eq(newer(edition + 1, kid), ST_NOT_FOUND);
    cr_assert_eq(atomic_load(&provider.asked), 2);
    sleep_ms(PAUSE_MS + 50);
    cr_assert_eq(newer(edition + 1, kid), ST_OK);
    cr_assert_eq(atomic_load(&provider.asked), 3);
}

Test(issuer, a_stray_key_is_not_in_the_way_of_a_rotation) {
    char kid[32] = "";
    uint64_t edition = 0;
    start((struct issuer_options){ .pause_ms = 60000, .asks_max = 3 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    cr_assert_eq(newer(edition, kid), ST_OK, "somebody made a key up");
    cr_assert_str_eq(kid, "one");
    answer(DISCOVERY, fresh_keys("two"));
    cr_assert_eq(newer(edition + 1, kid), ST_OK, "and a moment later the keys rotate");
    cr_assert_str_eq(kid, "two");
    answer(DISCOVERY, fresh_keys("three"));
    cr_assert_eq(newer(edition + 2, kid), ST_OK);
    cr_assert_str_eq(kid, "three");
    for (int i = 0; i < 50; i++)
        cr_assert_eq(newer(edition + 3, kid), ST_NOT_FOUND, "what was saved up is spent");
    cr_assert_eq(atomic_load(&provider.asked), 4);
}

static void *ask_newer(void *arg) {
    char kid[32];
    return newer(*(uint64_t *)arg, kid) == ST_OK ? arg : NULL;
}

Test(issuer, callers_share_one_fetch) {
    enum { CALLERS = ISSUER_WAITERS_MAX };
    char kid[32] = "";
    uint64_t edition = 0;
    pthread_t threads[CALLERS];
    start((struct issuer_options){ 0 });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    provider.delay_ms = 200;
    for (int i = 0; i < CALLERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, ask_newer, &edition), 0);
    for (int i = 0; i < CALLERS; i++) {
        void *ret = NULL;
        pthread_join(threads[i], &ret);
        cr_expect_not_null(ret);
    }
    cr_assert_eq(atomic_load(&provider.asked), 2);
}

/* Ask until that is the answer, or for long enough; the last one. */
static enum status take_until(enum status wanted, char kid[32], uint64_t *ret_edition) {
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    enum status st = take(0, kid, ret_edition);
    while (st != wanted && clock_mono_ms() < until_ms) {
        sleep_ms(10);
        st = take(0, kid, ret_edition);
    }
    return st;
}

Test(issuer, old_keys_serve_while_the_provider_is_down_but_not_for_ever) {
    enum { STALE_MS = 3000 };
    char kid[32] = "";
    uint64_t edition = 0;
    int64_t began_ms = clock_mono_ms();
    start((struct issuer_options){ .refresh_ms = 20, .retry_ms = 20, .pause_ms = 40, .stale_ms = STALE_MS });
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_OK);
    answer(NULL, NULL);
    for (int asked = atomic_load(&provider.asked); atomic_load(&provider.asked) == asked;)
        sleep_ms(10);           /* it asks anew once it has taken what it was answered before */
    cr_assert_eq(take(0, kid, &edition), ST_OK);
    cr_assert_eq(newer(edition, kid), ST_UNAVAILABLE, "nobody can say whether the key exists");
    cr_assert_eq(take_until(ST_UNAVAILABLE, kid, &edition), ST_UNAVAILABLE);
    cr_assert_geq(clock_mono_ms() - began_ms, STALE_MS);
    cr_assert_eq(issuer_check(issuer, &(struct why){ 0 }), ST_UNAVAILABLE);
    answer(DISCOVERY, fresh_keys("back"));
    cr_assert_eq(take_until(ST_OK, kid, &edition), ST_OK);
    cr_assert_str_eq(kid, "back");
}

Test(issuer, a_provider_that_is_down_costs_one_wait) {
    char kid[32];
    uint64_t edition;
    answer(NULL, NULL);
    provider.delay_ms = 50;
    start((struct issuer_options){ .retry_ms = 60000, .pause_ms = 60000 });
    int64_t began_ms = clock_mono_ms();
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_UNAVAILABLE);
    cr_assert_eq(take(PATIENCE_MS, kid, &edition), ST_UNAVAILABLE);
    cr_assert_lt(clock_mono_ms() - began_ms, 5000);
}

Test(issuer, ends_while_a_fetch_is_under_way) {
    provider.delay_ms = 100;
    start((struct issuer_options){ 0 });
    issuer_destroy(&issuer);
    cr_assert_null(issuer);
}
