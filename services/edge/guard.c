#include "guard.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "core/str.h"

/* Lines that mean two things when they come twice. place: offset into struct framing, or NOWHERE. */
enum { NOWHERE = -1 };
#define PLACE(member) (int)offsetof(struct framing, member)
static const struct { const char *name; int place; } SINGLES[] = {
    { "Host", PLACE(host) },
    { "Content-Length", NOWHERE },
    { "Transfer-Encoding", NOWHERE },
    { "Expect", NOWHERE },
    { "Content-Encoding", NOWHERE },
    { "Authorization", PLACE(authorization) },
    { "Content-Type", PLACE(content_type) },
    { "Content-Digest", PLACE(content_digest) },
    { "Repr-Digest", PLACE(repr_digest) },
    { "Idempotency-Key", PLACE(idempotency_key) },
    { "Content-Disposition", PLACE(content_disposition) },
    { "Origin", PLACE(origin) },
    { "Access-Control-Request-Method", PLACE(request_method) },
    { "Cordon-Metadata", PLACE(metadata) },
    { "Cordon-Mrn", PLACE(mrn) },
    { "Cordon-Document-Id", PLACE(document_id) },
    { "Cordon-Priority", PLACE(priority) },
    { "Cookie", PLACE(cookie) },
    { "X-CSRF-Token", PLACE(csrf_token) },
    { "Range", PLACE(range) },
    { "If-Range", PLACE(if_range) },
    { "If-Match", PLACE(if_match) },
    { "If-None-Match", PLACE(if_none_match) },
};
enum { HOST, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, CONTENT_ENCODING, SINGLE_COUNT = sizeof SINGLES / sizeof *SINGLES };

static enum status malformed(struct why *why, const char *what) {
    return fail_as(why, ERR_REQ_MALFORMED, "guard: %s", what);
}

static bool is_token(const char *text) {
    size_t len = 0;
    for (; text[len]; len++)
        if (!isalnum((unsigned char)text[len]) && !strchr("!#$%&'*+-.^_`|~", text[len]))
            return false;
    return len > 0;
}

static bool is_field_value(const char *text) {
    for (; *text; text++)
        if (((unsigned char)*text < 0x20 && *text != '\t') || *text == 0x7f)
            return false;
    return true;
}

static bool is_host(const char *text) {
    size_t len = strlen(text);
    if (len < 1 || len > 255)
        return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr(".-_:[]", *text))
            return false;
    return true;
}

/* Each '%' begins two hexadecimal digits, and none says NUL. */
static bool is_well_encoded(const char *text) {
    while ((text = strchr(text, '%'))) {
        if (!isxdigit((unsigned char)text[1]) || !isxdigit((unsigned char)text[2]) || (text[1] == '0' && text[2] == '0'))
            return false;
        text += 3;
    }
    return true;
}

/* Visible ASCII from '/' on; what '%' stands for is left for the route to refuse, a fragment never belongs here. */
static bool is_path(const char *text, size_t max_bytes) {
    size_t len = strlen(text);
    if (len < 1 || len > max_bytes || text[0] != '/')
        return false;
    for (; *text; text++)
        if ((unsigned char)*text <= 0x20 || (unsigned char)*text >= 0x7f || strchr("#\\<>\"{}|^`", *text))
            return false;
    return is_well_encoded(text - len);
}

/* Header lines longer than any of ours needs to be. */
static bool is_too_long(const char *name, const char *value) {
    bool is_credential = strcasecmp(name, "Authorization") == 0 || strcasecmp(name, "Cookie") == 0;
    return strlen(name) > GUARD_NAME_MAX_BYTES || strlen(value) > (is_credential ? GUARD_CREDENTIAL_MAX_BYTES : GUARD_VALUE_MAX_BYTES);
}

static enum status check_line(const struct mg_request_info *in, struct why *why) {
    if (!in->http_version || (!str_equal(in->http_version, "1.1") && !str_equal(in->http_version, "1.0")))
        return malformed(why, "version");
    if (!in->request_method || strlen(in->request_method) > 16 || !is_token(in->request_method))
        return malformed(why, "method");
    if (!in->local_uri_raw || !in->request_uri || in->request_uri[0] != '/' || !is_path(in->local_uri_raw, GUARD_URI_MAX_BYTES))
        return malformed(why, "path");
    size_t query_len = in->query_string ? strlen(in->query_string) : 0;
    if (query_len > GUARD_URI_MAX_BYTES || (query_len && (!is_field_value(in->query_string) || !is_well_encoded(in->query_string))))
        return malformed(why, "query");
    return ST_OK;
}

static enum status sort_headers(const struct mg_request_info *in, struct framing *framing, const char *found[], struct why *why) {
    /* Civetweb drops what comes after its last slot without a word. */
    if (in->num_headers >= MG_MAX_HEADERS)
        return fail_as(why, ERR_REQ_HEADERS, "guard: %d headers", in->num_headers);
    for (int i = 0; i < in->num_headers; i++) {
        const char *name = in->http_headers[i].name, *value = in->http_headers[i].value;
        if (!name || !value || !is_token(name) || !is_field_value(value))
            return malformed(why, "a header line");
        if (is_too_long(name, value))
            return fail_as(why, ERR_REQ_HEADERS, "guard: a header of %zu bytes", strlen(value));
        for (int k = 0; k < SINGLE_COUNT; k++) {
            if (strcasecmp(name, SINGLES[k].name) != 0)
                continue;
            if (found[k])
                return fail_as(why, ERR_REQ_MALFORMED, "guard: two lines of %s", SINGLES[k].name);
            found[k] = value;
            if (SINGLES[k].place != NOWHERE)
                *(const char **)((char *)framing + SINGLES[k].place) = value;
        }
    }
    return ST_OK;
}

static bool read_length(const char *text, int64_t *ret_bytes) {
    size_t len = strlen(text);
    return len >= 1 && len <= GUARD_LENGTH_MAX_DIGITS && strspn(text, "0123456789") == len &&
           str_to_i64(text, 0, INT64_MAX, ret_bytes);
}

static enum status check_framing(const struct mg_request_info *in, const char *const found[], struct framing *framing,
                                 struct why *why) {
    bool is_new = str_equal(in->http_version, "1.1");
    if ((is_new && !found[HOST]) || (found[HOST] && !is_host(found[HOST])))
        return malformed(why, "Host");
    if (found[CONTENT_LENGTH] && found[TRANSFER_ENCODING])
        return malformed(why, "a length and chunks");
    if (found[TRANSFER_ENCODING] && (!is_new || strcasecmp(found[TRANSFER_ENCODING], "chunked") != 0))
        return malformed(why, "Transfer-Encoding");
    if (found[CONTENT_LENGTH] && !read_length(found[CONTENT_LENGTH], &framing->length_bytes))
        return malformed(why, "Content-Length");
    if (found[EXPECT] && (!is_new || strcasecmp(found[EXPECT], "100-continue") != 0))
        return malformed(why, "Expect");
    if (found[CONTENT_ENCODING] && strcasecmp(found[CONTENT_ENCODING], "identity") != 0)
        return fail_as(why, ERR_REQ_MEDIA_TYPE, "guard: a Content-Encoding");
    framing->is_chunked = found[TRANSFER_ENCODING] != NULL;
    framing->wants_continue = found[EXPECT] != NULL;
    return ST_OK;
}

enum status guard_check(const struct mg_request_info *in, struct framing *ret_framing, struct why *why) {
    struct framing framing = { .length_bytes = -1 };
    const char *found[SINGLE_COUNT] = { NULL };
    enum status st = check_line(in, why);
    if (st == ST_OK)
        st = sort_headers(in, &framing, found, why);
    if (st == ST_OK)
        st = check_framing(in, found, &framing, why);
    if (st == ST_OK)
        *ret_framing = framing;
    return st;
}

bool guard_is_verbatim(const struct mg_request_info *in) {
    for (int i = 0; i < in->num_headers; i++) {
        const char *value = in->http_headers[i].value, *gap = in->http_headers[i].name + strlen(in->http_headers[i].name) + 1;
        for (; gap < value; gap++)
            if (*gap != ' ' && *gap != '\t')
                return false;
        const char *end = value + strlen(value);            /* was CR; NULs also stand for its LF and for the head's last one */
        if (gap != value || end[1] != '\0')
            return false;
        if (i + 1 < in->num_headers ? in->http_headers[i + 1].name != end + 2 : memcmp(end + 2, "\r\0", 2) != 0)
            return false;
    }
    return true;
}

bool guard_allows_host(const char *allowed_hosts, const char *host) {
    size_t len = host ? strcspn(host, host[0] == '[' ? "]" : ":") : 0;
    len += host && host[0] == '[';
    for (const char *p = allowed_hosts + strspn(allowed_hosts, ", "); *p; p += strspn(p, ", ")) {
        size_t n = strcspn(p, ", ");
        if (host && n == len && strncasecmp(p, host, len) == 0)
            return true;
        p += n;
    }
    return !*(allowed_hosts + strspn(allowed_hosts, ", "));
}

bool guard_has_body(const struct framing *framing) {
    return framing->is_chunked || framing->length_bytes > 0;
}
