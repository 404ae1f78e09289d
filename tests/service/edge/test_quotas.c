/* What is asked too often, and by whom; the buckets themselves are tests/unit/test_limit_limit.c. */
#include <criterion/criterion.h>
#include <string.h>

#include "edge.h"

TestSuite(edge_quotas, .timeout = 60);

static struct metrics *metrics;
static struct quotas quotas;
static struct why why;

static enum status open_with(const char *user, const char *tenant, int64_t address, int64_t replicas) {
    metrics = metrics_new();
    why = (struct why){ 0 };
    return quotas_open(&quotas, &(struct edge_settings){ .rate_user = user, .rate_tenant = tenant, .rate_address = address, .replicas = replicas,
                                                         .login_failures = 3, .lockout_max_s = 60 }, metrics, &why);
}

static void close_all(void) {
    quotas_close(&quotas);
    metrics_destroy(&metrics);
}

static struct sender sender_of(uint8_t last) {
    return (struct sender){ .address = { { [10] = 0xff, [11] = 0xff, [12] = 198, [13] = 51, [14] = 100, [15] = last } } };
}

Test(edge_quotas, lists_name_known_classes_and_numbers) {
    static const char *const BAD[] = { "read", "read=", "read=-1", "read=x", "reads=5", "none=5", "read=5,,write=5", "read=99999999", "=5" };
    for (unsigned i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        cr_expect_eq(open_with(BAD[i], "", 0, 1), ST_INVALID, "%s", BAD[i]);
        close_all();
    }
    cr_assert_eq(open_with("read=1200,model=7", "", 0, 2), ST_OK);
    cr_expect_eq(quotas.of[QUOTA_USER][RATE_READ].units, 600);
    cr_expect_eq(quotas.of[QUOTA_USER][RATE_MODEL].units, 3);
    cr_expect_eq(quotas.of[QUOTA_USER][RATE_WRITE].units, 0, "what is not named has no limit");
    close_all();
    cr_assert_eq(open_with("model=1", "", 0, 1000), ST_OK);
    cr_expect_eq(quotas.of[QUOTA_USER][RATE_MODEL].units, 1, "a share is never nothing");
    close_all();
}

Test(edge_quotas, headers_are_as_the_draft_has_them) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    struct quota_use use = { 0 };
    struct sender sender = sender_of(1);
    struct uuid ann = { { 1 } }, clinic = { { 2 } };
    cr_assert_eq(open_with("model=60", "", 600, 1), ST_OK);
    quotas_print(&use, &out);
    cr_expect_eq(out.len, 0, "nothing was asked: nothing is said");
    cr_assert_eq(quotas_take_address(&quotas, &sender, &use, &why), ST_OK);
    cr_assert_eq(quotas_take_user(&quotas, RATE_MODEL, &clinic, &ann, &use, &why), ST_OK);
    quotas_print(&use, &out);
    cr_expect_str_eq(out.data, "RateLimit-Policy: \"address\";q=600;w=60, \"user-model\";q=60;w=60\r\n"
                               "RateLimit: \"address\";r=599;t=1, \"user-model\";r=59;t=1\r\n");
    close_all();
}

Test(edge_quotas, guesses_lock_an_address_and_what_was_good_stays_good) {
    uint8_t good[32] = { 1 }, fresh[32] = { 2 }, signed_once[32] = { 3 }, guess[32] = { 4 }, revoked[32] = { 5 };
    struct sender office = sender_of(7), home = sender_of(8);
    const char *whom = "";
    cr_assert_eq(open_with("", "", 0, 1), ST_OK);
    quotas_logged_in(&quotas, good);
    for (uint8_t i = 0; i < 100; i++) {             /* a hundred people's tokens that ran out are no attack */
        signed_once[1] = i;
        cr_assert_eq(quotas_login_failed(&quotas, &office, signed_once, false, &whom), 0);
    }
    cr_expect_eq(quotas_may_log_in(&quotas, &office, fresh, &why), ST_OK);
    for (int i = 0; i < 3; i++)                     /* nor is somebody's script with a key that was revoked */
        cr_assert_eq(quotas_login_failed(&quotas, &office, revoked, true, &whom), 0);
    cr_assert_eq(quotas_login_failed(&quotas, &office, revoked, true, &whom), 1);
    cr_expect_str_eq(whom, "credential");
    cr_expect_eq(quotas_may_log_in(&quotas, &office, fresh, &why), ST_OK);
    for (uint8_t i = 1; i < 4; i++) {
        guess[1] = i;
        cr_assert_eq(quotas_login_failed(&quotas, &office, guess, true, &whom), i == 3);
    }
    cr_expect_str_eq(whom, "address");
    cr_expect_eq(quotas_may_log_in(&quotas, &office, fresh, &why), ST_LIMITED);
    cr_expect_eq(why.code, ERR_LOCKED_OUT);
    cr_expect(why.retry_after_ms > 0 && why.retry_after_ms <= 1000);
    cr_expect_eq(quotas_may_log_in(&quotas, &office, good, &why), ST_OK);
    cr_expect_eq(quotas_may_log_in(&quotas, &home, fresh, &why), ST_OK);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(quotas_login_failed(&quotas, &home, fresh, false, &whom), 0);
    cr_assert_eq(quotas_login_failed(&quotas, &home, fresh, false, &whom), 1);
    cr_expect_str_eq(whom, "credential");
    cr_expect_eq(quotas_may_log_in(&quotas, &home, fresh, &why), ST_LIMITED, "its own bytes, wherever they come from");
    close_all();
}
