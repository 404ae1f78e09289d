/* crypto/aead, crypto/digest: published vectors, and every way of altering a blob. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/text_codec.h"
#include "crypto/aead.h"
#include "crypto/digest.h"

static void aad_of(struct aad *aad, const char *first, const char *second) {
    aad_begin(aad, "test");
    aad_add_text(aad, first);
    aad_add_text(aad, second);
}

Test(crypto_aead, what_was_sealed_opens) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *key = aead_key_new();
    struct why why = { 0 };
    struct aad aad;
    aad_of(&aad, "a", "b");
    for (size_t len = 0; len < 70; len++) {
        struct blob sealed, plain;
        char text[70];
        memset(text, 'x', sizeof text);
        cr_assert_eq(aead_seal(key, &aad, text, len, mem, &sealed, &why), ST_OK);
        cr_assert_eq(sealed.len, len + AEAD_OVERHEAD_BYTES);
        cr_assert_eq(aead_open(key, &aad, sealed.data, sealed.len, mem, &plain, &why), ST_OK);
        cr_assert_eq(plain.len, len);
        cr_assert_eq(memcmp(plain.data, text, len), 0);
        cr_assert_eq(plain.data[len], 0);
    }
}

Test(crypto_aead, every_altered_bit_and_every_cut_is_refused) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *key = aead_key_new();
    struct why why = { 0 };
    struct aad aad;
    struct blob sealed, plain = { 0 };
    aad_of(&aad, "a", "b");
    cr_assert_eq(aead_seal(key, &aad, "word", 4, mem, &sealed, &why), ST_OK);
    for (size_t bit = 0; bit < sealed.len * 8; bit++) {
        sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_eq(aead_open(key, &aad, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL, "bit %zu", bit);
        sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < sealed.len; len++)
        cr_assert_eq(aead_open(key, &aad, sealed.data, len, mem, &plain, &why), ST_INTERNAL);
    cr_assert_null(plain.data);
    CLEANUP(secret_destroy) struct secret *other = aead_key_new();
    cr_assert_eq(aead_open(other, &aad, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL);
}

Test(crypto_aead, parts_cannot_shift_into_each_other) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *key = aead_key_new();
    struct why why = { 0 };
    struct aad sealed_under, asked_under;
    struct blob sealed, plain;
    aad_of(&sealed_under, "ab", "c");
    cr_assert_eq(aead_seal(key, &sealed_under, "x", 1, mem, &sealed, &why), ST_OK);
    aad_of(&asked_under, "a", "bc");
    cr_assert_eq(aead_open(key, &asked_under, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL);
    aad_begin(&asked_under, "test");
    aad_add_bytes(&asked_under, "ab", 2);       /* same bytes, another type */
    aad_add_text(&asked_under, "c");
    cr_assert_eq(aead_open(key, &asked_under, sealed.data, sealed.len, mem, &plain, &why), ST_INTERNAL);
}

Test(crypto_aead, nonces_differ) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *key = aead_key_new();
    struct why why = { 0 };
    struct aad aad;
    struct blob one, two;
    aad_of(&aad, "", "");
    cr_assert_eq(aead_seal(key, &aad, "x", 1, mem, &one, &why), ST_OK);
    cr_assert_eq(aead_seal(key, &aad, "x", 1, mem, &two, &why), ST_OK);
    cr_assert_neq(memcmp(one.data + 1, two.data + 1, AEAD_NONCE_BYTES), 0);
}

Test(crypto_aead, a_short_key_and_too_much_associated_data_are_refused) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(secret_destroy) struct secret *brief = secret_new("0123456789abcdef", 16), *key = aead_key_new();
    struct why why = { 0 };
    struct aad aad;
    struct blob sealed;
    aad_of(&aad, "a", "b");
    cr_assert_eq(aead_seal(brief, &aad, "x", 1, mem, &sealed, &why), ST_INTERNAL);
    cr_assert_eq(aead_seal(NULL, &aad, "x", 1, mem, &sealed, &why), ST_INTERNAL);
    for (int i = 0; i < AAD_MAX_BYTES / 13 + 1; i++)
        aad_add_u64(&aad, 1);
    cr_assert(aad.is_overfull);
    cr_assert_eq(aead_seal(key, &aad, "x", 1, mem, &sealed, &why), ST_INTERNAL);
    secret_destroy(&key);
}

/* NIST GCM specification (McGrew, Viega), test case 16: AES-256 with associated data. */
Test(crypto_aead, gcm_matches_the_published_vector) {
    uint8_t key_bytes[32], nonce[12], aad[20], plain[60], want[60 + 16], got[60 + 16], back[60];
    cr_assert(hex_decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", 64, key_bytes));
    cr_assert(hex_decode("cafebabefacedbaddecaf888", 24, nonce));
    cr_assert(hex_decode("feedfacedeadbeeffeedfacedeadbeefabaddad2", 40, aad));
    cr_assert(hex_decode("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
                         "b16aedf5aa0de657ba637b39", 120, plain));
    cr_assert(hex_decode("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
                         "c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b", 152, want));
    CLEANUP(secret_destroy) struct secret *key = secret_new(key_bytes, sizeof key_bytes);
    CLEANUP(gcm_cipher_destroy) struct gcm_cipher *seals = gcm_cipher_new(key, true), *opens = gcm_cipher_new(key, false);
    struct gcm gcm = { seals, nonce, aad, sizeof aad };
    cr_assert(gcm_seal(&gcm, plain, sizeof plain, got));
    cr_assert_eq(memcmp(got, want, sizeof want), 0);
    gcm.cipher = opens;
    cr_assert(gcm_open(&gcm, want, sizeof want, back));
    cr_assert_eq(memcmp(back, plain, sizeof plain), 0);
}

Test(crypto_digest, matches_published_vectors) {
    char hex[SHA256_HEX_BYTES];
    cr_assert_str_eq(sha256_hex("abc", 3, hex), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cr_assert_str_eq(sha256_hex("", 0, hex), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    uint8_t mac[SHA256_BYTES];
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, mac);       /* RFC 4231, test case 2 */
    cr_assert_str_eq(hex_encode(mac, sizeof mac, hex), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

Test(crypto_digest, a_peek_does_not_end_the_digest) {
    struct sha256 *digest = sha256_new();
    uint8_t early[SHA256_BYTES], whole[SHA256_BYTES], want[SHA256_BYTES];
    sha256_update(digest, "ab", 2);
    sha256_peek(digest, early);
    sha256_update(digest, "c", 1);
    sha256_peek(digest, whole);
    sha256("abc", 3, want);
    cr_assert_eq(memcmp(whole, want, sizeof want), 0);
    cr_assert_neq(memcmp(early, want, sizeof want), 0);
    sha256_destroy(&digest);
    sha256_destroy(&digest);
}
