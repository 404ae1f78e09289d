#include "edge_fixture.h"

#define UPLOAD "POST /api/v1/documents"

static struct edge_node edge;
static struct buffer answer;

static void setup(void) { edge_start_node(&edge); }
static void teardown(void) {
    edge_stop_node(&edge);
    buffer_end(&answer);
}

TestSuite(edge_upload, .init = setup, .fini = teardown, .timeout = 60);

static uint8_t *pattern(size_t len) {
    uint8_t *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    return bytes;
}

static bool arrived(const uint8_t *bytes, size_t len) {
    uint8_t sum[32];
    EVP_Digest(bytes, len, sum, NULL, EVP_sha256(), NULL);
    return atomic_load(&seen.uploads) > 0 && seen.is_upload_whole && seen.uploaded_bytes == (int64_t)len && memcmp(sum, seen.uploaded_sha256, 32) == 0;
}

static int send_raw(const char *headers, const void *body, size_t len) {
    struct buffer request = { 0 };
    (void)buffer_printf(&request, UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\n%s\r\n", headers);
    (void)buffer_add(&request, body, len);
    int status = http_raw(&edge, request.data, request.len, &answer);
    buffer_end(&request);
    return status;
}

Test(edge_upload, raw_bodies_of_every_size_arrive_whole) {
    static const size_t SIZES[] = { 1, 65535, 65536, 262143, 262144, 262145, 524288, 1000000, 3000000 };
    for (unsigned i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        uint8_t *bytes = pattern(SIZES[i]);
        char headers[256];
        snprintf(headers, sizeof headers, "Content-Length: %zu\r\nContent-Type: Text/Plain; charset=utf-8\r\n"
                 "Content-Disposition: attachment; filename=\"a b.txt\"\r\n", SIZES[i]);
        cr_assert_eq(send_raw(headers, bytes, SIZES[i]), 202, "%zu: %s", SIZES[i], answer.data);
        cr_expect(arrived(bytes, SIZES[i]), "%zu: %lld", SIZES[i], (long long)seen.uploaded_bytes);
        cr_expect_eq(seen.announced_bytes, (int64_t)SIZES[i]);
        free(bytes);
    }
    cr_expect_str_eq(seen.file_name, "a b.txt");
    cr_expect_str_eq(seen.content_type, "text/plain");
    cr_expect(strstr(answer.data, "\"document_id\":\"" ID_TEXT "01\",\"job_id\":\"" ID_TEXT "02\",\"status\":\"processing\""));
    cr_expect_str_neq(seen.last_ticket, "ticket-1", "the last part carries a fresh ticket");
}

Test(edge_upload, metadata_number_and_digest_travel_in_headers) {
    cr_assert_eq(send_raw("Content-Length: 5\r\nCordon-Metadata: {\"ward\":\"3b\"}\r\nCordon-Mrn: 12-34\r\n"
                          "Content-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\r\n", "hello", 5), 202, "%s", answer.data);
    cr_expect_str_eq(seen.metadata, "{\"ward\":\"3b\"}");
    cr_expect_str_eq(seen.mrn, "12-34");
    cr_expect_eq(seen.digest_len, 32);
    cr_expect_eq(memcmp(seen.digest, seen.uploaded_sha256, 32), 0);
    cr_expect_eq(send_raw("Content-Length: 5\r\nCordon-Metadata: {\"ward\":3}\r\n", "hello", 5), 400);
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: sha-256=:AAAA:\r\n", "hello", 5), 400);
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Disposition: attachment; filename=\"a\r\n", "hello", 5), 400);
}

Test(edge_upload, chunked_bodies_are_counted) {
    uint8_t *bytes = pattern(700000);
    struct buffer body = { 0 };
    for (size_t at = 0, n = 1; at < 700000; at += n, n = n * 3 % 40000 + 1) {
        n = n > 700000 - at ? 700000 - at : n;
        (void)buffer_printf(&body, "%zx\r\n", n);
        (void)buffer_add(&body, bytes + at, n);
        (void)buffer_add_str(&body, "\r\n");
    }
    size_t unfinished = body.len;
    (void)buffer_add_str(&body, "0\r\n\r\n");
    cr_assert_eq(send_raw("Transfer-Encoding: chunked\r\n", body.data, body.len), 202, "%s", answer.data);
    cr_expect(arrived(bytes, 700000));
    cr_expect_eq(seen.announced_bytes, -1);
    int fd = http_connect(&edge);
    const char *head = UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nTransfer-Encoding: chunked\r\n\r\n";
    http_send(fd, head, strlen(head));
    http_send(fd, body.data, unfinished);
    shutdown(fd, SHUT_WR);
    cr_expect_eq(http_receive(fd, &answer), 400);
    cr_expect(strstr(answer.data, "REQ_009"));
    cr_expect_eq(atomic_load(&seen.uploads), 1);
    buffer_clear(&body);
    for (int i = 0; i < 4; i++) {
        (void)buffer_add_str(&body, "aae60\r\n");           /* 700,000 */
        (void)buffer_add(&body, bytes, 700000);
        (void)buffer_add_str(&body, "\r\n");
    }
    (void)buffer_add_str(&body, "aae60\r\n");
    (void)buffer_add(&body, bytes, 700000);
    (void)buffer_add_str(&body, "\r\n0\r\n\r\n");
    cr_expect_eq(send_raw("Transfer-Encoding: chunked\r\n", body.data, body.len), 413);
    cr_expect_eq(atomic_load(&seen.uploads), 1);
    buffer_end(&body);
    free(bytes);
}

Test(edge_upload, a_body_that_stops_early_is_refused_and_cancelled) {
    uint8_t *bytes = pattern(600000);
    static const size_t CUTS[] = { 0, 1, 262144, 300000, 599999 };
    for (unsigned i = 0; i < sizeof CUTS / sizeof *CUTS; i++) {
        int fd = http_connect(&edge);
        const char *head = UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Length: 600000\r\n\r\n";
        http_send(fd, head, strlen(head));
        http_send(fd, bytes, CUTS[i]);
        shutdown(fd, SHUT_WR);
        cr_expect_eq(http_receive(fd, &answer), 400, "%zu", CUTS[i]);
        cr_expect(strstr(answer.data, "REQ_009"), "%zu: %s", CUTS[i], answer.data);
    }
    cr_expect_eq(atomic_load(&seen.uploads), 0);
    free(bytes);
}

Test(edge_upload, refusals_come_before_the_body) {
    cr_expect_eq(send_raw("Content-Length: 3000001\r\n", "", 0), 413);
    cr_expect_eq(send_raw("", "", 0), 411);
    cr_expect_eq(send_raw("Content-Length: 0\r\n", "", 0), 400);
    cr_expect(strstr(answer.data, "DOC_002"));
    cr_expect_eq(send_raw("Content-Length: 1\r\nContent-Type: nonsense\r\n", "x", 1), 415);
    cr_expect_eq(send_raw("Content-Length: 2\r\nContent-Type: application/x-msdownload\r\n", "MZ", 2), 415);
    cr_expect(strstr(answer.data, "DOC_001"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "clinician", UPLOAD "?mrn=1", "", "x"), 400);
    cr_expect_eq(http_ask(&edge, &answer, "auditor", UPLOAD, "", "x"), 403);
    cr_expect_eq(atomic_load(&seen.uploads), 0);
}

Test(edge_upload, a_refusal_half_way_ends_the_reading) {
    uint8_t *bytes = pattern(3000000);
    cr_expect_eq(send_raw("Content-Length: 3000000\r\nContent-Type: application/x-msdownload\r\n", bytes, 3000000), 415);
    cr_expect(strstr(answer.data, "DOC_001"));
    free(bytes);
}

Test(edge_upload, a_waiting_client_is_told_to_go_on_only_once_it_may) {
    char piece[512] = "";
    int fd = http_connect(&edge);
    const char *head = UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    http_send(fd, head, strlen(head));
    cr_assert_gt(recv(fd, piece, sizeof piece - 1, 0), 0);
    cr_expect_str_eq(piece, "HTTP/1.1 100 Continue\r\n\r\n");
    http_send(fd, "hello", 5);
    cr_expect_eq(http_receive(fd, &answer), 202);
    cr_expect_eq(http_ask(&edge, &answer, NULL, UPLOAD, "Content-Length: 5\r\nExpect: 100-continue\r\n", ""), 401);
    cr_expect_null(strstr(answer.data, "100 Continue"));
}

#define HELLO_256 "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"
#define HELLO_512 "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:"
#define OTHER_512 "sha-512=:z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==:"

Test(edge_upload, a_body_must_match_each_of_its_digests) {
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: " HELLO_512 "\r\n", "hello", 5), 202, "%s", answer.data);
    cr_expect_eq(send_raw("Content-Length: 5\r\nRepr-Digest: " HELLO_256 ", " HELLO_512 "\r\n", "hello", 5), 202, "%s", answer.data);
    cr_expect_eq(seen.digest_len, 32, "the worker compares this one too");
    cr_expect_eq(send_raw("Transfer-Encoding: chunked\r\nContent-Digest: " HELLO_512 "\r\n", "5\r\nhello\r\n0\r\n\r\n", 15), 202, "%s", answer.data);
    unsigned before = atomic_load(&seen.uploads);
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: " OTHER_512 "\r\n", "hello", 5), 400);
    cr_expect(strstr(answer.data, "DOC_007"), "%s", answer.data);
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: " HELLO_512 "\r\nRepr-Digest: " OTHER_512 "\r\n", "hello", 5), 400, "they disagree");
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: sha-512=:AAAA:\r\n", "hello", 5), 400);
    cr_expect(strstr(answer.data, "REQ_004"), "%s", answer.data);
    cr_expect_eq(send_raw("Content-Length: 5\r\nContent-Digest: " HELLO_256 "\r\nContent-Digest: " HELLO_256 "\r\n", "hello", 5), 400, "two lines");
    cr_expect_eq(atomic_load(&seen.uploads), before);
}

Test(edge_upload, key_id_and_priority_travel_in_headers) {
    cr_assert_eq(send_raw("Content-Length: 5\r\nIdempotency-Key: \"8e03978e\"\r\nCordon-Document-Id: " ID_TEXT "77\r\nCordon-Priority: bulk\r\n",
                          "hello", 5), 202, "%s", answer.data);
    cr_expect_str_eq(seen.key, "8e03978e");
    cr_expect_str_eq(seen.priority, "bulk");
    cr_expect_eq(seen.chosen_id_len, 16);
    cr_expect_eq(seen.chosen_id[15], 0x77);
    cr_expect_eq(send_raw("Content-Length: 5\r\nIdempotency-Key: a b\r\n", "hello", 5), 400);
    cr_expect(strstr(answer.data, "Idempotency-Key"), "%s", answer.data);
    cr_expect_eq(send_raw("Content-Length: 5\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\n", "hello", 5), 400, "two keys");
    cr_expect_eq(send_raw("Content-Length: 5\r\nCordon-Document-Id: 7\r\n", "hello", 5), 400);
    cr_expect_eq(send_raw("Content-Length: 5\r\nCordon-Priority: urgent\r\n", "hello", 5), 400);
    cr_expect_eq(send_raw("Content-Length: 5\r\nIdempotency-Key: busy\r\n", "hello", 5), 409);
    cr_expect(strstr(answer.data, "IDEM_002") && strstr(answer.data, "Retry-After: 2\r\n"), "%s", answer.data);
}

Test(edge_upload, an_idempotency_key_is_refused_where_it_is_not_honoured) {
    cr_expect_eq(http_ask(&edge, &answer, "clinician", "POST /api/v1/search", "Content-Type: application/json\r\nIdempotency-Key: k\r\n",
                          "{\"question\":\"q\"}"), 400);
    cr_expect(strstr(answer.data, "Idempotency-Key is honoured by uploads only"), "%s", answer.data);
    cr_expect_eq(http_ask(&edge, &answer, "platform", "POST /api/v1/tenants", "Content-Type: application/json\r\nIdempotency-Key: k\r\n",
                          "{\"slug\":\"ab\",\"name\":\"n\"}"), 400);
}

Test(edge_upload, an_upload_has_a_total_time_however_fast_it_is) {
    edge.settings.upload_ms = 1000;
    edge.settings.body_min_rate = 1;
    int fd = http_connect(&edge);
    const char *head = UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Length: 600000\r\n\r\n";
    int64_t began_ms = clock_mono_ms();
    http_send(fd, head, strlen(head));
    http_send(fd, "some", 4);
    cr_expect_eq(http_receive(fd, &answer), 408);
    cr_expect(strstr(answer.data, "REQ_010"), "%s", answer.data);
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
}

/* Takes the eight seconds that 64 KiB may take at the slowest rate. */
Test(edge_upload, a_body_that_trickles_is_cut) {
    int fd = http_connect(&edge);
    const char *head = UPLOAD " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer clinician\r\nContent-Length: 600000\r\n\r\n";
    int64_t began_ms = clock_mono_ms();
    http_send(fd, head, strlen(head));
    for (int i = 0; i < 24; i++) {
        http_send(fd, "x", 1);
        usleep(500000);
    }
    cr_expect_eq(http_receive(fd, &answer), 408);
    cr_expect(strstr(answer.data, "REQ_010"), "%s", answer.data);
    cr_expect_lt(clock_mono_ms() - began_ms, 20000);
    cr_expect_eq(atomic_load(&seen.uploads), 0);
}

static int send_form(const char *extra_headers, const char *parts, size_t parts_len) {
    char headers[512];
    snprintf(headers, sizeof headers, "Content-Type: multipart/form-data; boundary=XX\r\nContent-Length: %zu\r\n%s", parts_len, extra_headers);
    return send_raw(headers, parts, parts_len);
}

#define FILE_PART "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"v\xc3\xa9.md\"\r\nContent-Type: text/markdown\r\n\r\n"
#define MRN_PART "--XX\r\nContent-Disposition: form-data; name=\"mrn\"\r\n\r\n77\r\n"
#define META_PART "--XX\r\nContent-Disposition: form-data; name=\"metadata\"\r\nContent-Type: application/json\r\n\r\n{\"a\":\"b\"}\r\n"
#define SEND(headers, parts) send_form(headers, parts, sizeof parts - 1)

Test(edge_upload, forms_stream_like_raw_bodies) {
    cr_assert_eq(SEND("", META_PART MRN_PART FILE_PART "# Visit\r\n\r\n--XX--\r\n"), 202, "%s", answer.data);
    cr_expect(arrived((const uint8_t *)"# Visit\r\n", 9));
    cr_expect_str_eq(seen.file_name, "v\xc3\xa9.md");
    cr_expect_str_eq(seen.content_type, "text/markdown");
    cr_expect_str_eq(seen.metadata, "{\"a\":\"b\"}");
    cr_expect_str_eq(seen.mrn, "77");
    uint8_t *bytes = pattern(2900000);
    struct buffer form = { 0 };
    (void)buffer_add_str(&form, FILE_PART);
    (void)buffer_add(&form, bytes, 2900000);
    (void)buffer_add_str(&form, "\r\n--XX--\r\n");
    cr_assert_eq(send_form("", form.data, form.len), 202, "%s", answer.data);
    cr_expect(arrived(bytes, 2900000));
    buffer_clear(&form);
    (void)buffer_add_str(&form, FILE_PART);
    (void)buffer_add(&form, bytes, 2900000);
    (void)buffer_add(&form, bytes, 110000);                 /* past the document's limit, within the form's */
    (void)buffer_add_str(&form, "\r\n--XX--\r\n");
    cr_expect_eq(send_form("", form.data, form.len), 413);
    cr_expect_eq(atomic_load(&seen.uploads), 2);
    buffer_end(&form);
    free(bytes);
}

#define FIELD_PART(name, value) "--XX\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

Test(edge_upload, forms_carry_id_and_priority_before_the_file) {
    cr_assert_eq(SEND("Idempotency-Key: k1\r\n", FIELD_PART("document_id", ID_TEXT "78") FIELD_PART("priority", "interactive") FILE_PART "x\r\n--XX--\r\n"),
                 202, "%s", answer.data);
    cr_expect_eq(seen.chosen_id[15], 0x78);
    cr_expect_str_eq(seen.priority, "interactive");
    cr_expect_str_eq(seen.key, "k1");
    cr_expect_eq(SEND("", FIELD_PART("document_id", "x") FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect_eq(SEND("", FIELD_PART("priority", "") FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect_eq(SEND("", FIELD_PART("priority", "bulk") FIELD_PART("priority", "bulk") FILE_PART "x\r\n--XX--\r\n"), 400, "twice");
    cr_expect_eq(SEND("Content-Digest: " OTHER_512 "\r\n", FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect(strstr(answer.data, "DOC_007"));
}

Test(edge_upload, forms_are_strict) {
    cr_expect_eq(SEND("", MRN_PART "--XX--\r\n"), 400);
    cr_expect(strstr(answer.data, "'file' is required"));
    cr_expect_eq(SEND("", FILE_PART "x\r\n" MRN_PART "--XX--\r\n"), 400);
    cr_expect(strstr(answer.data, "'file' must be the last part"));
    cr_expect_eq(SEND("", MRN_PART MRN_PART FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect_eq(SEND("", "--XX\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n" FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect_eq(SEND("", FILE_PART "x\r\n--XX"), 400);
    cr_expect(strstr(answer.data, "REQ_009"), "%s", answer.data);
    cr_expect_eq(SEND("Content-Digest: sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:\r\n", FILE_PART "x\r\n--XX--\r\n"), 400);
    cr_expect(strstr(answer.data, "DOC_007"));
    cr_expect_eq(send_raw("Content-Type: multipart/form-data\r\nContent-Length: 1\r\n", "x", 1), 415);
    cr_expect_eq(atomic_load(&seen.uploads), 0);
}
