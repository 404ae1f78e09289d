/* Floods of refusals: few of a kind one by one, the others by number. */
#include <criterion/criterion.h>
#include <string.h>

#include "denials.h"

TestSuite(denials, .timeout = 60);

enum { MINUTE_MS = 60000, START = 1000000 };
static const uint8_t ANN_BYTES[] = { 1, 2, 3 }, BOB_BYTES[] = { 4, 5, 6 };
static const ProtobufCBinaryData ANN = { sizeof ANN_BYTES, (uint8_t *)ANN_BYTES }, BOB = { sizeof BOB_BYTES, (uint8_t *)BOB_BYTES };

static unsigned admitted(struct denials *d, const char *ticket, const ProtobufCBinaryData *who, const char *detail, int count, int64_t now_ms) {
    struct call call = { .ticket = ticket };
    unsigned n = 0;
    for (int i = 0; i < count; i++)
        n += denials_admit(d, &call, who, AUDIT_AUTH_DENIED, detail, now_ms);
    return n;
}

Test(denials, few_of_a_kind_go_one_by_one_and_the_others_by_number) {
    struct denials *d = denials_new(10);
    struct denial held;
    cr_expect_eq(admitted(d, "", NULL, "{\"code\":\"AUTH_003\"}", 1000, START), 10);
    cr_expect_eq(admitted(d, "", NULL, "{\"code\":\"AUTH_001\"}", 3, START), 3, "another kind");
    cr_expect_not(denials_take(d, false, START + DENIALS_HOLD_MS - 1, &held));
    cr_assert(denials_take(d, false, START + DENIALS_HOLD_MS, &held));
    cr_expect_str_eq(held.detail, "{\"code\":\"AUTH_003\",\"repeated\":990}");
    cr_expect_str_eq(held.ticket, "");
    denial_end(&held);
    cr_expect_not(denials_take(d, true, START + DENIALS_HOLD_MS, &held));
    cr_expect_eq(admitted(d, "", NULL, "{\"code\":\"AUTH_003\"}", 1000, START + 2 * MINUTE_MS), 10, "a minute later it begins anew");
    denials_destroy(&d);
    denials_destroy(&d);
}

Test(denials, people_are_counted_apart_and_told_of_in_their_tenant) {
    struct denials *d = denials_new(10);
    struct denial held;
    cr_expect_eq(admitted(d, "ticket-1", &ANN, "{}", 11, START), 10);
    cr_expect_eq(admitted(d, "ticket-2", &ANN, "{}", 1, START), 0, "a new ticket is the same person");
    cr_expect_eq(admitted(d, "ticket-3", &BOB, "{}", 10, START), 10);
    cr_assert(denials_take(d, true, START, &held));
    cr_expect_str_eq(held.detail, "{\"repeated\":2}");
    cr_expect_str_eq(held.ticket, "ticket-2", "the newest: it lives longest");
    denial_end(&held);
    denials_destroy(&d);
}

Test(denials, strangers_of_ever_new_kinds_are_bounded_too_and_none_is_forgotten) {
    struct denials *d = denials_new(10);
    struct denial held;
    char detail[64];
    unsigned long long one_by_one = 0, together = 0, events = 0;
    for (int i = 0; i < 20000; i++) {
        snprintf(detail, sizeof detail, "{\"remote_address\":\"192.0.2.%d\"}", i);
        one_by_one += admitted(d, "", NULL, detail, 1, START);
    }
    while (denials_take(d, true, START, &held)) {
        unsigned long long count = 0;
        cr_assert_eq(sscanf(strstr(held.detail, "\"repeated\":"), "\"repeated\":%llu", &count), 1, "%s", held.detail);
        together += count;
        events++;
        denial_end(&held);
    }
    cr_expect_eq(one_by_one, 10 * DENIALS_ALL_KINDS_FACTOR);
    cr_expect_eq(one_by_one + together, 20000);
    cr_expect_leq(events, DENIALS_KINDS + 1);
    cr_expect_eq(admitted(d, "ticket", &ANN, "{}", 10, START), 10, "whom a ticket names is not crowded out");
    denials_destroy(&d);
}

Test(denials, none_are_held_back_when_the_setting_says_so) {
    struct denials *d = denials_new(0);
    cr_expect_eq(admitted(d, "", NULL, "{}", 100000, START), 100000);
    denials_destroy(&d);
}
