/* Signed notes: the example of c2sp.org/signed-note's reference implementation, and what is refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "crypto/note.h"

/* From golang.org/x/mod/sumdb/note's own documentation. */
static const char SKEY[] = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
static const char VKEY[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

static enum status read_key(const char *text, struct note_key **ret_key) {
    struct why why = { 0 };
    CLEANUP(secret_destroy) struct secret *secret = secret_new(text, strlen(text));
    return note_key_new(secret, ret_key, &why);
}

Test(crypto_note, a_key_of_go_s_note_package_gives_its_public_half) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(note_key_destroy) struct note_key *key = NULL;
    cr_assert_eq(read_key(SKEY, &key), ST_OK);
    cr_assert_str_eq(note_origin(key, "", mem), "PeterNeumann");
    cr_assert_str_eq(note_verifier(key, "PeterNeumann", mem), VKEY);
    cr_assert_str_eq(note_origin(key, "log-1", mem), "PeterNeumann/log-1");
}

Test(crypto_note, a_checkpoint_has_three_lines_a_blank_one_and_the_signature) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    CLEANUP(note_key_destroy) struct note_key *key = NULL;
    uint8_t root[NOTE_ROOT_BYTES] = { 0 };
    cr_assert_eq(read_key(SKEY, &key), ST_OK);
    const char *note = note_sign(key, note_origin(key, "a", mem), 17, root, mem);
    const char want[] = "PeterNeumann/a\n17\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n\xe2\x80\x94 PeterNeumann/a ";
    cr_assert(strncmp(note, want, strlen(want)) == 0, "%s", note);
    cr_assert_eq(note[strlen(note) - 1], '\n');
    cr_assert_str_eq(note, note_sign(key, "PeterNeumann/a", 17, root, mem), "Ed25519 signs one thing one way");
}

Test(crypto_note, a_key_that_was_made_can_be_read) {
    struct why why = { 0 };
    CLEANUP(secret_destroy) struct secret *text = NULL;
    CLEANUP(note_key_destroy) struct note_key *key = NULL;
    cr_assert_eq(note_key_make("cordon.example/audit", &text, &why), ST_OK);
    cr_assert_eq(note_key_new(text, &key, &why), ST_OK, "%s", why.text);
}

Test(crypto_note, other_texts_are_no_keys) {
    const char *bad[] = { "", "PRIVATE+KEY+", VKEY, "PRIVATE+KEY+PeterNeumann+c74f20a3+",
        "PRIVATE+KEY+PeterNeumann+c74f20a4+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",       /* another's id */
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AoEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",       /* another algorithm */
        "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr",
        "PRIVATE+KEY+Peter Neumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct note_key *key = NULL;
        cr_expect_eq(read_key(bad[i], &key), ST_INVALID, "%s", bad[i]);
        cr_expect_null(key);
    }
    struct why why = { 0 };
    struct secret *text = NULL;
    cr_expect_eq(note_key_make("a+b", &text, &why), ST_INVALID);
    cr_expect_eq(note_key_make("a b", &text, &why), ST_INVALID);
    cr_expect_eq(note_key_make("", &text, &why), ST_INVALID);
}
