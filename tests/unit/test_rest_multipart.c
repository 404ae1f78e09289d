#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <string.h>

#include "core/buffer.h"
#include "rest/multipart.h"

static enum status on_begin(void *ctx, const struct multipart_part *part, struct why *why) {
    (void)why;
    (void)buffer_printf(ctx, "<%s|%s|%s>", part->disposition.name, part->disposition.file_name, part->content_type);
    return ST_OK;
}

static enum status on_data(void *ctx, const void *data, size_t len, struct why *why) {
    (void)why;
    (void)buffer_add(ctx, data, len);
    return ST_OK;
}

static enum status on_end(void *ctx, struct why *why) {
    (void)why;
    (void)buffer_add_str(ctx, "</>");
    return ST_OK;
}

/* Feeds body in pieces of `first` bytes and then `step` bytes. */
static enum status run(const char *body, size_t len, size_t first, size_t step, struct buffer *out) {
    struct multipart_sink sink = { out, on_begin, on_data, on_end };
    CLEANUP(multipart_destroy) struct multipart *m = multipart_new("XX", &sink);
    struct why why = { 0 };
    enum status st = ST_OK;
    buffer_clear(out);
    for (size_t at = 0; at < len && st == ST_OK;) {
        size_t n = at == 0 && first ? first : step;
        n = n > len - at ? len - at : n;
        st = multipart_feed(m, body + at, n, &why);
        at += n;
    }
    return st == ST_OK ? multipart_finish(m, &why) : st;
}

static const char BODY[] =
    "--XX\r\nContent-Disposition: form-data; name=\"mrn\"\r\n\r\n12-34\r\n"
    "--XX\r\ncontent-type: Text/Plain; charset=utf-8\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\a\\b c.txt\"\r\n\r\n"
    "\r\n-\r\n--X\r\r\n--XY\r\n\r\n--XX--\r\n";
static const char WANT[] = "<mrn||>12-34</><file|b c.txt|text/plain>\r\n-\r\n--X\r\r\n--XY\r\n</>";

Test(rest_multipart, gives_the_same_parts_at_every_split) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    for (size_t first = 1; first <= strlen(BODY); first++)
        for (size_t step = 1; step <= 64; step += first % 3 + 1) {
            cr_assert_eq(run(BODY, strlen(BODY), first, step, &out), ST_OK, "%zu %zu", first, step);
            cr_assert_str_eq(out.data, WANT, "%zu %zu: %s", first, step, out.data);
        }
}

Test(rest_multipart, every_truncation_is_told) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    for (size_t len = 0; len < strlen(BODY) - 2; len++)
        cr_assert_eq(run(BODY, len, 0, 7, &out), ST_INVALID, "%zu", len);
}

struct bad_case { char body[256]; };

ParameterizedTestParameters(rest_multipart, refuses) {
    static struct bad_case cases[] = {
        { "preamble\r\n--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--trailer" },
        { "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XXjunk\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Disposition : form-data; name=a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--" },
        { "--XX\r\n\r\n\r\nx\r\n--XX--" },
        { "--XX\nContent-Disposition: form-data; name=a\n\nx\n--XX--" },
    };
    return cr_make_param_array(struct bad_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct bad_case *c, rest_multipart, refuses) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    cr_expect_eq(run(c->body, strlen(c->body), 0, 1000, &out), ST_INVALID, "%s", c->body);
}

Test(rest_multipart, headers_and_parts_are_bounded) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 }, body = { .limit_bytes = 0 };
    (void)buffer_add_str(&body, "--XX\r\nX: ");
    for (int i = 0; i < 5000; i++)
        (void)buffer_add_str(&body, "y");
    cr_expect_eq(run(body.data, body.len, 0, 999, &out), ST_INVALID);
    buffer_clear(&body);
    for (int i = 0; i < 17; i++)
        (void)buffer_add_str(&body, "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n");
    (void)buffer_add_str(&body, "--XX--");
    cr_expect_eq(run(body.data, body.len, 0, 999, &out), ST_INVALID);
    buffer_end(&body);
}

struct name_case { char value[128], file_name[64]; bool ok; };

ParameterizedTestParameters(rest_header, reads_file_names) {
    static struct name_case cases[] = {
        { "attachment; filename=\"a b.pdf\"", "a b.pdf", true },
        { "attachment; filename=plain.pdf", "plain.pdf", true },
        { "attachment; filename=\"../../etc/passwd\"", "passwd", true },
        { "attachment; filename=\"x\"; filename*=UTF-8''na%C3%AFve%20one.txt", "na\xc3\xafve one.txt", true },
        { "attachment; filename*=utf-8'en'%e2%82%ac.txt", "\xe2\x82\xac.txt", true },
        { "attachment; filename*=UTF-8''%ff", "", false },
        { "attachment; filename*=UTF-8''a%00b", "", false },
        { "attachment; filename*=iso-8859-1''a", "", false },
        { "attachment; filename=\"a\tb\"", "", false },
        { "attachment; filename=\"q\\\"uote\"", "q\"uote", true },
        { "attachment;", "", true },
        { "attachment; filename=\"a\" x", "", false },
        { "", "", false },
    };
    return cr_make_param_array(struct name_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct name_case *c, rest_header, reads_file_names) {
    struct disposition d = { .name = "" };
    cr_assert_eq(disposition_parse(c->value, &d), c->ok, "%s", c->value);
    cr_expect_str_eq(d.file_name, c->file_name, "%s", c->value);
}

Test(rest_header, prints_file_names_that_nobody_misreads) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    cr_expect_str_eq(disposition_print(mem, "a\"\r\nSet-Cookie: x.txt"),
                     "attachment; filename=\"a___Set-Cookie: x.txt\"; filename*=UTF-8''a%22%0D%0ASet-Cookie%3A%20x.txt");
    cr_expect_str_eq(disposition_print(mem, "\xc3\xa9.pdf"), "attachment; filename=\"__.pdf\"; filename*=UTF-8''%C3%A9.pdf");
    cr_expect_str_eq(disposition_print(mem, ""), "attachment; filename=\"document\"; filename*=UTF-8''document");
}

Test(rest_header, reads_media_types) {
    struct media_type t;
    cr_assert(media_type_parse("Multipart/Form-Data; boundary=\"a b\"", &t));
    cr_expect_str_eq(t.text, "multipart/form-data");
    cr_expect_str_eq(t.boundary, "a b");
    cr_assert(media_type_parse("text/plain;charset=UTF-8", &t));
    cr_expect_str_eq(t.text, "text/plain");
    cr_expect_not(media_type_parse("text", &t));
    cr_expect_not(media_type_parse("text/plain/x", &t));
    cr_expect_not(media_type_parse("/plain", &t));
    cr_expect_not(media_type_parse("multipart/form-data; boundary=a; boundary=b", &t));
    cr_expect_not(media_type_parse("multipart/form-data; boundary=\"a\r\"", &t));
    cr_expect_not(media_type_parse("multipart/form-data; boundary=\"\"", &t));
}

#define SHA256_TEXT "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
#define SHA512_TEXT "sha-512=:z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==:"

Test(rest_header, reads_digests_and_notices_when_two_fields_disagree) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    struct digests both = { 0 }, none = { 0 }, one = { 0 }, bad = { 0 };
    cr_assert(digests_parse(mem, SHA512_TEXT ", " SHA256_TEXT, &both));
    cr_expect(both.has_sha256 && both.has_sha512);
    cr_expect_eq(both.sha256[0], 0xe3);
    cr_expect_eq(both.sha512[0], 0xcf);
    cr_assert(digests_parse(mem, "md5=:AAAA:", &none));
    cr_expect_not(none.has_sha256 || none.has_sha512);
    cr_assert(digests_parse(mem, SHA256_TEXT, &one));
    cr_expect(digests_parse(mem, SHA256_TEXT ", " SHA512_TEXT, &one), "the same once more");
    cr_expect_not(digests_parse(mem, "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:", &one), "another");
    cr_expect_not(digests_parse(mem, "sha-256=:AAAA:", &bad));
    cr_expect_not(digests_parse(mem, "sha-512=:AAAA:", &bad));
    cr_expect_not(digests_parse(mem, "sha-256=47DE", &bad));
    cr_expect_not(digests_parse(mem, "", &bad));
}

Test(rest_header, an_idempotency_key_is_visible_characters_plain_or_quoted) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(4096);
    char longest[258];
    memset(longest, 'k', sizeof longest);
    longest[255] = '\0';
    cr_expect_str_eq(idempotency_key_parse(mem, "8e03978e-40d5"), "8e03978e-40d5");
    cr_expect_str_eq(idempotency_key_parse(mem, " \"8e03978e-40d5\" "), "8e03978e-40d5", "quoted, it is the same key");
    cr_expect_not_null(idempotency_key_parse(mem, longest));
    longest[255] = 'k';
    longest[256] = '\0';
    cr_expect_null(idempotency_key_parse(mem, longest));
    const char *const BAD[] = { "", " ", "\"\"", "a b", "a\tb", "\"a", "a\"", "\"a\\\"b\"", "\"a\"b\"", "a\\b", "k\xc3\xa9y", "k\x7f" };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_null(idempotency_key_parse(mem, BAD[i]), "%zu", i);
}

/* ---- ranges and conditions ---- */

struct range_case { char value[48]; bool ok; int64_t from, length; };

ParameterizedTestParameters(rest_header, ranges) {
    static struct range_case cases[] = {
        { "bytes=0-0", true, 0, 1 }, { "bytes=10-19", true, 10, 10 }, { "BYTES=5-", true, 5, -1 }, { " bytes= 5-9 ", true, 5, 5 },
        { "bytes=-7", true, -1, 7 }, { "bytes=-0", true, -1, 0 }, { "bytes=3-99999999999999999999999", true, 3, INT64_MAX - 2 },
        { "bytes=0-9223372036854775807", true, 0, INT64_MAX }, { "bytes=99999999999999999999-", true, INT64_MAX, -1 },
        { "bytes=9-2", false, 0, 0 }, { "bytes=-", false, 0, 0 }, { "bytes=", false, 0, 0 }, { "bytes=1", false, 0, 0 },
        { "bytes=0-1,5-6", false, 0, 0 }, { "bytes=+1-2", false, 0, 0 }, { "bytes=1 -2", false, 0, 0 }, { "bytes=1--2", false, 0, 0 },
        { "items=0-1", false, 0, 0 }, { "bytes", false, 0, 0 }, { "", false, 0, 0 }, { "bytes=0x1-0x2", false, 0, 0 },
    };
    return cr_make_param_array(struct range_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct range_case *c, rest_header, ranges) {
    struct byte_range range = { 0 };
    cr_assert_eq(byte_range_parse(c->value, &range), c->ok, "%s", c->value);
    cr_expect(range.from == c->from && range.length == c->length, "%s: %lld %lld", c->value, (long long)range.from, (long long)range.length);
}

struct etag_case { char list[48]; bool weakly, strongly; };

ParameterizedTestParameters(rest_header, entity_tags) {
    static struct etag_case cases[] = {
        { "\"a\"", true, true }, { "W/\"a\"", true, false }, { "*", true, true }, { " * ", true, true }, { "\"b\" , \"a\"", true, true },
        { "\"b\",W/\"a\"", true, false }, { "\"b,\\\"a\\\"\"", false, false }, { "a", false, false }, { "\"a", false, false }, { "", false, false },
        { "\"A\"", false, false }, { "\"b\" \"a\"", false, false }, { "w/\"a\"", false, false }, { "*, \"a\"", false, false }, { "\"aa\"", false, false },
    };
    return cr_make_param_array(struct etag_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct etag_case *c, rest_header, entity_tags) {
    cr_expect_eq(etag_matches(c->list, "\"a\"", false), c->weakly, "%s", c->list);
    cr_expect_eq(etag_matches(c->list, "\"a\"", true), c->strongly, "%s", c->list);
}

Test(rest_header, hostile_names_come_back_as_they_were_and_break_no_line) {
    static const char *const NAMES[] = {
        "a\r\nSet-Cookie: x=1", "\"; filename=evil.exe; x=\"", "..\\..\\boot.ini", "/etc/passwd", "%0d%0aX: y", "a;b=c", "'' UTF-8''x", "\xc3\xa9t\xc3\xa9\t.pdf",
        "\xf0\x9f\x92\x8a pill.txt", "\u202efdp.exe", "name with  spaces .", "\x7f\x01\x1f", "*", "=?utf-8?q?x?=",
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        CLEANUP(arena_destroy) struct arena *own = arena_new(0);
        const char *value = disposition_print(own, NAMES[i]);
        for (const char *p = value; *p; p++)
            cr_assert(*p >= 0x20 && *p < 0x7f, "%zu: byte %02x", i, (unsigned char)*p);
        const char *encoded = strstr(value, "; filename*=UTF-8''");
        cr_assert_not_null(encoded);
        cr_expect(strcspn(value, "\\%") >= (size_t)(encoded - value), "the plain form escapes nothing: %s", value);
        const char *close = strchr(strchr(value, '"') + 1, '"');
        cr_expect_eq(close + 1, encoded, "the plain form ends where it says: %s", value);
        char decoded[256];
        size_t n = 0;
        for (const char *p = encoded + strlen("; filename*=UTF-8''"); *p; p++) {
            unsigned byte = (unsigned char)*p;
            if (*p == '%') {
                cr_assert_eq(sscanf(p + 1, "%2X", &byte), 1);
                p += 2;
            }
            decoded[n++] = (char)byte;
        }
        decoded[n] = '\0';
        cr_expect_str_eq(decoded, NAMES[i]);
    }
}
