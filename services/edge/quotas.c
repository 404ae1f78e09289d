#include "quotas.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/str.h"
#include "doors.h"
#include "edge.h"

enum { ENTRIES = 1 << 17, SECOND_US = 1000000, WINDOW_S = 60, FORGET_S = 900, KNOWN_S = 3600 };
/* Kinds of keys, after those of enum quota_of. */
enum { KEY_ADDRESS_FAILED = QUOTA_OF_COUNT, KEY_CREDENTIAL_FAILED, KEY_CREDENTIAL_KNOWN };

const char *quota_name(enum quota_of of) {
    static const char *const NAMES[QUOTA_OF_COUNT] = { "address", "user", "tenant" };
    return NAMES[of];
}

/* A deployment's units a minute as one replica's. */
static struct quota share(int64_t units, int64_t replicas) {
    int64_t part = units / replicas;
    return (struct quota){ units && !part ? 1 : part, (int64_t)WINDOW_S * SECOND_US };
}

/* "read=600,model=60": a class that is not named has no limit. */
static bool read_list(const char *list, int64_t replicas, struct quota quotas[RATE_COUNT]) {
    for (const char *p = list; *p;) {
        char text[40], *equals;
        size_t len = strcspn(p, ",");
        int64_t units;
        enum route_rate rate = RATE_NONE + 1;
        if (len >= sizeof text)
            return false;
        (void)snprintf(text, sizeof text, "%.*s", (int)len, p);
        if (!(equals = strchr(text, '=')))
            return false;
        *equals = '\0';
        while (rate < RATE_COUNT && !str_equal(text, doors_class(rate)))
            rate++;
        if (rate == RATE_COUNT || !str_to_i64(equals + 1, 0, SECOND_US, &units))
            return false;
        quotas[rate] = share(units, replicas);
        p += len + (p[len] == ',');
    }
    return true;
}

enum status quotas_open(struct quotas *quotas, const struct edge_settings *settings, struct metrics *metrics, struct why *why) {
    int64_t replicas = settings->replicas;
    for (int of = 0; of < QUOTA_OF_COUNT; of++) {
        char label[32];
        (void)snprintf(label, sizeof label, "by=\"%s\"", quota_name((enum quota_of)of));
        quotas->refused[of] = metrics_counter(metrics, "cordon_http_limited_total", "Requests answered 429, by whose limit was used up.", label);
    }
    quotas->locked_out = metrics_counter(metrics, "cordon_http_locked_out_total", "Requests answered 429 after failed logins.", "");
    for (int rate = 0; rate < RATE_COUNT; rate++)
        quotas->of[QUOTA_ADDRESS][rate] = share(settings->rate_address, replicas);
    if (!read_list(settings->rate_user, replicas, quotas->of[QUOTA_USER]))
        return fail(why, ST_INVALID, "CORDON_RATE_USER is no list of class=requests a minute");
    if (!read_list(settings->rate_tenant, replicas, quotas->of[QUOTA_TENANT]))
        return fail(why, ST_INVALID, "CORDON_RATE_TENANT is no list of class=requests a minute");
    quotas->lockout = (struct lockout_policy){ .free_count = (unsigned)settings->login_failures, .first_us = SECOND_US,
        .longest_us = settings->lockout_max_s * SECOND_US, .forget_us = (int64_t)FORGET_S * SECOND_US };
    quotas->limits = limits_new(ENTRIES);
    quotas->logins = limits_new(ENTRIES);
    return ST_OK;
}

void quotas_close(struct quotas *quotas) {
    limits_destroy(&quotas->limits);
    limits_destroy(&quotas->logins);
}

static int ms_of(int64_t us) {
    return (int)((us + 999) / 1000);
}

static enum status take(struct quotas *quotas, enum quota_of of, enum route_rate rate, const struct limit_key *key, struct quota_use *use, struct why *why) {
    const struct quota *quota = &quotas->of[of][rate];
    struct allowance left = limit_take(quotas->limits, key, quota, clock_mono_us());
    if (quota->units) {
        use->taken[use->count].of = of;
        use->taken[use->count].rate = rate;
        use->taken[use->count].units = quota->units;
        use->taken[use->count].window_s = quota->window_us / SECOND_US;
        use->taken[use->count++].left = left;
    }
    if (left.is_granted)
        return ST_OK;
    counter_add(quotas->refused[of], 1);
    why->retry_after_ms = ms_of(left.retry_us);
    return fail_as(why, ERR_LIMITED, "limit of the %s%s%s", quota_name(of), rate == RATE_NONE ? "" : " for ", rate == RATE_NONE ? "" : doors_class(rate));
}

enum status quotas_take_address(struct quotas *quotas, const struct sender *sender, struct quota_use *use, struct why *why) {
    uint8_t site[SENDER_SITE_BYTES];
    sender_site(sender, site);
    struct limit_key key = limit_key(QUOTA_ADDRESS, 0, site, sizeof site);
    return take(quotas, QUOTA_ADDRESS, RATE_NONE, &key, use, why);
}

enum status quotas_take_user(struct quotas *quotas, enum route_rate rate, const struct uuid *tenant_id, const struct uuid *user_id,
                             struct quota_use *use, struct why *why) {
    struct limit_key user = limit_key(QUOTA_USER, (uint8_t)rate, user_id->bytes, UUID_BYTES);
    struct limit_key tenant = limit_key(QUOTA_TENANT, (uint8_t)rate, tenant_id->bytes, UUID_BYTES);
    enum status st = take(quotas, QUOTA_USER, rate, &user, use, why);
    return st == ST_OK ? take(quotas, QUOTA_TENANT, rate, &tenant, use, why) : st;
}

static void print_policy_name(const struct quota_use *use, unsigned i, struct buffer *out) {
    bool is_of_class = use->taken[i].rate != RATE_NONE;
    (void)buffer_printf(out, "%s\"%s%s%s\"", i ? ", " : "", quota_name(use->taken[i].of), is_of_class ? "-" : "",
                        is_of_class ? doors_class(use->taken[i].rate) : "");
}

/* draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters. */
void quotas_print(const struct quota_use *use, struct buffer *out) {
    if (!use->count)
        return;
    (void)buffer_add_str(out, "RateLimit-Policy: ");
    for (unsigned i = 0; i < use->count; i++) {
        print_policy_name(use, i, out);
        (void)buffer_printf(out, ";q=%lld;w=%lld", (long long)use->taken[i].units, (long long)use->taken[i].window_s);
    }
    (void)buffer_add_str(out, "\r\nRateLimit: ");
    for (unsigned i = 0; i < use->count; i++) {
        print_policy_name(use, i, out);
        (void)buffer_printf(out, ";r=%lld;t=%lld", (long long)use->taken[i].left.remaining,
                            (long long)(use->taken[i].left.whole_us + SECOND_US - 1) / SECOND_US);
    }
    (void)buffer_add_str(out, "\r\n");
}

/* ---- failed logins ---- */

static struct limit_key site_key(const struct sender *sender) {
    uint8_t site[SENDER_SITE_BYTES];
    sender_site(sender, site);
    return limit_key(KEY_ADDRESS_FAILED, 0, site, sizeof site);
}

enum status quotas_may_log_in(struct quotas *quotas, const struct sender *sender, const uint8_t credential[32], struct why *why) {
    int64_t now_us = clock_mono_us();
    if (!quotas->lockout.free_count)
        return ST_OK;
    struct limit_key site = site_key(sender), failed = limit_key(KEY_CREDENTIAL_FAILED, 0, credential, 32);
    struct limit_key known = limit_key(KEY_CREDENTIAL_KNOWN, 0, credential, 32);
    int64_t left_us = lockout_left_us(quotas->logins, &failed, now_us);
    if (!left_us && !limit_is_marked(quotas->logins, &known, now_us))
        left_us = lockout_left_us(quotas->logins, &site, now_us);
    if (!left_us)
        return ST_OK;
    counter_add(quotas->locked_out, 1);
    why->retry_after_ms = ms_of(left_us);
    return fail_as(why, ERR_LOCKED_OUT, "locked out after failed logins");
}

void quotas_logged_in(struct quotas *quotas, const uint8_t credential[32]) {
    struct limit_key known = limit_key(KEY_CREDENTIAL_KNOWN, 0, credential, 32);
    if (quotas->lockout.free_count)
        limit_mark(quotas->logins, &known, clock_mono_us() + (int64_t)KNOWN_S * SECOND_US);
}

int64_t quotas_login_failed(struct quotas *quotas, const struct sender *sender, const uint8_t credential[32], bool is_guess, const char **ret_whom) {
    int64_t now_us = clock_mono_us();
    if (!quotas->lockout.free_count)
        return 0;
    struct limit_key site = site_key(sender), failed = limit_key(KEY_CREDENTIAL_FAILED, 0, credential, 32);
    bool is_new = !limit_is_marked(quotas->logins, &failed, now_us);        /* a script with a dead key guesses nothing */
    int64_t by_address_us = is_guess && is_new ? lockout_fail(quotas->logins, &site, &quotas->lockout, now_us) : 0;
    int64_t by_credential_us = lockout_fail(quotas->logins, &failed, &quotas->lockout, now_us);
    *ret_whom = by_address_us ? "address" : "credential";
    int64_t longer_us = by_address_us > by_credential_us ? by_address_us : by_credential_us;
    return (longer_us + SECOND_US - 1) / SECOND_US;
}
