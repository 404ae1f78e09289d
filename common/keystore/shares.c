#include "keystore/shares.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/cancel.h"
#include "core/clock.h"
#include "keystore/original.h"
#include "obs/trace.h"

enum { LAYOUT = 1 };

/* A place for one share: documents that fall on the same one push each other out. Ids are random at their ends. */
struct place { struct uuid tenant, document; int64_t until_ms; };

struct shares {
    struct s3 *s3;
    int64_t keep_ms;
    pthread_mutex_t lock;           /* guards places and bytes */
    struct place places[SHARES_KEPT];
    struct secret *bytes;           /* SHARES_KEPT shares, locked as one */
};

struct shares *shares_new(struct aws *aws, const char *endpoint, const char *bucket, int64_t keep_ms) {
    struct shares *shares = xalloc(sizeof *shares);
    shares->s3 = s3_new(aws, endpoint, bucket);
    shares->keep_ms = keep_ms;
    uint8_t *nothing = xalloc(SHARES_KEPT * DOCUMENT_SHARE_BYTES);
    shares->bytes = secret_new(nothing, SHARES_KEPT * DOCUMENT_SHARE_BYTES);
    free(nothing);
    if (pthread_mutex_init(&shares->lock, NULL) != 0)
        abort();
    return shares;
}

void shares_destroy(struct shares **shares_p) {
    struct shares *shares = *shares_p;
    if (!shares)
        return;
    s3_destroy(&shares->s3);
    secret_destroy(&shares->bytes);
    (void)pthread_mutex_destroy(&shares->lock);
    free(shares);
    *shares_p = NULL;
}

const char *share_object_key(struct arena *mem, const struct uuid *tenant, const struct uuid *document) {
    return original_object_key(mem, tenant, document);      /* in a bucket of its own */
}

static size_t place_of(const struct uuid *document) {
    return ((size_t)document->bytes[UUID_BYTES - 2] << 8 | document->bytes[UUID_BYTES - 1]) % SHARES_KEPT;
}

static uint8_t *bytes_at(struct shares *shares, size_t place) {
    return shares->bytes->bytes + place * DOCUMENT_SHARE_BYTES;
}

static struct secret *find_kept(struct shares *shares, const struct uuid *tenant, const struct uuid *document) {
    size_t at = place_of(document);
    struct secret *found = NULL;
    (void)pthread_mutex_lock(&shares->lock);
    struct place *place = &shares->places[at];
    if (clock_mono_ms() < place->until_ms && uuid_equal(&place->document, document) && uuid_equal(&place->tenant, tenant))
        found = secret_new(bytes_at(shares, at), DOCUMENT_SHARE_BYTES);
    (void)pthread_mutex_unlock(&shares->lock);
    return found;
}

/* share NULL: forget it. */
static void keep(struct shares *shares, const struct uuid *tenant, const struct uuid *document, const struct secret *share) {
    size_t at = place_of(document);
    (void)pthread_mutex_lock(&shares->lock);
    struct place *place = &shares->places[at];
    if (share && shares->keep_ms > 0) {
        *place = (struct place){ *tenant, *document, clock_mono_ms() + shares->keep_ms };
        memcpy(bytes_at(shares, at), share->bytes, DOCUMENT_SHARE_BYTES);
    } else if (uuid_equal(&place->document, document)) {
        *place = (struct place){ 0 };
        OPENSSL_cleanse(bytes_at(shares, at), DOCUMENT_SHARE_BYTES);
    }
    (void)pthread_mutex_unlock(&shares->lock);
}

struct fetched { uint8_t bytes[SHARE_OBJECT_BYTES]; size_t len; };

static enum status take(void *ctx, const void *data, size_t len, struct why *why) {
    struct fetched *fetched = ctx;
    if (len > sizeof fetched->bytes - fetched->len)
        return fail_as(why, ERR_STORE_DAMAGED, "a share is too long");
    memcpy(fetched->bytes + fetched->len, data, len);
    fetched->len += len;
    return ST_OK;
}

static enum status fetch(struct shares *shares, const char *key, int64_t deadline_ms, struct secret **ret_share, struct why *why) {
    struct fetched fetched = { 0 };
    enum status st = s3_get(shares->s3, key, 0, 0, take, &fetched, deadline_ms, why);
    if (st == ST_OK && (fetched.len != SHARE_OBJECT_BYTES || fetched.bytes[0] != LAYOUT))
        st = fail_as(why, ERR_STORE_DAMAGED, "an object of %zu bytes is no share", fetched.len);
    if (st == ST_OK)
        *ret_share = secret_new(fetched.bytes + 1, DOCUMENT_SHARE_BYTES);
    OPENSSL_cleanse(&fetched, sizeof fetched);
    return st;
}

enum status shares_put(struct shares *shares, const struct uuid *tenant, const struct uuid *document, const struct secret *share,
                       int64_t deadline_ms, struct why *why) {
    /* Whoever was given up and comes back must not replace the share of a document that exists. */
    static const struct sigv4_pair ONCE[] = { { "if-none-match", "*" }, { 0 } };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *there = NULL;
    const char *key = share_object_key(mem, tenant, document);
    uint8_t object[SHARE_OBJECT_BYTES] = { LAYOUT };
    memcpy(object + 1, share->bytes, DOCUMENT_SHARE_BYTES);
    enum status st = s3_put(shares->s3, key, "application/octet-stream", ONCE, object, sizeof object, deadline_ms, why);
    OPENSSL_cleanse(object, sizeof object);
    if (st != ST_CONFLICT)
        return st;
    st = fetch(shares, key, deadline_ms, &there, why);      /* perhaps ours, and the answer was lost */
    if (st == ST_OK && !secret_equal(share, there->bytes, there->len))
        st = fail(why, ST_CONFLICT, "the document has another share");
    return st;
}

enum status shares_get(struct shares *shares, const struct uuid *tenant, const struct uuid *document, int64_t deadline_ms,
                       struct secret **ret_share, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct secret *share = find_kept(shares, tenant, document);
    if (!share) {       /* one that is kept already is not kept longer for being used */
        enum status st = fetch(shares, share_object_key(mem, tenant, document), deadline_ms, &share, why);
        if (st != ST_OK)
            return st;
        keep(shares, tenant, document, share);
    }
    *ret_share = share;
    return ST_OK;
}

/* ---- several at once ---- */

struct shares_fetching {
    struct shares *shares;
    struct uuid tenant;
    size_t count;
    int64_t deadline_ms;
    int cancel_fd;
    atomic_size_t next;             /* document that nobody has begun with */
    pthread_mutex_t lock;           /* guards scope */
    struct trace_scope scope;       /* as the caller's when it began; what the threads count is the caller's when it ends */
    size_t thread_count;
    pthread_t threads[SHARES_AT_ONCE];
    struct uuid documents[];
};

static void *fetch_some(void *arg) {
    struct shares_fetching *f = arg;
    struct trace_scope scope;
    cancel_on(f->cancel_fd);
    trace_adopt(&scope, f->scope.span.scope ? &f->scope : NULL);
    for (size_t i; (i = atomic_fetch_add(&f->next, 1)) < f->count;) {
        CLEANUP(secret_destroy) struct secret *share = NULL;
        struct why why = { 0 };
        (void)!shares_get(f->shares, &f->tenant, &f->documents[i], f->deadline_ms, &share, &why);
    }
    (void)pthread_mutex_lock(&f->lock);
    trace_return(&scope, &f->scope);
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

struct shares_fetching *shares_fetch_begin(struct shares *shares, const struct uuid *tenant, const struct uuid documents[], size_t count,
                                           int64_t deadline_ms) {
    struct shares_fetching *f = xalloc(sizeof *f + count * sizeof *f->documents);
    f->shares = shares;
    f->tenant = *tenant;
    f->deadline_ms = deadline_ms;
    f->cancel_fd = cancel_fd();
    for (size_t i = 0; i < count && shares->keep_ms > 0; i++) {
        CLEANUP(secret_destroy) struct secret *share = find_kept(shares, tenant, &documents[i]);
        if (!share && !uuid_is_among(&documents[i], f->documents, f->count))
            f->documents[f->count++] = documents[i];
    }
    if (trace_current())
        f->scope = *trace_current();
    memset(f->scope.hop_us, 0, sizeof f->scope.hop_us);
    if (pthread_mutex_init(&f->lock, NULL) != 0)
        abort();
    while (f->thread_count < SHARES_AT_ONCE && f->thread_count < f->count &&
           pthread_create(&f->threads[f->thread_count], NULL, fetch_some, f) == 0)
        f->thread_count++;          /* with fewer, or none, it takes longer */
    return f;
}

void shares_fetch_end(struct shares_fetching **fetching_p) {
    struct shares_fetching *f = *fetching_p;
    uint32_t hop_us[HOP_COUNT];
    if (!f)
        return;
    while (f->thread_count > 0)
        (void)pthread_join(f->threads[--f->thread_count], NULL);
    for (unsigned i = 0; i < HOP_COUNT; i++)
        hop_us[i] = (uint32_t)f->scope.hop_us[i];
    trace_add_hops(hop_us, HOP_COUNT);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
    *fetching_p = NULL;
}

void shares_fetch(struct shares *shares, const struct uuid *tenant, const struct uuid documents[], size_t count, int64_t deadline_ms) {
    struct shares_fetching *f = count > 1 ? shares_fetch_begin(shares, tenant, documents, count, deadline_ms) : NULL;
    shares_fetch_end(&f);
}

enum status shares_delete(struct shares *shares, const struct uuid *tenant, const struct uuid *document, int64_t deadline_ms,
                          struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    keep(shares, tenant, document, NULL);
    return s3_delete(shares->s3, share_object_key(mem, tenant, document), deadline_ms, why);
}

enum status shares_delete_all(struct shares *shares, const struct uuid *tenant, int64_t deadline_ms, unsigned *ret_count, struct why *why) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    return s3_delete_folder(shares->s3, tenant_folder(mem, tenant), false, deadline_ms, ret_count, why);
}

struct s3 *shares_bucket(const struct shares *shares) {
    return shares->s3;
}
