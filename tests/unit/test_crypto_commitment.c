/* Commitments: against values worked out with another library. */
#include <criterion/criterion.h>

#include "core/text_codec.h"
#include "crypto/commitment.h"

TestSuite(crypto_commitment, .timeout = 20);

static const uint8_t SEED[COMMITMENT_SALT_BYTES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };

static const char *hex(const uint8_t bytes[32]) {
    static char text[2 * 32 + 1];
    return hex_encode(bytes, 32, text);
}

/* Python: hmac.new(seed, b"cordon salt v1 question\n", sha256); sha256(b"cordon receipt v1 question\n" + salt + text) */
Test(crypto_commitment, salts_and_commitments_are_those_of_the_documented_formulas) {
    uint8_t salt[COMMITMENT_SALT_BYTES], commitment[COMMITMENT_BYTES];
    commitment_salt(SEED, "question", NULL, 0, salt);
    cr_expect_str_eq(hex(salt), "197888501bb947bbc5e49acb08bfa61b9a8c3b0aa852602bd8b7e1793dd77144");
    commitment_make("question", salt, "Which dose?", 11, commitment);
    cr_expect_str_eq(hex(commitment), "82b14bfeac06e05f6c8675f4895b67b10bcecc56e126590b095e98ab6e8f23e5");
    uint8_t id[16];
    cr_assert(hex_decode("0192000000007000800000000000c001", 32, id));
    commitment_salt(SEED, "chunk", id, sizeof id, salt);
    cr_expect_str_eq(hex(salt), "30873af28358304472065edc226e3b2509655682dea0efd2edbd1c475e719c9f");
}

Test(crypto_commitment, another_kind_salt_or_text_is_another_commitment) {
    uint8_t salt[COMMITMENT_SALT_BYTES], first[COMMITMENT_BYTES], other[COMMITMENT_BYTES];
    commitment_seed(salt);
    commitment_make("question", salt, "a", 1, first);
    commitment_make("output", salt, "a", 1, other);
    cr_expect_arr_neq(first, other, sizeof first);
    commitment_make("question", salt, "b", 1, other);
    cr_expect_arr_neq(first, other, sizeof first);
    commitment_seed(salt);
    commitment_make("question", salt, "a", 1, other);
    cr_expect_arr_neq(first, other, sizeof first);
}
