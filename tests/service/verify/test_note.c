/* The verifier's signatures, against vectors made with another library (Python's cryptography) from the words of c2sp.org. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "note.h"

#define DASH "\xe2\x80\x94 "
static const char NOTE[] =
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    DASH "example.com/behind-the-sofa 05SQkTBEAiBWgFvHcLy6SETPc3voRsSY3eh0/qF04nTIPqQxVr1KsAIgfyfnQ1dRsb3TxMOaH447vyrARB5XvXXJiARYwU8sQtw=\n"
    DASH "witness.example/w1 qkoJ0QAAAABkGFDLWr4Jea05CAgwNVtwky0Jgz6WfX0QJgM//FkB/W9BoT9TX0DkTxG+2cT4p/ViKNhUM/SnUwFcYQzugGFQ15LwDw==\n";
static const char KMS[] = "example.com/behind-the-sofa+d3949091+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPnr5GQUfMEC2SMk0JnZJ8GlDkLVegihFv/sCimBnYxlcLr30SiIkCpqDB1nrdEDEjyFmrab+OlDHJOEkw1Lfu4=";
static const char WITNESS[] = "witness.example/w1+aa4a09d1+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";

TestSuite(verify_note, .timeout = 20);

static struct verifier key(const char *text) {
    struct verifier v;
    cr_assert(verifier_read((struct text){ text, strlen(text) }, &v));
    return v;
}

Test(verify_note, a_signature_of_a_key_in_kms_and_a_witness_s_are_verified) {
    struct checkpoint c;
    struct verifier kms = key(KMS), witness = key(WITNESS);
    uint64_t when = 0;
    cr_assert(checkpoint_read((struct text){ NOTE, strlen(NOTE) }, &c));
    cr_expect(checkpoint_is_signed(&c, &kms));
    cr_expect(checkpoint_is_witnessed(&c, &witness, &when));
    cr_expect_eq(when, 1679315147);
    cr_expect_not(checkpoint_is_signed(&c, &witness));
    cr_expect_not(checkpoint_is_witnessed(&c, &kms, &when));
}

Test(verify_note, no_byte_of_the_note_can_be_changed) {
    struct verifier kms = key(KMS), witness = key(WITNESS);
    char *text = strdup(NOTE);
    uint64_t when;
    for (size_t i = 0; i < strlen(NOTE); i++) {
        struct checkpoint c;
        text[i] ^= 1;
        cr_expect(!checkpoint_read((struct text){ text, strlen(NOTE) }, &c) || !checkpoint_is_signed(&c, &kms) || !checkpoint_is_witnessed(&c, &witness, &when),
                  "byte %zu", i);
        text[i] ^= 1;
    }
    free(text);
}

Test(verify_note, a_key_whose_id_or_bytes_are_another_s_is_none) {
    struct verifier v;
    char *text = strdup(KMS);
    for (size_t i = strcspn(KMS, "+") + 1; i + 1 < strlen(KMS); i++) {
        text[i] ^= 1;
        cr_expect_not(verifier_read((struct text){ text, strlen(KMS) }, &v), "byte %zu", i);
        text[i] ^= 1;
    }
    free(text);
}
