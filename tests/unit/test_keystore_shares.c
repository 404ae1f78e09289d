/* Shares of document keys, against a store on loopback that sees who asks beside whom. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "crypto/keyring.h"
#include "keystore/shares.h"
#include "support/loopback.h"

enum { KEEP_MS = 60000, PATIENCE_MS = 20000 };

/* A request is answered when `wanted` of them are there, or somebody has given up waiting for that. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned asked, inside, most, wanted;
    bool has_given_up;
} store = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void meet(void) {
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    (void)pthread_mutex_lock(&store.lock);
    store.asked++;
    store.inside++;
    store.most = store.inside > store.most ? store.inside : store.most;
    (void)pthread_cond_broadcast(&store.changed);
    while (store.most < store.wanted && !store.has_given_up)
        store.has_given_up = pthread_cond_timedwait(&store.changed, &store.lock, &until) != 0;
    store.inside--;
    (void)pthread_mutex_unlock(&store.lock);
}

/* The share of a document is its id, twice; of one that begins with 0xff there is none. */
static bool answer(void *ctx, const struct loopback_request *request, int fd) {
    (void)ctx;
    struct uuid id;
    const char *name = strrchr(request->target, '/') + 1;
    if (str_equal(request->method, "GET"))
        meet();
    if (!str_equal(request->method, "GET") || !uuid_parse(name, strlen(name), &id) || id.bytes[0] == 0xff)
        return loopback_answer(fd, 404, "", "<Error><Code>NoSuchKey</Code></Error>");
    char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n\1";
    loopback_write(fd, head, sizeof head - 1);
    loopback_write(fd, (const char *)id.bytes, UUID_BYTES);
    loopback_write(fd, (const char *)id.bytes, UUID_BYTES);
    return true;
}

static struct loopback *server;
static struct aws *aws;
static struct credentials *credentials;
static struct shares *shares;
static const struct uuid TENANT = { { 1 } };

static struct uuid document(unsigned char first, unsigned char last) {
    struct uuid id = { { 0 } };
    id.bytes[0] = first;
    id.bytes[UUID_BYTES - 1] = last;
    return id;
}

static void begin(int64_t keep_ms) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("very-secret", 11);
    server = loopback_start(answer, NULL);
    credentials = credentials_new("AKIDTEST", key, NULL, 0);
    aws = aws_new(&(struct aws_options){ .region = "us-east-1", .credentials = credentials_static(credentials), .allow_plain = true });
    shares = shares_new(aws, loopback_url(server), "shares", keep_ms);
}

static void end(void) {
    shares_destroy(&shares);
    aws_destroy(&aws);
    credentials_release(&credentials);
    loopback_stop(&server);
}

static enum status get(const struct uuid *id, struct secret **ret_share) {
    struct why why = { 0 };
    return shares_get(shares, &TENANT, id, clock_mono_ms() + PATIENCE_MS, ret_share, &why);
}

static void fetch(const struct uuid ids[], size_t n) {
    shares_fetch(shares, &TENANT, ids, n, clock_mono_ms() + PATIENCE_MS);
}

Test(keystore_shares, of_many_documents_are_fetched_side_by_side_and_each_once, .timeout = 60) {
    enum { N = 3 * SHARES_AT_ONCE };
    struct uuid ids[N];
    for (unsigned char i = 0; i < N; i++)
        ids[i] = document(1, i);
    begin(KEEP_MS);
    store.wanted = SHARES_AT_ONCE;
    fetch(ids, N);
    cr_expect_not(store.has_given_up, "they came one after another: %u at once", store.most);
    cr_expect_eq(store.most, SHARES_AT_ONCE, "%u at once", store.most);
    cr_expect_eq(store.asked, N);
    for (size_t i = 0; i < N; i++) {
        CLEANUP(secret_destroy) struct secret *share = NULL;
        cr_assert_eq(get(&ids[i], &share), ST_OK);
        cr_expect(memcmp(share->bytes, ids[i].bytes, UUID_BYTES) == 0 && memcmp(share->bytes + UUID_BYTES, ids[i].bytes, UUID_BYTES) == 0);
    }
    fetch(ids, N);
    cr_expect_eq(store.asked, N, "they are kept");
    end();
}

Test(keystore_shares, that_is_missing_takes_none_of_the_others_with_it, .timeout = 60) {
    struct uuid ids[] = { document(1, 1), document(0xff, 2), document(1, 3) };
    CLEANUP(secret_destroy) struct secret *share = NULL;
    begin(KEEP_MS);
    fetch(ids, 3);
    cr_expect_eq(store.asked, 3);
    cr_expect_eq(get(&ids[1], &share), ST_NOT_FOUND);
    cr_expect_eq(store.asked, 4, "only that one was asked for again");
    cr_expect_eq(get(&ids[2], &share), ST_OK);
    cr_expect_eq(store.asked, 4);
    end();
}

Test(keystore_shares, are_not_fetched_ahead_where_none_are_kept, .timeout = 60) {
    struct uuid ids[] = { document(1, 1), document(1, 2) };
    begin(0);
    fetch(ids, 2);
    cr_expect_eq(store.asked, 0);
    end();
}

/* The store answers two only together: they meet while this thread does not wait for them. */
Test(keystore_shares, are_fetched_beside_what_the_caller_does_and_a_repeated_one_once, .timeout = 60) {
    struct uuid ids[] = { document(1, 1), document(1, 2), document(1, 1) };
    CLEANUP(secret_destroy) struct secret *share = NULL;
    begin(KEEP_MS);
    store.wanted = 2;
    struct shares_fetching *ahead = shares_fetch_begin(shares, &TENANT, ids, 3, clock_mono_ms() + PATIENCE_MS);
    (void)pthread_mutex_lock(&store.lock);
    while (store.most < 2 && !store.has_given_up)
        (void)pthread_cond_wait(&store.changed, &store.lock);
    (void)pthread_mutex_unlock(&store.lock);
    shares_fetch_end(&ahead);
    shares_fetch_end(&ahead);
    cr_expect_not(store.has_given_up);
    cr_expect_eq(store.asked, 2, "%u", store.asked);
    cr_expect_eq(get(&ids[1], &share), ST_OK);
    cr_expect_eq(store.asked, 2, "they are kept");
    end();
}
