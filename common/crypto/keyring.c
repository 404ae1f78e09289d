#include "crypto/keyring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "crypto/digest.h"
#include "crypto/tenant_key.h"

enum entry_state { ENTRY_FREE, ENTRY_LOADING, ENTRY_READY };

struct entry {
    enum entry_state state;
    uint8_t id[SHA256_BYTES];       /* of tenant, kind, version and wrapped bytes: a rewrapped key is another */
    struct tenant_key *key;         /* READY */
    int64_t until_ms;               /* READY: not used from here on */
    int64_t used_ms;
    struct flight *flight;          /* LOADING */
};

/* One call to KMS and everybody who waits for it. Its last user frees it. */
struct flight {
    unsigned users;
    bool is_done;
    enum status status;
    struct why why;
    struct tenant_key *key;         /* status ST_OK: one reference of the flight's */
};

struct keyring {
    struct key_unwrapper unwrapper;
    int64_t keep_ms;
    size_t size;
    pthread_mutex_t lock;           /* guards entries and flights */
    pthread_cond_t landed;          /* some flight is done */
    struct entry *entries;
};

const char *tenant_key_kind_text(enum tenant_key_kind kind) {
    return kind == TENANT_KEY_DATA ? "data" : "search";
}

bool tenant_key_kind_from_text(const char *text, enum tenant_key_kind *ret_kind) {
    for (int kind = TENANT_KEY_DATA; kind <= TENANT_KEY_SEARCH; kind++)
        if (strcmp(text, tenant_key_kind_text((enum tenant_key_kind)kind)) == 0) {
            *ret_kind = (enum tenant_key_kind)kind;
            return true;
        }
    return false;
}

struct keyring *keyring_new(const struct key_unwrapper *unwrapper, int64_t keep_ms, size_t max_keys) {
    struct keyring *keyring = xalloc(sizeof *keyring);
    keyring->unwrapper = *unwrapper;
    keyring->keep_ms = keep_ms;
    keyring->size = max_keys ? max_keys : 1;
    keyring->entries = xalloc(keyring->size * sizeof *keyring->entries);
    pthread_condattr_t monotonic;
    if (pthread_mutex_init(&keyring->lock, NULL) != 0 || pthread_condattr_init(&monotonic) != 0 ||
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) != 0 ||
        pthread_cond_init(&keyring->landed, &monotonic) != 0)
        abort();
    (void)pthread_condattr_destroy(&monotonic);
    return keyring;
}

void keyring_destroy(struct keyring **keyring_p) {
    struct keyring *keyring = *keyring_p;
    if (!keyring)
        return;
    for (size_t i = 0; i < keyring->size; i++)
        tenant_key_release(&keyring->entries[i].key);
    free(keyring->entries);
    (void)pthread_cond_destroy(&keyring->landed);
    (void)pthread_mutex_destroy(&keyring->lock);
    free(keyring);
    *keyring_p = NULL;
}

static void entry_clear(struct entry *entry) {
    tenant_key_release(&entry->key);
    *entry = (struct entry){ .state = ENTRY_FREE };
}

/* The entry of id, else one to load it into: free, or the one that was not used for the longest time. NULL:
 * every entry is being loaded. */
static struct entry *entry_for(struct keyring *keyring, const uint8_t id[SHA256_BYTES], int64_t now_ms) {
    struct entry *oldest = NULL;
    for (size_t i = 0; i < keyring->size; i++) {
        struct entry *entry = &keyring->entries[i];
        if (entry->state == ENTRY_READY && now_ms >= entry->until_ms)
            entry_clear(entry);
        if (entry->state != ENTRY_FREE && memcmp(entry->id, id, SHA256_BYTES) == 0)
            return entry;
        if (entry->state != ENTRY_LOADING && (!oldest || entry->used_ms < oldest->used_ms))
            oldest = entry;
    }
    if (oldest)
        entry_clear(oldest);
    return oldest;
}

static void flight_leave(struct flight *flight) {
    if (--flight->users > 0)
        return;
    tenant_key_release(&flight->key);
    free(flight);
}

/* With the lock held: wait for somebody else's call and take its outcome. */
static enum status join(struct keyring *keyring, struct flight *flight, int64_t deadline_ms,
                        struct tenant_key **ret_key, struct why *why) {
    struct timespec until = { .tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000 };
    flight->users++;
    while (!flight->is_done && clock_mono_ms() < deadline_ms)
        (void)pthread_cond_timedwait(&keyring->landed, &keyring->lock, &until);
    enum status st;
    if (!flight->is_done) {
        st = fail(why, ST_TIMEOUT, "keyring: the tenant key did not come in time");
    } else if ((st = flight->status) == ST_OK) {
        *ret_key = tenant_key_hold(flight->key);
    } else {
        *why = flight->why;
    }
    flight_leave(flight);
    return st;
}

static enum status unwrap(struct keyring *keyring, const struct uuid *tenant, const struct tenant_key_blob *row,
                          int64_t deadline_ms, struct tenant_key **ret_key, struct why *why) {
    CLEANUP(secret_destroy) struct secret *bytes = NULL;
    enum status st = keyring->unwrapper.decrypt(keyring->unwrapper.ctx, row, tenant, deadline_ms, &bytes, why);
    if (st != ST_OK)
        return st;
    if (bytes->len != AEAD_KEY_BYTES)
        return fail(why, ST_INTERNAL, "keyring: KMS gave a key of %zu bytes", bytes->len);
    *ret_key = tenant_key_make(tenant, row->version, &bytes);
    return ST_OK;
}

/* With the lock held, which is let go during the call: ask KMS on behalf of everybody. entry may be NULL. */
static enum status fly(struct keyring *keyring, struct entry *entry, const struct uuid *tenant,
                       const struct tenant_key_blob *row, int64_t deadline_ms, struct tenant_key **ret_key,
                       struct why *why) {
    struct flight *flight = xalloc(sizeof *flight);
    flight->users = 1;
    if (entry)
        entry->flight = flight;
    (void)pthread_mutex_unlock(&keyring->lock);
    struct tenant_key *key = NULL;
    struct why reason = { 0 };
    enum status st = unwrap(keyring, tenant, row, deadline_ms, &key, &reason);
    (void)pthread_mutex_lock(&keyring->lock);
    flight->is_done = true;
    flight->status = st;
    flight->why = reason;
    if (st == ST_OK) {
        flight->key = key;
        *ret_key = tenant_key_hold(key);
    } else {
        *why = reason;
    }
    if (entry && st == ST_OK) {
        entry->state = ENTRY_READY;
        entry->flight = NULL;
        entry->key = tenant_key_hold(key);
        entry->used_ms = clock_mono_ms();
        entry->until_ms = entry->used_ms + keyring->keep_ms;
    } else if (entry) {
        *entry = (struct entry){ .state = ENTRY_FREE };
    }
    (void)pthread_cond_broadcast(&keyring->landed);
    flight_leave(flight);
    return st;
}

static const struct tenant_key_blob *find_row(const struct tenant_key_blob rows[], size_t n_rows,
                                              enum tenant_key_kind kind, unsigned version) {
    const struct tenant_key_blob *found = NULL;
    for (size_t i = 0; i < n_rows; i++)
        if (rows[i].kind == kind && (version ? rows[i].version == version : !found || rows[i].version > found->version))
            found = &rows[i];
    return found;
}

static void row_id(const struct uuid *tenant, const struct tenant_key_blob *row, uint8_t out[SHA256_BYTES]) {
    struct sha256 *digest = sha256_new();
    uint32_t numbers[2] = { (uint32_t)row->kind, row->version };
    sha256_update(digest, tenant->bytes, UUID_BYTES);
    sha256_update(digest, numbers, sizeof numbers);
    sha256_update(digest, row->wrapped.data, row->wrapped.len);
    sha256_peek(digest, out);
    sha256_destroy(&digest);
}

enum status keyring_tenant(struct keyring *keyring, const struct uuid *tenant, const struct tenant_key_blob rows[],
                           size_t n_rows, enum tenant_key_kind kind, unsigned version, int64_t deadline_ms,
                           struct tenant_key **ret_key, struct why *why) {
    const struct tenant_key_blob *row = find_row(rows, n_rows, kind, version);
    if (!row)
        return fail(why, ST_INTERNAL, "keyring: the tenant has no %s key of version %u", tenant_key_kind_text(kind), version);
    uint8_t id[SHA256_BYTES];
    row_id(tenant, row, id);
    enum status st = ST_OK;
    (void)pthread_mutex_lock(&keyring->lock);
    int64_t now_ms = clock_mono_ms();
    struct entry *entry = entry_for(keyring, id, now_ms);
    while (entry && entry->state == ENTRY_LOADING) {
        st = join(keyring, entry->flight, deadline_ms, ret_key, why);
        now_ms = clock_mono_ms();
        if (st != ST_TIMEOUT || now_ms >= deadline_ms) {
            (void)pthread_mutex_unlock(&keyring->lock);
            return st;
        }
        entry = entry_for(keyring, id, now_ms);     /* the caller we waited for had less time than we have */
    }
    if (entry && entry->state == ENTRY_READY) {
        entry->used_ms = now_ms;
        *ret_key = tenant_key_hold(entry->key);
        st = ST_OK;
    } else {
        if (entry) {
            entry->state = ENTRY_LOADING;
            memcpy(entry->id, id, sizeof id);
        }
        st = fly(keyring, entry, tenant, row, deadline_ms, ret_key, why);
    }
    (void)pthread_mutex_unlock(&keyring->lock);
    return st;
}
