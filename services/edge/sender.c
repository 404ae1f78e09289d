#include "sender.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/str.h"

enum { ELEMENTS_MAX_COUNT = 64, MAPPED_BITS = 96, V4_BITS_MIN = 8, V6_BITS_MIN = 16 };

static const uint8_t MAPPED[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const struct address *a) {
    return memcmp(a->bytes, MAPPED, sizeof MAPPED) == 0;
}

static bool parse_address(const char *text, struct address *ret_address) {
    struct address a = { { 0 } };
    memcpy(a.bytes, MAPPED, sizeof MAPPED);
    if (inet_pton(AF_INET, text, a.bytes + sizeof MAPPED) != 1 && inet_pton(AF_INET6, text, a.bytes) != 1)
        return false;
    *ret_address = a;
    return true;
}

static void print_address(const struct address *a, char out[INET6_ADDRSTRLEN]) {
    if (is_v4(a))
        (void)inet_ntop(AF_INET, a->bytes + sizeof MAPPED, out, INET6_ADDRSTRLEN);
    else
        (void)inet_ntop(AF_INET6, a->bytes, out, INET6_ADDRSTRLEN);
}

/* ---- the list of proxies ---- */

static bool parse_net(char *text, struct address *ret_net, unsigned *ret_bits) {
    char *slash = strchr(text, '/');
    int64_t bits = 0;
    if (slash)
        *slash = '\0';
    if (!parse_address(text, ret_net))
        return false;
    bool is_short = is_v4(ret_net) && strchr(text, '.');
    int64_t most = is_short ? 32 : 128;
    if (slash && !str_to_i64(slash + 1, is_short ? V4_BITS_MIN : V6_BITS_MIN, most, &bits))
        return false;
    *ret_bits = (unsigned)((slash ? bits : most) + (is_short ? MAPPED_BITS : 0));
    return true;
}

enum status proxies_read(const char *list, const char *header, struct proxies *ret_proxies, struct why *why) {
    static const char *const HEADERS[] = { "X-Forwarded-For", "X-Real-IP", "Forwarded" };
    struct proxies proxies = { 0 };
    for (unsigned i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++)
        if (strcasecmp(header, HEADERS[i]) == 0)
            proxies.header = HEADERS[i];
    if (!proxies.header)
        return fail(why, ST_INVALID, "CORDON_CLIENT_ADDRESS_HEADER is none of x-forwarded-for, x-real-ip and forwarded");
    for (const char *p = list; *p;) {
        char text[INET6_ADDRSTRLEN + 8];
        p += strspn(p, ", ");
        size_t len = strcspn(p, ", ");
        if (!len)
            break;
        if (len >= sizeof text || proxies.count == PROXIES_MAX_COUNT)
            return fail(why, ST_INVALID, "CORDON_TRUSTED_PROXIES: too long");
        memcpy(text, p, len);
        text[len] = '\0';
        if (!parse_net(text, &proxies.nets[proxies.count].net, &proxies.nets[proxies.count].bits))
            return fail(why, ST_INVALID, "CORDON_TRUSTED_PROXIES: '%s' is no network, or too large a one", text);
        proxies.count++;
        p += len;
    }
    *ret_proxies = proxies;
    return ST_OK;
}

static bool is_within(const struct address *a, const struct address *net, unsigned bits) {
    unsigned whole = bits / 8, rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff00 >> rest);
    return memcmp(a->bytes, net->bytes, whole) == 0 && (!rest || ((a->bytes[whole] ^ net->bytes[whole]) & mask) == 0);
}

static bool is_proxy(const struct proxies *proxies, const struct address *a) {
    for (unsigned i = 0; i < proxies->count; i++)
        if (is_within(a, &proxies->nets[i].net, proxies->nets[i].bits))
            return true;
    return false;
}

/* ---- what a proxy wrote ---- */

/* "a.b.c.d", "x::y", "[x::y]", with a port or without. */
static bool parse_node(const char *text, size_t len, struct address *ret_address) {
    char copy[INET6_ADDRSTRLEN + 8];
    while (len && (*text == ' ' || *text == '\t'))
        text++, len--;
    while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    if (!len || len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    char *colon = strchr(copy, ':'), *end = strchr(copy, ']');
    if (copy[0] == '[') {
        if (!end || (end[1] != '\0' && end[1] != ':'))
            return false;
        *end = '\0';
        return parse_address(copy + 1, ret_address);
    }
    if (colon && strchr(copy, '.') && colon > strchr(copy, '.'))
        *colon = '\0';
    return parse_address(copy, ret_address);
}

/* The value of for= in one element of RFC 7239: a token, or a quoted string without escapes. */
static bool parse_forwarded(const char *text, size_t len, struct address *ret_address) {
    const char *end = text + len;
    for (const char *p = text; p < end;) {
        while (p < end && (*p == ' ' || *p == '\t' || *p == ';'))
            p++;
        size_t pair = 0;
        while (p + pair < end && p[pair] != ';')
            pair++;
        if (pair > 4 && strncasecmp(p, "for=", 4) == 0) {
            bool is_quoted = p[4] == '"' && pair > 6 && p[pair - 1] == '"';
            return parse_node(p + 4 + is_quoted, pair - 4 - 2 * is_quoted, ret_address);
        }
        p += pair;
    }
    return false;
}

/* Cut a list at its commas, those within quotes excepted. More elements than there is room for: 0, nobody can say. */
static unsigned split(const char *value, const char *starts[], size_t lens[]) {
    unsigned count = 0;
    bool is_quoted = false;
    for (const char *p = value, *start = value;; p++) {
        is_quoted ^= *p == '"';
        if (*p && (*p != ',' || is_quoted))
            continue;
        if (count == ELEMENTS_MAX_COUNT)
            return 0;
        starts[count] = start;
        lens[count++] = (size_t)(p - start);
        start = p + 1;
        if (!*p)
            return count;
    }
}

/* From right to left through one line: true when the sender was found, or nobody can tell any more. */
static bool walk(const struct proxies *proxies, const char *value, struct address *address) {
    const char *starts[ELEMENTS_MAX_COUNT];
    size_t lens[ELEMENTS_MAX_COUNT];
    bool is_forwarded = str_equal(proxies->header, "Forwarded");
    unsigned count = split(value, starts, lens);
    if (!count)
        return true;
    while (count--) {
        struct address found;
        if (!(is_forwarded ? parse_forwarded : parse_node)(starts[count], lens[count], &found))
            return true;
        *address = found;
        if (!is_proxy(proxies, address))
            return true;
    }
    return false;
}

void sender_find(const struct proxies *proxies, const struct mg_request_info *in, struct sender *ret_sender) {
    struct sender sender = { 0 };
    (void)parse_address(in->remote_addr, &sender.address);
    bool is_found = !is_proxy(proxies, &sender.address);
    for (int i = in->num_headers; i-- > 0 && !is_found;)
        if (in->http_headers[i].name && in->http_headers[i].value && strcasecmp(in->http_headers[i].name, proxies->header) == 0)
            is_found = walk(proxies, in->http_headers[i].value, &sender.address);
    print_address(&sender.address, sender.text);
    *ret_sender = sender;
}

void sender_site(const struct sender *sender, uint8_t ret_site[SENDER_SITE_BYTES]) {
    memset(ret_site, 0, SENDER_SITE_BYTES);
    memcpy(ret_site, sender->address.bytes, is_v4(&sender->address) ? 16 : 8);
}
