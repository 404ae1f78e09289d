#include <criterion/criterion.h>
#include <string.h>

#include "cookies.h"

#define SECRET "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

Test(edge_cookies, one_secret_is_found_among_others) {
    static const struct { const char header[512]; bool is_found; } CASES[] = {
        { COOKIE_SESSION "=" SECRET, true },
        { "a=b; " COOKIE_SESSION "=" SECRET "; c=d", true },
        { "a=b;" COOKIE_SESSION "=" SECRET " ", true },
        { ";;; " COOKIE_SESSION "=" SECRET ";", true },
        { "", false },
        { "a=b", false },
        { COOKIE_SESSION, false },
        { COOKIE_SESSION "=", false },
        { COOKIE_SESSION "=" SECRET "0", false },
        { COOKIE_SESSION "=\"" SECRET "\"", false },
        { COOKIE_SESSION "=0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", false },
        { "x" COOKIE_SESSION "=" SECRET, false },
        { COOKIE_SESSION "2=" SECRET, false },
        { COOKIE_SESSION " =" SECRET, false },
        { "__host-cordon-session=" SECRET, false },
        { COOKIE_SESSION "=" SECRET "; " COOKIE_SESSION "=" SECRET, false },         /* of two nobody knows which was meant */
        { COOKIE_SESSION "=x; " COOKIE_SESSION "=" SECRET, false },
        { "a=" COOKIE_SESSION "=" SECRET, false },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        char secret[COOKIE_SECRET_BYTES + 1] = "";
        cr_expect_eq(cookies_find(CASES[i].header, COOKIE_SESSION, secret), CASES[i].is_found, "%s", CASES[i].header);
        cr_expect_str_eq(secret, CASES[i].is_found ? SECRET : "", "%s", CASES[i].header);
    }
    char secret[COOKIE_SECRET_BYTES + 1];
    cr_expect_not(cookies_find(NULL, COOKIE_SESSION, secret));
}

Test(edge_cookies, a_csrf_token_is_of_its_session) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    const char *lines = cookies_begin_session(mem, SECRET), *at = strstr(lines, COOKIE_CSRF "=");
    cr_assert_not_null(at);
    char *token = arena_strndup(mem, at + sizeof COOKIE_CSRF, COOKIE_SECRET_BYTES);
    cr_expect(cookies_csrf_fits(SECRET, token));
    cr_expect_not(cookies_csrf_fits("another", token));
    cr_expect_not(cookies_csrf_fits(SECRET, NULL));
    cr_expect_not(cookies_csrf_fits(SECRET, ""));
    cr_expect_not(cookies_csrf_fits(SECRET, SECRET));
    cr_expect_not(cookies_csrf_fits(SECRET, arena_printf(mem, "%s0", token)));
}

Test(edge_cookies, each_line_says_where_it_may_go) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    cr_expect_str_eq(cookies_begin_login(mem, SECRET), "Set-Cookie: __Host-cordon-login=" SECRET "; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600\r\n");
    const char *lines = cookies_begin_session(mem, SECRET);
    cr_expect(strstr(lines, "__Host-cordon-session=" SECRET "; Path=/; Secure; HttpOnly; SameSite=Strict\r\n"));
    cr_expect(strstr(lines, "__Host-cordon-login=; Path=/; Secure; HttpOnly; Max-Age=0\r\n"));
    cr_expect(strstr(cookies_end_session(), "__Host-cordon-session=; Path=/; Secure; HttpOnly; Max-Age=0\r\n"));
    cr_expect(strstr(cookies_end_session(), "__Host-cordon-csrf=; Path=/; Secure; HttpOnly; Max-Age=0\r\n"));
}
