#include "cookies.h"

#include <openssl/crypto.h>
#include <string.h>

#include "core/text_codec.h"
#include "crypto/digest.h"

#define GONE "=; Path=/; Secure; HttpOnly; Max-Age=0\r\n"

/* One pair "name=value" between semicolons; spaces around it do not count. */
static bool take_pair(const char *pair, size_t len, const char *name, const char **ret_value, size_t *ret_len) {
    size_t name_len = strlen(name);
    for (; len && (*pair == ' ' || *pair == '\t'); pair++)
        len--;
    while (len && (pair[len - 1] == ' ' || pair[len - 1] == '\t'))
        len--;
    if (len <= name_len || memcmp(pair, name, name_len) != 0 || pair[name_len] != '=')
        return false;
    *ret_value = pair + name_len + 1;
    *ret_len = len - name_len - 1;
    return true;
}

bool cookies_find(const char *header, const char *name, char ret_secret[COOKIE_SECRET_BYTES + 1]) {
    const char *found = NULL;
    for (const char *p = header ? header : ""; *p;) {
        size_t len = strcspn(p, ";"), value_len = 0;
        const char *value = NULL;
        if (take_pair(p, len, name, &value, &value_len)) {
            if (found || value_len != COOKIE_SECRET_BYTES || strspn(value, "0123456789abcdef") < COOKIE_SECRET_BYTES)
                return false;
            found = value;
        }
        p += len + (p[len] == ';');
    }
    if (!found)
        return false;
    memcpy(ret_secret, found, COOKIE_SECRET_BYTES);
    ret_secret[COOKIE_SECRET_BYTES] = '\0';
    return true;
}

static const char *csrf_of(const char *session, char out[SHA256_HEX_BYTES]) {
    static const char PURPOSE[] = "cordon csrf v1";
    uint8_t mac[SHA256_BYTES];
    hmac_sha256(session, strlen(session), PURPOSE, sizeof PURPOSE - 1, mac);
    return hex_encode(mac, sizeof mac, out);
}

bool cookies_csrf_fits(const char *session, const char *token) {
    char expected[SHA256_HEX_BYTES];
    (void)csrf_of(session, expected);
    return token && strlen(token) == SHA256_HEX_BYTES - 1 && CRYPTO_memcmp(token, expected, SHA256_HEX_BYTES - 1) == 0;
}

const char *cookies_begin_login(struct arena *mem, const char *secret) {
    return arena_printf(mem, "Set-Cookie: " COOKIE_LOGIN "=%s; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=%d\r\n", secret, COOKIE_LOGIN_MAX_AGE_S);
}

const char *cookies_end_login(void) {
    return "Set-Cookie: " COOKIE_LOGIN GONE;
}

const char *cookies_begin_session(struct arena *mem, const char *session) {
    char csrf[SHA256_HEX_BYTES];
    return arena_printf(mem, "Set-Cookie: " COOKIE_SESSION "=%s; Path=/; Secure; HttpOnly; SameSite=Strict\r\n"
                             "Set-Cookie: " COOKIE_CSRF "=%s; Path=/; Secure; SameSite=Strict\r\n%s", session, csrf_of(session, csrf), cookies_end_login());
}

const char *cookies_end_session(void) {
    return "Set-Cookie: " COOKIE_SESSION GONE "Set-Cookie: " COOKIE_CSRF GONE;
}
