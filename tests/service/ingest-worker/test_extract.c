/* extract, with the real sandbox and the real pdftotext. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/arena.h"
#include "extract.h"

static const struct extract_options OPTIONS = {
    .sandbox_path = CORDON_BINARY_DIR "/services/ingest-worker/cordon-sandbox",
    .pdftotext_path = "/usr/bin/pdftotext",
    .is_landlock_required = true,
    .memory_max_bytes = 1 << 30,
    .time_max_ms = 10000,
    .text_max_bytes = 1 << 20,
};

TestSuite(extract, .timeout = 30);

static enum status extract(const struct extract_options *options, const char *type, const void *data, size_t len,
                           size_t step, struct buffer *text, struct why *why) {
    CLEANUP(extraction_destroy) struct extraction *x = NULL;
    enum status st = extraction_new(options, type, &x, why);
    for (size_t i = 0; st == ST_OK && i < len; i += step)
        st = extraction_feed(x, (const char *)data + i, len - i < step ? len - i : step, why);
    return st == ST_OK ? extraction_finish(x, text, why) : st;
}

/* A PDF of one page whose content stream shows `words`. Offsets in xref are left to repair. */
static char *small_pdf(struct arena *mem, const char *words) {
    const char *content = arena_printf(mem, "BT /F1 12 Tf 72 700 Td (%s) Tj ET", words);
    return arena_printf(mem,
        "%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>endobj\n"
        "4 0 obj<</Length %zu>>stream\n%s\nendstream endobj\n"
        "5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n",
        strlen(content), content);
}

Test(extract, text_comes_back_as_it_is_in_any_step) {
    const char *in = "Grüße, page one\fpage two";
    for (size_t step = 1; step <= strlen(in); step++) {
        struct why why = { 0 };
        CLEANUP(buffer_end) struct buffer text = { 0 };
        cr_assert_eq(extract(&OPTIONS, "text/plain", in, strlen(in), step, &text, &why), ST_OK, "%s", why.text);
        cr_assert_str_eq(text.data, in);
    }
}

static enum status count_pages(void *ctx, uint32_t pages, struct why *why) {
    uint32_t *most = ctx;
    (void)why;
    *most = pages > *most ? pages : *most;
    return ST_OK;
}

static enum status stop_it(void *ctx, uint32_t pages, struct why *why) {
    (void)ctx;
    (void)pages;
    return fail(why, ST_UNAVAILABLE, "stopping");
}

Test(extract, says_how_many_pages_there_are_while_it_runs_and_ends_when_told) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *pdf = small_pdf(mem, "Potassium 4.1 mmol/L");
    struct why why = { 0 };
    for (int i = 0; i < 2; i++) {
        CLEANUP(buffer_end) struct buffer text = { 0 };
        CLEANUP(extraction_destroy) struct extraction *x = NULL;
        uint32_t most = 0;
        cr_assert_eq(extraction_new(&OPTIONS, "application/pdf", &x, &why), ST_OK, "%s", why.text);
        extraction_watch(x, i ? stop_it : count_pages, &most);
        enum status st = extraction_feed(x, pdf, strlen(pdf), &why);
        if (st == ST_OK)
            st = extraction_finish(x, &text, &why);
        cr_expect_eq(st, i ? ST_UNAVAILABLE : ST_OK, "%s", why.text);
        cr_expect_eq(most, i ? 0 : 1);
    }
}

Test(extract, pdf_text_comes_from_the_sandboxed_child) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *pdf = small_pdf(mem, "Potassium 4.1 mmol/L");
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    cr_assert_eq(extract(&OPTIONS, "application/pdf", pdf, strlen(pdf), 7, &text, &why), ST_OK, "%s", why.text);
    cr_assert_not_null(strstr(text.data, "Potassium 4.1 mmol/L"));
    cr_assert_eq(text.data[text.len - 1], '\f');
}

Test(extract, what_is_not_a_pdf_is_damaged) {
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    cr_assert_eq(extract(&OPTIONS, "application/pdf", junk, sizeof junk, 512, &text, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_DAMAGED);
    memcpy(junk, "%PDF-1.4\n", 9);
    cr_assert_eq(extract(&OPTIONS, "application/pdf", junk, sizeof junk, 512, &text, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_DAMAGED);
}

Test(extract, white_space_only_is_no_text) {
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    cr_assert_eq(extract(&OPTIONS, "text/plain", " \n\t\f ", 5, 5, &text, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_NO_TEXT);
}

Test(extract, broken_utf8_and_nul_are_damaged) {
    static const struct { const char *bytes; size_t len; } CASES[] = { { "abc\xff", 4 }, { "a\0b", 3 }, { "\xed\xa0\x80", 3 } };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct why why = { 0 };
        CLEANUP(buffer_end) struct buffer text = { 0 };
        cr_assert_eq(extract(&OPTIONS, "text/plain", CASES[i].bytes, CASES[i].len, 1, &text, &why), ST_INVALID);
        cr_assert_eq(why.code, ERR_DOC_DAMAGED);
    }
}

Test(extract, other_types_are_refused_before_a_byte) {
    struct why why = { 0 };
    CLEANUP(extraction_destroy) struct extraction *x = NULL;
    cr_assert_eq(extraction_new(&OPTIONS, "application/x-msdownload", &x, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_TYPE);
    cr_assert_null(x);
}

Test(extract, more_text_than_allowed_is_too_complex) {
    struct extract_options small = OPTIONS;
    small.text_max_bytes = 10;
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    cr_assert_eq(extract(&small, "text/plain", "0123456789a", 11, 4, &text, &why), ST_INVALID);
    cr_assert_eq(why.code, ERR_DOC_TOO_COMPLEX);
}

/* The "extractor" is a shell or tool that tries what a taken-over one would; the sandbox's own exit
 * statuses aside, every attempt has to fail. */
static char *sandboxed_output(struct arena *mem, const char *command) {
    FILE *out = popen(arena_printf(mem, "%s 1073741824 10 %s 2>&1 | cat", OPTIONS.sandbox_path, command), "r");
    cr_assert_not_null(out);
    char *text = arena_alloc(mem, 65536);
    (void)!fread(text, 1, 65535, out);
    pclose(out);
    return text;
}

Test(extract, the_sandbox_hides_files_outside_the_system_folders) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    cr_assert_null(strstr(sandboxed_output(mem, "/usr/bin/head -c 200 /etc/passwd"), "root:"));
    cr_assert_not_null(strstr(sandboxed_output(mem, "/usr/bin/head -c 200 /etc/passwd"), "ermission"));
    cr_assert_not_null(strstr(sandboxed_output(mem, "/usr/bin/head -c 1 /proc/self/environ"), "ermission"));
}

/* What Python says when `code` runs in the sandbox: the name of the exception, or what it printed. */
static char *attempt(struct arena *mem, const char *code) {
    return sandboxed_output(mem, arena_printf(mem, "/usr/bin/python3 -I -S -c '%s'", code));
}

Test(extract, the_sandbox_has_no_network_no_processes_and_no_files) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    cr_assert_not_null(strstr(attempt(mem, "print(6 * 7)"), "42"), "the sandbox must be able to run something");
    static const char *const FORBIDDEN[] = {
        "import _socket; _socket.socket(2, 1, 0); print(\"done\")",
        "import posix; posix.fork(); print(\"done\")",
        "open(\"/tmp/cordon-escape\", \"w\"); print(\"done\")",
        "open(\"/etc/passwd\"); print(\"done\")",
        "import posix; posix.kill(1, 9); print(\"done\")",
        "import posix; posix.listdir(\"/proc\"); print(\"done\")",
    };
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof *FORBIDDEN; i++) {
        const char *said = attempt(mem, FORBIDDEN[i]);
        cr_expect_null(strstr(said, "done"), "%s", FORBIDDEN[i]);
        cr_expect_not_null(strstr(said, "Error"), "%s: %s", FORBIDDEN[i], said);
    }
}

Test(extract, the_sandbox_caps_memory) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    cr_assert_not_null(strstr(attempt(mem, "x = bytearray(2 << 30); print(\"done\")"), "MemoryError"));
}

/* Time that the document store takes is not the document's fault. */
Test(extract, a_slow_store_does_not_make_a_document_too_complex) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct extract_options hurried = OPTIONS;
    hurried.time_max_ms = 1000;
    const char *pdf = small_pdf(mem, "Potassium 4.1 mmol/L");
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    CLEANUP(extraction_destroy) struct extraction *x = NULL;
    cr_assert_eq(extraction_new(&hurried, "application/pdf", &x, &why), ST_OK);
    cr_assert_eq(extraction_feed(x, pdf, 100, &why), ST_OK);
    usleep(1100 * 1000);
    cr_assert_eq(extraction_feed(x, pdf + 100, strlen(pdf) - 100, &why), ST_OK, "%s", why.text);
    cr_assert_eq(extraction_finish(x, &text, &why), ST_OK, "%s", why.text);
}

/* Whoever stops a machine stops its children too. */
Test(extract, a_child_that_is_told_to_stop_says_nothing_about_the_document) {
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    CLEANUP(extraction_destroy) struct extraction *x = NULL;
    cr_assert_eq(extraction_new(&OPTIONS, "application/pdf", &x, &why), ST_OK);
    cr_assert_eq(extraction_feed(x, "%PDF-1.4\n", 9, &why), ST_OK);
    FILE *children = fopen("/proc/thread-self/children", "r");
    int child = 0;
    cr_assert(children && fscanf(children, "%d", &child) == 1);
    fclose(children);
    cr_assert_eq(kill(child, SIGTERM), 0);
    cr_expect_eq(extraction_finish(x, &text, &why), ST_UNAVAILABLE, "%s", why.text);
}

/* As one might that a hostile document has taken over: nothing more is to be read, and it stays. */
Test(extract, a_child_that_closes_its_output_and_stays_is_ended_in_time) {
    char path[] = "/tmp/cordon-extractor-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && dprintf(fd, "#!/bin/sh\nexec >&-\nexec sleep 1000\n") > 0 && fchmod(fd, 0700) == 0);
    close(fd);
    struct extract_options stuck = OPTIONS;
    stuck.sandbox_path = path;
    stuck.time_max_ms = 300;
    struct why why = { 0 };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    CLEANUP(extraction_destroy) struct extraction *x = NULL;
    cr_assert_eq(extraction_new(&stuck, "application/pdf", &x, &why), ST_OK, "%s", why.text);
    cr_assert_eq(extraction_feed(x, "%PDF-1.4\n", 9, &why), ST_OK, "%s", why.text);
    cr_expect_eq(extraction_finish(x, &text, &why), ST_INVALID);
    cr_expect_eq(why.code, ERR_DOC_TOO_COMPLEX, "%s", why.text);
    extraction_destroy(&x);
    cr_expect_eq(unlink(path), 0);
}
