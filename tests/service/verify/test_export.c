/* Exports that are whole are verified; whatever is done to one is found, and the first wrong event is named. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

enum { EVENTS = 200, SHORT_MUTATIONS = 10000, LONG_MUTATIONS = 100000 };

static struct sample_log *made;
static struct verifier key;
static char note[SAMPLE_NOTE_MAX];

static void set_up(void) {
    made = calloc(1, sizeof *made);
    sample_fill(made, EVENTS);
    key = sample_verifier(0);
    sample_note(made, EVENTS, 0, note);
}

static void tear_down(void) {
    free(made);
}

TestSuite(verify_export, .init = set_up, .fini = tear_down, .timeout = 600);

static struct report check_with(const char *data, size_t len, const struct expected *e) {
    struct report r;
    FILE *in = len ? fmemopen((void *)data, len, "rb") : fopen("/dev/null", "rbe");
    cr_assert(export_check(in, e, &r));
    fclose(in);
    return r;
}

static struct report check(const char *data, size_t len) {
    return check_with(data, len, &(struct expected){ .key = &key });
}

Test(verify_export, whole_logs_and_parts_are_verified) {
    const unsigned parts[][2] = { { 0, EVENTS }, { 0, 1 }, { 1, 2 }, { 63, 65 }, { 64, 128 }, { 127, 200 }, { 199, 200 }, { 0, 0 }, { 200, 200 }, { 5, 5 } };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *data;
        size_t len = sample_export(made, parts[i][0], parts[i][1], EVENTS, note, 0, &data);
        struct report r = check(data, len);
        cr_expect(r.is_good, "%u to %u: %s", parts[i][0], parts[i][1], r.text);
        cr_expect_eq(r.events, parts[i][1] - parts[i][0]);
        free(data);
    }
}

Test(verify_export, somebody_else_s_signature_vouches_for_nothing) {
    char *data, other[SAMPLE_NOTE_MAX];
    size_t len = sample_export(made, 0, EVENTS, EVENTS, sample_note(made, EVENTS, 1, other), 0, &data);
    struct report r = check(data, len);
    cr_expect(!r.is_good);
    r = check_with(data, len, &(struct expected){ 0 });
    cr_expect(r.is_good, "without a key only the tree is checked: %s", r.text);
    free(data);
}

Test(verify_export, a_witness_that_was_asked_for_must_have_cosigned) {
    struct expected e = { .key = &key, .witnesses = { sample_witness() }, .witness_count = 1 };
    char *data, cosigned[SAMPLE_NOTE_MAX];
    size_t len = sample_export(made, 0, EVENTS, EVENTS, note, 0, &data);
    cr_expect(!check_with(data, len, &e).is_good);
    free(data);
    len = sample_export(made, 0, EVENTS, EVENTS, sample_cosigned(made, EVENTS, cosigned), 0, &data);
    struct report r = check_with(data, len, &e);
    cr_expect(r.is_good, "%s", r.text);
    free(data);
}

static struct expected with_outside(const char *text) {
    struct expected e = { .key = &key, .outside_count = 1 };
    cr_assert(checkpoint_read((struct text){ text, strlen(text) }, &e.outside[0]));
    return e;
}

Test(verify_export, a_checkpoint_from_elsewhere_is_a_beginning) {
    char *data, old[SAMPLE_NOTE_MAX];
    for (unsigned size = 1; size <= EVENTS; size += 33) {
        sample_note(made, size, 0, old);
        struct expected e = with_outside(old);
        size_t len = sample_export(made, 0, EVENTS, EVENTS, note, 0, &data);
        cr_expect(check_with(data, len, &e).is_good, "%u", size);
        free(data);
        len = sample_export(made, 199, EVENTS, EVENTS, note, size, &data);
        struct report r = check_with(data, len, &e);
        cr_expect(r.is_good, "%u: %s", size, r.text);
        free(data);
    }
}

Test(verify_export, a_tail_that_was_cut_is_found_through_the_checkpoint_from_elsewhere) {
    char *data, shorter[SAMPLE_NOTE_MAX];
    struct expected e = with_outside(note);
    size_t len = sample_export(made, 0, 150, 150, sample_note(made, 150, 0, shorter), 0, &data);
    cr_expect(check(data, len).is_good, "by itself it is a log, signed by the log's own key");
    struct report r = check_with(data, len, &e);
    cr_expect(!r.is_good);
    cr_expect_eq(r.index, 150, "%s", r.text);
    free(data);
}

Test(verify_export, a_rewritten_log_is_found_through_the_checkpoint_from_elsewhere) {
    char *data, old[SAMPLE_NOTE_MAX], older[SAMPLE_NOTE_MAX], forged[SAMPLE_NOTE_MAX];
    sample_note(made, 100, 0, old);
    sample_note(made, 40, 0, older);
    made->events[77][12] ^= 1;              /* everything follows: leaf, lists, checkpoint, signature */
    sample_hash(made);
    size_t len = sample_export(made, 0, EVENTS, EVENTS, sample_note(made, EVENTS, 0, forged), 0, &data);
    cr_expect(check(data, len).is_good, "whoever has the key can do this");
    struct expected e = with_outside(old);
    cr_assert(checkpoint_read((struct text){ older, strlen(older) }, &e.outside[1]));
    e.outside_count = 2;
    struct report r = check_with(data, len, &e);
    cr_expect(!r.is_good);
    cr_expect_eq(r.index, 40, "it differs behind what the older one confirms: %s", r.text);
    free(data);
}

/* ---- mutations ---- */

static uint64_t state = 88172645463325252u;
static unsigned any(unsigned n) {               /* xorshift: the same mutations every time */
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state % n);
}

struct line { const char *at; size_t len; };

/* The events' lines within the export, with their ends. */
static void find_lines(const char *data, size_t len, struct line lines[EVENTS]) {
    unsigned n = 0;
    for (const char *p = data; p < data + len;) {
        const char *end = memchr(p, '\n', len - (size_t)(p - data));
        if (strncmp(p, "{\"action\"", 9) == 0)
            lines[n++] = (struct line){ p, (size_t)(end + 1 - p) };
        p = end + 1;
    }
    cr_assert_eq(n, EVENTS);
}

static size_t splice(char *out, const char *data, size_t len, struct line cut, const char *with, size_t with_len) {
    size_t before = (size_t)(cut.at - data);
    memcpy(out, data, before);
    memcpy(out + before, with, with_len);
    memcpy(out + before + with_len, cut.at + cut.len, len - before - cut.len);
    return len - cut.len + with_len;
}

static void expect_index(const char *data, size_t len, int64_t index, const char *what) {
    struct report r = check(data, len);
    cr_assert(!r.is_good, "%s at %lld was not found", what, (long long)index);
    cr_assert_eq(r.index, index, "%s at %lld: %lld: %s", what, (long long)index, (long long)r.index, r.text);
}

Test(verify_export, every_mutation_is_found_and_the_event_named) {
    unsigned mutations = getenv("CORDON_TEST_LONG") ? LONG_MUTATIONS : SHORT_MUTATIONS;
    struct line lines[EVENTS];
    char *data;
    size_t len = sample_export(made, 0, EVENTS, EVENTS, note, 0, &data);
    char *out = malloc(2 * len);
    find_lines(data, len, lines);
    for (unsigned i = 0; i < mutations; i++) {
        unsigned n = any(EVENTS), m = any(EVENTS - 1);
        struct line a = lines[n];
        if (m >= n)
            m++;
        struct line b = lines[m];
        size_t out_len;
        switch (i % 6) {
        case 0:                             /* a byte, also its line's end */
            memcpy(out, data, len);
            out[(size_t)(a.at - data) + any((unsigned)a.len)] ^= (char)(1 + any(255));
            expect_index(out, len, n, "a changed byte");
            break;
        case 1:
            out_len = splice(out, data, len, a, "", 0);
            expect_index(out, out_len, n, "a deletion");
            break;
        case 2:
            memcpy(out, data, len);
            if (n < m) {                    /* the later place first, so that the earlier one stays where it is */
                out_len = splice(out, data, len, b, a.at, a.len);
                char *other = malloc(2 * len);
                struct line moved = { out + (a.at - data), a.len };
                out_len = splice(other, out, out_len, moved, b.at, b.len);
                expect_index(other, out_len, n, "a swap");
                free(other);
            }
            break;
        case 3:
            memcpy(out, a.at, a.len);
            memcpy(out + a.len, a.at, a.len);
            {
                char *other = malloc(2 * len);
                out_len = splice(other, data, len, a, out, 2 * a.len);
                expect_index(other, out_len, n + 1 < EVENTS ? n + 1 : EVENTS, "a duplication");
                free(other);
            }
            break;
        case 4: {                           /* a cut anywhere */
            size_t cut = any((unsigned)len);
            struct report r = check(data, cut);
            cr_assert(!r.is_good, "cut at byte %zu", cut);
            if (cut > (size_t)(lines[0].at - data))
                cr_assert_geq(r.index, 0, "cut at byte %zu: %s", cut, r.text);
            break;
        }
        default: {                          /* any byte of all */
            size_t at = any((unsigned)len);
            memcpy(out, data, len);
            out[at] ^= (char)(1 + any(255));
            cr_assert(!check(out, len).is_good, "byte %zu of %zu", at, len);
        }
        }
    }
    free(out);
    free(data);
}

Test(verify_export, an_event_changed_together_with_its_listed_hash_is_found) {
    char *data;
    for (unsigned n = 0; n < EVENTS; n += 17) {
        sample_fill(made, EVENTS);
        made->events[n][20] ^= 1;
        sample_hash(made);
        size_t len = sample_export(made, 0, EVENTS, EVENTS, note, 0, &data);
        struct report r = check(data, len);
        cr_expect(!r.is_good, "%u", n);
        free(data);
    }
}

Test(verify_export, what_is_no_export_is_refused) {
    const char *texts[] = { "", "\n", "{}\n", "{\"cordon\":\"export\"}\n", "{\"cordon\":\"end\",\"events\":0}\n", "{\"action\":\"x\",\"seq\":0,\"tenant_id\":\"t\"}\n",
        "{\"cordon\":\"export\",\"version\":1,\"origin\":\"o\",\"tenant_id\":\"t\",\"first\":0,\"events\":0,\"size\":0}\n{\"cordon\":\"end\",\"events\":0}\n",
        "{\"cordon\":\"export\",\"version\":1,\"origin\":\"o\",\"tenant_id\":\"t\",\"first\":4611686018427387903,\"events\":2,\"size\":1}\n" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cr_expect(!check(texts[i], strlen(texts[i])).is_good, "%s", texts[i]);
}
