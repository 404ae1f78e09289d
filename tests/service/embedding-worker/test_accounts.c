/* Whom a call is for, what it may cost, and how that is shown. */
#include <criterion/criterion.h>
#include <string.h>

#include "accounts.h"
#include "core/arena.h"
#include "core/buffer.h"
#include "core/text_codec.h"

static struct metrics *metrics;
static struct accounts *accounts;
static struct arena *mem;

static const char ONE[] = "01890a5d-ac96-774b-bcce-b302099a8057", TWO[] = "01890a5d-ac96-774b-bcce-b302099a8058";
static const int64_t NOON_US = INT64_C(1772280000) * 1000000;      /* 28 February 2026, 12:00 UTC */

static void set_up(void) {
    metrics = metrics_new();
    mem = arena_new(0);
}

static void tear_down(void) {
    accounts_destroy(&accounts);
    metrics_destroy(&metrics);
    arena_destroy(&mem);
}

TestSuite(accounts, .init = set_up, .fini = tear_down);

static enum status open_accounts(const char *exceptions, int64_t day, int64_t month) {
    struct why why = { 0 };
    return accounts_new(&(struct accounts_options){ .prices = { 20000, 3000000, 15000000 }, .day_budget = day, .month_budget = month,
                        .exceptions = exceptions, .series_count = 1, .metrics = metrics }, &accounts, &why);
}

static struct uuid id(const char *text) {
    struct uuid uuid;
    cr_assert(uuid_parse(text, strlen(text), &uuid));
    return uuid;
}

static const char *ticket(const char *claims) {
    char *hex = arena_alloc(mem, 2 * strlen(claims) + 1);
    (void)hex_encode((const uint8_t *)claims, strlen(claims), hex);
    return arena_printf(mem, "1.7.%s.00ff", hex);
}

Test(accounts, a_ticket_says_whom_a_call_is_for) {
    struct uuid one = id(ONE), payer = accounts_payer(ticket(arena_printf(mem, "{\"kind\":\"user\",\"tenant_id\":\"%s\"}", ONE)));
    cr_expect(uuid_equal(&payer, &one));
}

Test(accounts, what_is_no_ticket_is_for_nobody) {
    const char *const BAD[] = { "", "1", "1.7", "1.7.", "1.7.zz.00", "1.7..00", "1.7.7b7d.00", "....", "1.7.7b.00", ticket("{}"), ticket("[]"),
                                ticket("{\"tenant_id\":7}"), ticket("{\"tenant_id\":\"x\"}"), ticket("{\"tenant_id\":null}"), ticket("") };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct uuid payer = accounts_payer(BAD[i]);
        cr_expect(uuid_is_nil(&payer), "%s", BAD[i]);
    }
}

Test(accounts, a_tenant_over_its_day_is_told_when_the_next_begins) {
    struct uuid one = id(ONE), two = id(TWO);
    struct why why = { 0 };
    cr_assert_eq(open_accounts("", 1000, 0), ST_OK);
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_OK);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 0, 333, 0 }, NOON_US);           /* 999 */
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_OK, "not yet");
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 50, 0, 0 }, NOON_US);            /* 1 more */
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_LIMITED);
    cr_expect_eq(why.code, ERR_MODEL_BUDGET);
    cr_expect_eq(why.retry_after_ms, 12 * 3600 * 1000, "midnight: %d", why.retry_after_ms);
    cr_expect_eq(accounts_admit(accounts, &two, NOON_US, &why), ST_OK, "others have theirs");
    cr_expect_eq(accounts_admit(accounts, &one, NOON_US + INT64_C(12) * 3600 * 1000000, &why), ST_OK, "a new day");
}

Test(accounts, a_tenant_over_its_month_waits_for_the_next_one) {
    struct uuid one = id(ONE);
    struct why why = { 0 };
    cr_assert_eq(open_accounts("", 0, 5000), ST_OK);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 0, 0, 400 }, NOON_US);           /* 6000 */
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_LIMITED);
    cr_expect_eq(why.retry_after_ms, 12 * 3600 * 1000, "the 28th is February's last");
    int64_t march_us = NOON_US + INT64_C(24) * 3600 * 1000000;
    cr_assert_eq(accounts_admit(accounts, &one, march_us, &why), ST_OK);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 0, 0, 400 }, march_us);
    cr_assert_eq(accounts_admit(accounts, &one, march_us, &why), ST_LIMITED);
    cr_expect_gt(why.retry_after_ms, 24 * 3600 * 1000, "capped at what fits: %d", why.retry_after_ms);
}

/* An answer may say 2^32 - 1 for each of its texts. */
Test(accounts, counts_that_no_model_can_mean_use_a_budget_up) {
    const uint64_t most = UINT64_C(64) * UINT32_MAX;
    struct uuid one = id(ONE);
    struct why why = { 0 };
    cr_assert_eq(open_accounts("", 1000, 0), ST_OK);
    for (int i = 0; i < 5; i++) {
        accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ most, most, most }, NOON_US);
        cr_expect_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_LIMITED, "after %d", i + 1);
    }
}

/* A replica, or this process before its restart, has spent 900 of 1000. */
Test(accounts, what_others_and_earlier_ones_spent_counts) {
    struct uuid one = id(ONE), two = id(TWO);
    struct account_cost taken[4];
    struct why why = { 0 };
    cr_assert_eq(open_accounts(arena_printf(mem, "%s=1/0/0", TWO), 1000, 0), ST_OK);
    accounts_await(accounts);
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_UNAVAILABLE, "nobody knows what is left of its budget");
    cr_expect_eq(why.code, ERR_MODEL_UNAVAILABLE);
    cr_expect_gt(why.retry_after_ms, 0);
    cr_expect_eq(accounts_admit(accounts, &two, NOON_US, &why), ST_OK, "who has no limit waits for nobody");
    accounts_learn(accounts, &one, (const int64_t[]){ INT64_C(900) * 1000000, INT64_C(900) * 1000000 }, NOON_US);
    accounts_know(accounts);
    cr_assert_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_OK);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 0, 34, 0 }, NOON_US);            /* 102 */
    cr_expect_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_LIMITED);
    cr_assert_eq(accounts_take(accounts, taken, 4), 1);
    cr_expect(uuid_equal(&taken[0].tenant, &one) && taken[0].cost == INT64_C(102) * 1000000, "%lld", (long long)taken[0].cost);
    cr_expect_eq(accounts_take(accounts, taken + 1, 3), 0, "once");
}

Test(accounts, exceptions_have_their_own_weight_and_budgets) {
    struct uuid one = id(ONE), two = id(TWO);
    struct why why = { 0 };
    cr_assert_eq(open_accounts(arena_printf(mem, "%s=4/0/0,%s=2", ONE, TWO), 1000, 0), ST_OK);
    cr_expect_float_eq(accounts_weight(accounts, &one), 4, 1e-9);
    cr_expect_float_eq(accounts_weight(accounts, &two), 2, 1e-9);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 0, 9999, 0 }, NOON_US);
    accounts_charge(accounts, &two, (uint64_t[USE_COUNT]){ 0, 9999, 0 }, NOON_US);
    cr_expect_eq(accounts_admit(accounts, &one, NOON_US, &why), ST_OK, "without limit");
    cr_expect_eq(accounts_admit(accounts, &two, NOON_US, &why), ST_LIMITED, "everybody's");
}

Test(accounts, exceptions_that_cannot_be_read_are_refused) {
    const char *const BAD[] = { "x", "x=1", arena_printf(mem, "%s", ONE), arena_printf(mem, "%s=0", ONE), arena_printf(mem, "%s=1/5", ONE),
                                arena_printf(mem, "%s=1/5/", ONE), arena_printf(mem, "%s=1/-5/0", ONE), arena_printf(mem, "%s=1001", ONE) };
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        cr_expect_eq(open_accounts(BAD[i], 0, 0), ST_INVALID, "%s", BAD[i]);
}

Test(accounts, metrics_name_so_many_tenants_and_count_the_others_together) {
    struct uuid one = id(ONE), two = id(TWO), three = { .bytes = { 3 } };
    CLEANUP(buffer_end) struct buffer text = { 0 };
    cr_assert_eq(open_accounts("", 0, 0), ST_OK);
    accounts_charge(accounts, &one, (uint64_t[USE_COUNT]){ 7, 1000000, 0 }, NOON_US);
    accounts_charge(accounts, &two, (uint64_t[USE_COUNT]){ 2, 0, 0 }, NOON_US);
    accounts_charge(accounts, &three, (uint64_t[USE_COUNT]){ 3, 0, 0 }, NOON_US);
    metrics_print(metrics, &text);
    cr_expect_not_null(strstr(text.data, arena_printf(mem, "cordon_model_tenant_tokens_total{tenant=\"%s\",model=\"embed\",direction=\"input\"} 7", ONE)), "%s", text.data);
    cr_expect_not_null(strstr(text.data, "cordon_model_tenant_tokens_total{tenant=\"other\",model=\"embed\",direction=\"input\"} 5"), "%s", text.data);
    cr_expect_not_null(strstr(text.data, arena_printf(mem, "cordon_model_tenant_cost_total{tenant=\"%s\"} 3.", ONE)), "%s", text.data);
    cr_expect_null(strstr(text.data, TWO));
}
