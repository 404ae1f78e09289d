/* crypto/keyring against an unwrapper that counts: caching, single flight, and what must not open. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "crypto/digest.h"
#include "crypto/keyring.h"

enum { THREADS = 32 };

/* A KMS of its own: the key is the SHA-256 of tenant, kind and wrapped bytes. */
struct fake_kms { atomic_int calls; atomic_int delay_us; atomic_int error; atomic_int callers, callers_awaited; };

static enum status fake_decrypt(void *ctx, const struct tenant_key_blob *blob, const struct uuid *tenant,
                                int64_t deadline_ms, struct secret **ret_key, struct why *why) {
    struct fake_kms *kms = ctx;
    (void)deadline_ms;
    atomic_fetch_add(&kms->calls, 1);
    while (kms->callers < kms->callers_awaited)
        usleep(1000);
    usleep((useconds_t)kms->delay_us);
    if (kms->error)
        return fail_as(why, (enum error_code)(int)kms->error, "as told");
    uint8_t text[16 + 1 + 64], bytes[SHA256_BYTES];
    memcpy(text, tenant->bytes, 16);
    text[16] = (uint8_t)blob->kind;
    memcpy(text + 17, blob->wrapped.data, blob->wrapped.len);
    sha256(text, 17 + blob->wrapped.len, bytes);
    *ret_key = secret_new(bytes, sizeof bytes);
    return ST_OK;
}

static struct fake_kms kms;
static struct keyring *keyring;
static struct arena *mem;
static struct why why;
static struct uuid acme, other;

static struct tenant_key_blob rows[] = {
    { TENANT_KEY_DATA, 1, "key-1", { (uint8_t *)"one", 3 } },
    { TENANT_KEY_DATA, 2, "key-1", { (uint8_t *)"two", 3 } },
    { TENANT_KEY_SEARCH, 1, "key-1", { (uint8_t *)"search", 6 } },
};

static void open_keyring(void) {
    keyring = keyring_new(&(struct key_unwrapper){ fake_decrypt, &kms }, 60000, 4);
    mem = arena_new(0);
    acme = uuid_v7();
    other = uuid_v7();
}

static void close_keyring(void) {
    keyring_destroy(&keyring);
    arena_destroy(&mem);
}

TestSuite(crypto_keyring, .init = open_keyring, .fini = close_keyring, .timeout = 20);

static enum status get(const struct uuid *tenant, enum tenant_key_kind kind, unsigned version, struct tenant_key **ret) {
    return keyring_tenant(keyring, tenant, rows, 3, kind, version, clock_mono_ms() + 5000, ret, &why);
}

Test(crypto_keyring, a_tenant_key_is_asked_for_once) {
    for (int i = 0; i < 5; i++) {
        CLEANUP(tenant_key_release) struct tenant_key *key = NULL;
        cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &key), ST_OK);
        cr_assert_eq(tenant_key_version(key), 2);
    }
    cr_assert_eq(kms.calls, 1);
}

static void *one_thread(void *arg) {
    struct why mine = { 0 };
    struct tenant_key *key = NULL;
    pthread_barrier_wait(arg);
    kms.callers++;
    enum status st = keyring_tenant(keyring, &acme, rows, 3, TENANT_KEY_DATA, 0, clock_mono_ms() + 15000, &key, &mine);
    bool is_good = st == ST_OK ? key != NULL : mine.code == ERR_KMS_DISABLED;
    tenant_key_release(&key);
    return (void *)(uintptr_t)is_good;
}

static void all_threads_at_once(void) {
    pthread_t threads[THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, one_thread, &start), 0);
    for (int i = 0; i < THREADS; i++) {
        void *is_good = NULL;
        cr_assert_eq(pthread_join(threads[i], &is_good), 0);
        cr_assert_not_null(is_good);
    }
    pthread_barrier_destroy(&start);
}

Test(crypto_keyring, many_threads_make_one_call) {
    kms.delay_us = 200000;
    all_threads_at_once();
    cr_assert_eq(kms.calls, 1);
}

Test(crypto_keyring, many_threads_share_one_failure) {
    kms.callers_awaited = THREADS;
    kms.delay_us = 2000000;     /* none may be so late as to come after it: it would ask anew, and rightly */
    kms.error = ERR_KMS_DISABLED;
    all_threads_at_once();
    cr_assert_eq(kms.calls, 1);
    kms.error = ERR_NONE;
    CLEANUP(tenant_key_release) struct tenant_key *key = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &key), ST_OK, "a failure is not kept");
}

Test(crypto_keyring, a_key_is_asked_for_again_when_its_time_is_over) {
    CLEANUP(keyring_destroy) struct keyring *brief = keyring_new(&(struct key_unwrapper){ fake_decrypt, &kms }, 30, 4);
    for (int i = 0; i < 2; i++) {
        CLEANUP(tenant_key_release) struct tenant_key *key = NULL;
        cr_assert_eq(keyring_tenant(brief, &acme, rows, 3, TENANT_KEY_DATA, 0, clock_mono_ms() + 5000, &key, &why), ST_OK);
        usleep(40000);
    }
    cr_assert_eq(kms.calls, 2);
    kms.error = ERR_KMS_DISABLED;
    CLEANUP(tenant_key_release) struct tenant_key *key = NULL;
    cr_assert_eq(keyring_tenant(brief, &acme, rows, 3, TENANT_KEY_DATA, 0, clock_mono_ms() + 5000, &key, &why), ST_UNAVAILABLE);
    cr_assert_eq(why.code, ERR_KMS_DISABLED);
}

Test(crypto_keyring, the_cache_is_bounded_and_what_was_evicted_stays_usable) {
    CLEANUP(tenant_key_release) struct tenant_key *first = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &first), ST_OK);
    for (int i = 0; i < 10; i++) {
        struct uuid tenant = uuid_v7();
        CLEANUP(tenant_key_release) struct tenant_key *key = NULL;
        cr_assert_eq(get(&tenant, TENANT_KEY_DATA, 0, &key), ST_OK);
    }
    struct blob sealed;
    cr_assert_eq(tenant_key_seal(first, FIELD_MRN, &acme, "x", 1, mem, &sealed, &why), ST_OK);
    CLEANUP(tenant_key_release) struct tenant_key *again = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &again), ST_OK);
    cr_assert_eq(kms.calls, 12);
    cr_assert_eq(tenant_key_open(again, FIELD_MRN, &acme, sealed.data, sealed.len, mem, &sealed, &why), ST_OK);
}

Test(crypto_keyring, a_row_that_is_not_there_is_an_error) {
    struct tenant_key *key = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 3, &key), ST_INTERNAL);
    cr_assert_eq(keyring_tenant(keyring, &acme, rows, 0, TENANT_KEY_DATA, 0, clock_mono_ms() + 99, &key, &why), ST_INTERNAL);
    cr_assert_null(key);
}

Test(crypto_keyring, blind_values_differ_by_tenant_domain_and_value) {
    CLEANUP(tenant_key_release) struct tenant_key *ours = NULL, *theirs = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_SEARCH, 0, &ours), ST_OK);
    cr_assert_eq(get(&other, TENANT_KEY_SEARCH, 0, &theirs), ST_OK);
    uint8_t one[32], same[32], two[32], domain[32], tenant[32];
    tenant_key_blind(ours, "mrn", "123", 3, one);
    tenant_key_blind(ours, "mrn", "123", 3, same);
    tenant_key_blind(ours, "mrn", "124", 3, two);
    tenant_key_blind(ours, "term", "123", 3, domain);
    tenant_key_blind(theirs, "mrn", "123", 3, tenant);
    cr_assert_eq(memcmp(one, same, 32), 0);
    cr_assert(memcmp(one, two, 32) && memcmp(one, domain, 32) && memcmp(one, tenant, 32));
    tenant_key_release(&theirs);
}

Test(crypto_document_key, opens_only_for_its_tenant_document_row_and_kind, .init = open_keyring, .fini = close_keyring) {
    CLEANUP(tenant_key_release) struct tenant_key *ours = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &ours), ST_OK);
    struct uuid document = uuid_v7(), chunk = uuid_v7(), stranger = uuid_v7();
    CLEANUP(document_key_destroy) struct document_key *made = NULL;
    struct blob wrapped, sealed, plain;
    cr_assert_eq(document_key_new(ours, &document, mem, &made, &wrapped, NULL, &why), ST_OK);
    cr_assert_eq(document_key_seal_field(made, FIELD_CHUNK_TEXT, &chunk, "warfarin", 8, mem, &sealed, &why), ST_OK);

    CLEANUP(document_key_destroy) struct document_key *opened = NULL;
    cr_assert_eq(document_key_open(ours, &document, wrapped.data, wrapped.len, NULL, &opened, &why), ST_OK);
    cr_assert_eq(document_key_open_field(opened, FIELD_CHUNK_TEXT, &chunk, sealed.data, sealed.len, mem, &plain, &why), ST_OK);
    cr_assert_str_eq((char *)plain.data, "warfarin");
    cr_assert_eq(document_key_open_field(opened, FIELD_FILE_NAME, &chunk, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL);
    cr_assert_eq(document_key_open_field(opened, FIELD_CHUNK_TEXT, &stranger, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL);

    struct document_key *wrong = NULL;
    cr_assert_eq(document_key_open(ours, &stranger, wrapped.data, wrapped.len, NULL, &wrong, &why), ST_INTERNAL);
    CLEANUP(tenant_key_release) struct tenant_key *theirs = NULL;
    cr_assert_eq(get(&other, TENANT_KEY_DATA, 0, &theirs), ST_OK);
    cr_assert_eq(document_key_open(theirs, &document, wrapped.data, wrapped.len, NULL, &wrong, &why), ST_INTERNAL);
    CLEANUP(tenant_key_release) struct tenant_key *older = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 1, &older), ST_OK);
    cr_assert_eq(document_key_open(older, &document, wrapped.data, wrapped.len, NULL, &wrong, &why), ST_INTERNAL);
    cr_assert_null(wrong);
}

/* Does key open what other sealed? */
static bool is_same(const struct document_key *key, const struct document_key *sealer, const struct uuid *row) {
    struct blob sealed, plain;
    cr_assert_eq(document_key_seal_field(sealer, FIELD_CHUNK_TEXT, row, "warfarin", 8, mem, &sealed, &why), ST_OK);
    return document_key_open_field(key, FIELD_CHUNK_TEXT, row, sealed.data, sealed.len, mem, &plain, &why) == ST_OK;
}

Test(crypto_document_key, of_two_shares_opens_with_both_and_with_neither_alone, .init = open_keyring, .fini = close_keyring) {
    CLEANUP(tenant_key_release) struct tenant_key *ours = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &ours), ST_OK);
    struct uuid document = uuid_v7();
    CLEANUP(document_key_destroy) struct document_key *made = NULL;
    CLEANUP(secret_destroy) struct secret *share = NULL;
    struct blob wrapped;
    cr_assert_eq(document_key_new(ours, &document, mem, &made, &wrapped, &share, &why), ST_OK);
    cr_expect(document_key_has_share(wrapped.data, wrapped.len));
    cr_expect_eq(share->len, DOCUMENT_SHARE_BYTES);
    CLEANUP(document_key_destroy) struct document_key *opened = NULL;
    cr_assert_eq(document_key_open(ours, &document, wrapped.data, wrapped.len, share, &opened, &why), ST_OK);
    cr_expect(is_same(opened, made, &document));
    struct document_key *none = NULL;
    cr_expect_eq(document_key_open(ours, &document, wrapped.data, wrapped.len, NULL, &none, &why), ST_INTERNAL);
    /* the database's share as if it were the whole key: another purpose was sealed */
    cr_expect_eq(document_key_open(ours, &document, wrapped.data + 1, wrapped.len - 1, NULL, &none, &why), ST_INTERNAL);
    CLEANUP(secret_destroy) struct secret *stranger = aead_key_new();
    CLEANUP(document_key_destroy) struct document_key *wrong = NULL;
    cr_assert_eq(document_key_open(ours, &document, wrapped.data, wrapped.len, stranger, &wrong, &why), ST_OK);
    cr_expect_not(is_same(wrong, made, &document), "a wrong share shows when the key is used");
}

Test(crypto_document_key, is_wrapped_anew_and_split_without_becoming_another, .init = open_keyring, .fini = close_keyring) {
    CLEANUP(tenant_key_release) struct tenant_key *old = NULL;
    CLEANUP(tenant_key_release) struct tenant_key *fresh = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 1, &old), ST_OK);
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &fresh), ST_OK);
    struct uuid document = uuid_v7();
    CLEANUP(document_key_destroy) struct document_key *made = NULL;
    CLEANUP(document_key_destroy) struct document_key *split = NULL;
    CLEANUP(document_key_destroy) struct document_key *again = NULL;
    CLEANUP(secret_destroy) struct secret *share = aead_key_new();
    CLEANUP(secret_destroy) struct secret *ignored = aead_key_new();
    struct blob whole, first, second;
    cr_assert_eq(document_key_new(old, &document, mem, &made, &whole, NULL, &why), ST_OK);
    cr_assert_eq(document_key_rewrap(old, fresh, &document, whole.data, whole.len, share, mem, &first, &why), ST_OK);
    cr_assert(document_key_has_share(first.data, first.len));
    cr_assert_eq(document_key_open(fresh, &document, first.data, first.len, share, &split, &why), ST_OK);
    cr_expect(is_same(split, made, &document));
    cr_assert_eq(document_key_rewrap(fresh, old, &document, first.data, first.len, ignored, mem, &second, &why), ST_OK);
    cr_assert_eq(document_key_open(old, &document, second.data, second.len, share, &again, &why), ST_OK);
    cr_expect(is_same(again, made, &document), "its shares stay as they are");
}

Test(crypto_document_key, the_original_streams_through_frames, .init = open_keyring, .fini = close_keyring) {
    CLEANUP(tenant_key_release) struct tenant_key *ours = NULL;
    cr_assert_eq(get(&acme, TENANT_KEY_DATA, 0, &ours), ST_OK);
    struct uuid one = uuid_v7(), two = uuid_v7();
    CLEANUP(document_key_destroy) struct document_key *first = NULL, *second = NULL;
    struct blob wrapped;
    cr_assert_eq(document_key_new(ours, &one, mem, &first, &wrapped, NULL, &why), ST_OK);
    cr_assert_eq(document_key_new(ours, &two, mem, &second, &wrapped, NULL, &why), ST_OK);
    CLEANUP(frames_sealer_destroy) struct frames_sealer *sealer = NULL;
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL, *wrong = NULL;
    CLEANUP(buffer_end) struct buffer sealed = { 0 }, plain = { 0 };
    cr_assert_eq(document_key_seal_original(first, &sealer, &why), ST_OK);
    cr_assert_eq(frames_seal_add(sealer, "page one", 8, &sealed, &why), ST_OK);
    cr_assert_eq(frames_seal_end(sealer, &sealed, &why), ST_OK);
    cr_assert_eq(document_key_open_original(first, &opener, &why), ST_OK);
    cr_assert_eq(frames_open_add(opener, sealed.data, sealed.len, &plain, &why), ST_OK);
    cr_assert_eq(frames_open_end(opener, &plain, &why), ST_OK);
    cr_assert_str_eq(plain.data, "page one");
    cr_assert_eq(document_key_open_original(second, &wrong, &why), ST_OK);
    cr_assert_eq(frames_open_add(wrong, sealed.data, sealed.len, &plain, &why), ST_OK);
    cr_assert_eq(frames_open_end(wrong, &plain, &why), ST_UNAVAILABLE);
    document_key_destroy(&second);
    frames_opener_destroy(&wrong);
}
