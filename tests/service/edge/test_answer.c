#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "answer.h"
#include "auth_cache.h"
#include "core/clock.h"
#include "cors.h"

Test(edge_answer, a_problem_says_code_and_request) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    struct uuid id = uuid_v7();
    char text[UUID_TEXT_BYTES];
    cr_assert(problem_print(ERR_NOT_FOUND, 404, "", &id, &out));
    json_t *problem = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    cr_expect_str_eq(json_string_value(json_object_get(problem, "type")), "urn:cordon:error:RES_001");
    cr_expect_str_eq(json_string_value(json_object_get(problem, "title")), "There is no such resource.");
    cr_expect_eq(json_integer_value(json_object_get(problem, "status")), 404);
    cr_expect_str_eq(json_string_value(json_object_get(problem, "request_id")), uuid_format(&id, text));
    cr_expect_eq(json_object_size(problem), 6);
    json_decref(problem);
}

Test(edge_answer, every_answer_carries_the_security_headers) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    struct uuid id = uuid_v7();
    answer_print_head(&out, &(struct answer_head){ .http_status = 401, .content_type = "a/b", .retry_after_ms = 1500 }, &id, NULL, true);
    static const char *const LINES[] = {
        "HTTP/1.1 401 Unauthorized\r\n", "\r\nX-Request-ID: ", "\r\nConnection: close\r\n", "\r\nContent-Length: 0\r\n",
        "\r\nCache-Control: no-store\r\n", "\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n",
        "\r\nX-Content-Type-Options: nosniff\r\n", "\r\nX-Frame-Options: DENY\r\n", "\r\nReferrer-Policy: no-referrer\r\n",
        "\r\nStrict-Transport-Security: ", "\r\nWWW-Authenticate: Bearer realm=\"cordon\"\r\n", "\r\nRetry-After: 2\r\n", "\r\nVary: Origin\r\n\r\n",
    };
    for (unsigned i = 0; i < sizeof LINES / sizeof *LINES; i++)
        cr_expect(strstr(out.data, LINES[i]), "%s", LINES[i]);
    cr_expect_null(strstr(out.data, "Access-Control"));
}

Test(edge_cors, origins_are_compared_whole) {
    cr_expect(cors_allows("https://a.example, https://b.example", "https://b.example"));
    cr_expect_not(cors_allows("https://a.example", "https://a.example.evil"));
    cr_expect_not(cors_allows("https://a.example", "https://a.exampl"));
    cr_expect_not(cors_allows("", "https://a.example"));
    cr_expect_not(cors_allows("*", "*"));
    cr_expect_not(cors_allows("null", "null"));
    cr_expect_not(cors_allows("https://a.example", NULL));
}

static struct pass a_pass(const char *ticket) {
    return (struct pass){ .ticket = ticket, .scopes = 3, .tenant_id = { { 9 } }, .expires_at_us = clock_unix_us() + 60000000 };
}

Test(edge_auth_cache, a_ticket_is_reused_for_a_second_only) {
    struct auth_cache *cache = auth_cache_new();
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct pass kept = a_pass("ticket-1"), found;
    uint8_t key[32], other[32];
    auth_cache_key("token", key);
    auth_cache_key("Token", other);
    cr_expect_not(auth_cache_find(cache, key, 1000, mem, &found));
    auth_cache_keep(cache, key, 1000, &kept);
    cr_assert(auth_cache_find(cache, key, 1999, mem, &found));
    cr_expect_str_eq(found.ticket, "ticket-1");
    cr_expect_eq(found.scopes, 3);
    cr_expect_not(auth_cache_find(cache, other, 1999, mem, &found));
    cr_expect_not(auth_cache_find(cache, key, 2000, mem, &found));
    auth_cache_destroy(&cache);
    auth_cache_destroy(&cache);
}

Test(edge_auth_cache, a_ticket_about_to_expire_is_not_reused) {
    struct auth_cache *cache = auth_cache_new();
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct pass kept = a_pass("ticket-1"), found;
    uint8_t key[32];
    auth_cache_key("token", key);
    kept.expires_at_us = clock_unix_us() + 1000000;
    auth_cache_keep(cache, key, 1000, &kept);
    cr_expect_not(auth_cache_find(cache, key, 1000, mem, &found));
    auth_cache_destroy(&cache);
}

Test(edge_auth_cache, a_full_bucket_forgets_the_oldest) {
    struct auth_cache *cache = auth_cache_new();
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct pass found;
    uint8_t key[32] = { 7 };
    for (uint8_t i = 0; i < 20; i++) {
        struct pass kept = a_pass("t");
        key[31] = i;
        auth_cache_keep(cache, key, 1000 + i, &kept);
    }
    cr_expect(auth_cache_find(cache, key, 1020, mem, &found));
    key[31] = 0;
    cr_expect_not(auth_cache_find(cache, key, 1020, mem, &found));
    auth_cache_destroy(&cache);
}
