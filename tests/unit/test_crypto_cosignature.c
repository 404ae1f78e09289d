/* Cosignatures, against vectors made with another library (Python's cryptography) from the words of c2sp.org. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/text_codec.h"
#include "crypto/cosignature.h"

TestSuite(crypto_cosignature, .timeout = 20);

#define TEXT "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
static const char NOTE[] = TEXT "\n\xe2\x80\x94 example.com/behind-the-sofa AAAA\n";
static const char WITNESS[] = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
static const char LINE[] = "\xe2\x80\x94 witness.example/w1 "
    "qkoJ0QAAAABkGFDLWr4Jea05CAgwNVtwky0Jgz6WfX0QJgM//FkB/W9BoT9TX0DkTxG+2cT4p/ViKNhUM/SnUwFcYQzugGFQ15LwDw==\n";

static struct witness witness(void) {
    struct witness w;
    struct why why = { 0 };
    cr_assert_eq(witness_read(WITNESS, strlen(WITNESS), &w, &why), ST_OK, "%s", why.text);
    return w;
}

Test(crypto_cosignature, a_witness_s_line_is_verified_with_its_time) {
    struct witness w = witness();
    uint64_t time_s = 0;
    cr_expect(witness_has_signed(&w, NOTE, LINE, &time_s));
    cr_expect_eq(time_s, 1679315147);
    cr_expect_eq(note_text_len(NOTE), strlen(TEXT));
}

Test(crypto_cosignature, another_line_note_name_or_byte_is_not) {
    struct witness w = witness(), other = w;
    uint64_t time_s;
    char line[sizeof LINE], note[sizeof NOTE];
    other.name[0] = 'v';
    cr_expect_not(witness_has_signed(&other, NOTE, LINE, &time_s));
    for (size_t i = 0; i + 1 < sizeof LINE; i++) {
        memcpy(line, LINE, sizeof LINE);
        line[i] = (char)(line[i] == 'A' ? 'B' : 'A');
        cr_expect_not(witness_has_signed(&w, NOTE, line, &time_s), "byte %zu", i);
        memcpy(line, LINE, sizeof LINE);
        line[i] = '\0';
        cr_expect_not(witness_has_signed(&w, NOTE, line, &time_s), "cut at %zu", i);
    }
    for (size_t i = 0; i < strlen(TEXT); i++) {
        memcpy(note, NOTE, sizeof NOTE);
        note[i] ^= 1;
        cr_expect_not(witness_has_signed(&w, note, LINE, &time_s), "byte %zu of the note", i);
    }
    cr_expect_not(witness_has_signed(&w, "", LINE, &time_s));
}

Test(crypto_cosignature, keys_that_are_none_are_refused) {
    static const char *const BAD[] = { "", "+", "witness.example/w1", "witness.example/w1+aa4a09d1", "witness.example/w1+aa4a09d1+", "+aa4a09d1+BOpK",
        "witness.example/w1+aa4a09d2+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs", "witness.example/w1+aa4a09d1+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs",
        "witness example+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs", "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIsAA==" };
    struct witness w;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_eq(witness_read(BAD[i], strlen(BAD[i]), &w, &(struct why){ 0 }), ST_INVALID, "%s", BAD[i]);
}

Test(crypto_cosignature, a_key_of_kms_has_the_id_and_the_lines_that_its_type_asks_for) {
    static const char SPKI[] = "3059301306072a8648ce3d020106082a8648ce3d03010703420004f9ebe464147cc102d92324d099d927c1a50e42d57a08a116ffec0a29819d8c65"
                               "70baf7d12888902a6a0c1d67add103123c859ab69bf8e9431c9384930d4b7eee";
    static const char DER[] = "3044022056805bc770bcba4844cf737be846c498dde874fea174e274c83ea43156bd4ab002207f27e7435751b1bdd3c4c39a1f8e3bbf2ac0441e57bd75c9"
                              "880458c14f2c42dc";
    uint8_t spki[91], signature[70];
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    cr_assert(hex_decode(SPKI, strlen(SPKI), spki) && hex_decode(DER, strlen(DER), signature));
    cr_expect_str_eq(ecdsa_verifier("example.com/behind-the-sofa", spki, sizeof spki, mem),
        "example.com/behind-the-sofa+d3949091+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPnr5GQUfMEC2SMk0JnZJ8GlDkLVegihFv/sCimBnYxlcLr30SiIkCpqDB1nrdEDEjyFmrab+OlDHJOEkw1Lfu4=");
    cr_expect_str_eq(ecdsa_line("example.com/behind-the-sofa", spki, sizeof spki, signature, sizeof signature, mem),
        "\xe2\x80\x94 example.com/behind-the-sofa 05SQkTBEAiBWgFvHcLy6SETPc3voRsSY3eh0/qF04nTIPqQxVr1KsAIgfyfnQ1dRsb3TxMOaH447vyrARB5XvXXJiARYwU8sQtw=\n");
}
