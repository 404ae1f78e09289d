/* Whose request it is: who is believed, and how far. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "sender.h"

TestSuite(edge_sender, .timeout = 60);

static const char PROXIES[] = "10.0.0.0/8, 192.0.2.1,2001:db8:aa::/48";

/* Up to two lines of the header. */
struct sender_case { char header[20], peer[40], first[120], second[120], want[48]; };

static void find(const struct sender_case *c, struct sender *sender) {
    struct proxies proxies;
    struct why why = { 0 };
    struct mg_request_info in = { .num_headers = 0 };
    cr_assert_eq(proxies_read(PROXIES, c->header, &proxies, &why), ST_OK, "%s", why.text);
    snprintf(in.remote_addr, sizeof in.remote_addr, "%s", c->peer);
    for (int i = 0; i < 2; i++) {
        const char *value = i ? c->second : c->first;
        if (*value)
            in.http_headers[in.num_headers++] = (struct mg_header){ c->header, value };
    }
    sender_find(&proxies, &in, sender);
}

ParameterizedTestParameters(edge_sender, the_right_most_stranger_is_the_client) {
    static struct sender_case cases[] = {
        { "x-forwarded-for", "203.0.113.9", "198.51.100.1", "", "203.0.113.9" },                        /* nobody's proxy */
        { "x-forwarded-for", "10.1.2.3", "", "", "10.1.2.3" },
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1", "", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "6.6.6.6, 198.51.100.1", "", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "6.6.6.6, 198.51.100.1, 192.0.2.1", "", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "6.6.6.6", "198.51.100.1", "198.51.100.1" },                   /* two lines are one list */
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1", "192.0.2.1", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1:4711", "", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "[2001:db8::1]:4711", "", "2001:db8::1" },
        { "x-forwarded-for", "10.1.2.3", "2001:DB8::1", "", "2001:db8::1" },
        { "x-forwarded-for", "10.1.2.3", "2001:db8::1, 2001:db8:aa:1::7", "", "2001:db8::1" },
        { "x-forwarded-for", "10.1.2.3", "::ffff:198.51.100.1", "", "198.51.100.1" },
        { "x-forwarded-for", "10.1.2.3", "::ffff:10.0.0.9", "", "10.0.0.9" },                           /* all proxies: the first of them */
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1, unknown", "", "10.1.2.3" },
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1, 192.0.2.1, _hidden", "", "10.1.2.3" },
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1, junk, 192.0.2.1", "", "192.0.2.1" },
        { "x-forwarded-for", "10.1.2.3", "198.51.100.1,", "", "10.1.2.3" },
        { "x-forwarded-for", "10.1.2.3", "[2001:db8::1", "", "10.1.2.3" },
        { "x-forwarded-for", "10.1.2.3", "0x7f.1", "", "10.1.2.3" },
        { "x-real-ip", "192.0.2.1", "198.51.100.1", "", "198.51.100.1" },
        { "forwarded", "10.1.2.3", "for=198.51.100.1", "", "198.51.100.1" },
        { "forwarded", "10.1.2.3", "for=6.6.6.6, proto=https;FOR=\"[2001:db8::1]:47\";by=10.0.0.1", "", "2001:db8::1" },
        { "forwarded", "10.1.2.3", "for=198.51.100.1;host=\"a,b\"", "", "198.51.100.1" },
        { "forwarded", "10.1.2.3", "for=198.51.100.1, for=10.9.9.9", "", "198.51.100.1" },
        { "forwarded", "10.1.2.3", "for=198.51.100.1, host=a", "", "10.1.2.3" },
        { "forwarded", "10.1.2.3", "for=\"198.51.100.1", "", "10.1.2.3" },
        { "forwarded", "10.1.2.3", "for=unknown", "", "10.1.2.3" },
    };
    return cr_make_param_array(struct sender_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct sender_case *c, edge_sender, the_right_most_stranger_is_the_client) {
    struct sender sender;
    find(c, &sender);
    cr_expect_str_eq(sender.text, c->want, "%s from %s: %s | %s: %s", c->header, c->peer, c->first, c->second, sender.text);
}

Test(edge_sender, a_list_longer_than_anybody_s_is_not_believed) {
    struct sender_case c = { "x-forwarded-for", "10.1.2.3", "", "", "" };
    struct proxies proxies;
    struct why why = { 0 };
    struct sender sender;
    char value[2048] = "198.51.100.1";
    for (int i = 0; i < 64; i++)
        strcat(value, ",192.0.2.1");
    struct mg_request_info in = { .num_headers = 1, .http_headers = { { c.header, value } } };
    cr_assert_eq(proxies_read(PROXIES, c.header, &proxies, &why), ST_OK);
    snprintf(in.remote_addr, sizeof in.remote_addr, "10.1.2.3");
    sender_find(&proxies, &in, &sender);
    cr_expect_str_eq(sender.text, "10.1.2.3");
}

Test(edge_sender, an_ipv6_site_is_one_sender) {
    struct sender_case a = { "x-forwarded-for", "10.1.2.3", "2001:db8:1:2::1", "", "" }, b = a, c = a, d = a;
    struct sender found;
    uint8_t site[4][SENDER_SITE_BYTES];
    strcpy(b.first, "2001:db8:1:2:ffff::9");
    strcpy(c.first, "2001:db8:1:3::1");
    strcpy(d.first, "198.51.100.2");
    struct sender_case *all[] = { &a, &b, &c, &d };
    for (int i = 0; i < 4; i++) {
        find(all[i], &found);
        sender_site(&found, site[i]);
    }
    cr_expect_arr_eq(site[0], site[1], SENDER_SITE_BYTES);
    cr_expect_arr_neq(site[0], site[2], SENDER_SITE_BYTES);
    strcpy(d.first, "198.51.100.3");
    find(&d, &found);
    sender_site(&found, site[2]);
    cr_expect_arr_neq(site[2], site[3], SENDER_SITE_BYTES, "an IPv4 address is one sender");
}

Test(edge_sender, lists_of_proxies_that_say_too_much_or_nothing_are_refused) {
    static const char *const BAD[] = { "0.0.0.0/0", "10.0.0.0/7", "::/0", "2000::/3", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "proxy.internal", "10.0.0.1/8/8", "10.0.0.0/-1" };
    static const char *const GOOD[] = { "", " ", "10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1", "10.0.0.0/8,", "fd00::/16, 127.0.0.1/32" };
    struct proxies proxies;
    for (unsigned i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct why why = { 0 };
        cr_expect_eq(proxies_read(BAD[i], "x-forwarded-for", &proxies, &why), ST_INVALID, "%s", BAD[i]);
    }
    for (unsigned i = 0; i < sizeof GOOD / sizeof *GOOD; i++) {
        struct why why = { 0 };
        cr_expect_eq(proxies_read(GOOD[i], "Forwarded", &proxies, &why), ST_OK, "%s", GOOD[i]);
    }
    struct why why = { 0 };
    cr_expect_eq(proxies_read("", "x-client-ip", &proxies, &why), ST_INVALID);
}
