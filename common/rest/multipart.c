#include "rest/multipart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/arena.h"
#include "core/str.h"

/* Where in the body the next byte lies. */
enum place {
    AT_START,           /* in the first delimiter, which has no CRLF in front */
    AFTER_DELIMITER,    /* "--" closes the body, CRLF opens a part */
    IN_HEADERS,
    IN_DATA,
    AT_END,             /* after the closing delimiter: one CRLF at most */
};

struct multipart {
    struct multipart_sink sink;
    enum place place;
    char delimiter[4 + HEADER_BOUNDARY_BYTES];      /* CRLF "--" boundary; CR occurs only in front */
    size_t delimiter_len, matched;                  /* how much of it the last bytes are */
    unsigned part_count, tail_len;
    char tail[2];                                   /* the two bytes after a delimiter */
    size_t headers_len;
    char headers[MULTIPART_HEADERS_MAX_BYTES + 1];
};

struct multipart *multipart_new(const char *boundary, const struct multipart_sink *sink) {
    struct multipart *m = xalloc(sizeof *m);
    m->sink = *sink;
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%s", boundary);
    m->matched = 2;                                 /* as if a CRLF stood before the body */
    return m;
}

void multipart_destroy(struct multipart **m_p) {
    if (*m_p)
        explicit_bzero(*m_p, sizeof **m_p);         /* file names may name patients */
    free(*m_p);
    *m_p = NULL;
}

static enum status malformed(struct why *why, const char *what) {
    return fail_as(why, ERR_REQ_MALFORMED, "multipart: %s", what);
}

static enum status read_content_type(const char *value, struct multipart_part *part) {
    struct media_type type;
    if (*part->content_type || !media_type_parse(value, &type))
        return ST_INVALID;
    (void)snprintf(part->content_type, sizeof part->content_type, "%s", type.text);
    return ST_OK;
}

static bool is_identity(const char *encoding) {
    return strcasecmp(encoding, "binary") == 0 || strcasecmp(encoding, "8bit") == 0 || strcasecmp(encoding, "7bit") == 0;
}

static enum status read_header(char *line, struct multipart_part *part) {
    char *value = strchr(line, ':');
    if (!value || value == line || strcspn(line, " \t") < (size_t)(value - line))
        return ST_INVALID;
    *value++ = '\0';
    value += strspn(value, " \t");
    if (strcasecmp(line, "Content-Disposition") == 0)
        return !*part->disposition.kind && disposition_parse(value, &part->disposition) ? ST_OK : ST_INVALID;
    if (strcasecmp(line, "Content-Type") == 0)
        return read_content_type(value, part);
    if (strcasecmp(line, "Content-Transfer-Encoding") == 0)
        return is_identity(value) ? ST_OK : ST_INVALID;
    return ST_OK;
}

static enum status open_part(struct multipart *m, struct why *why) {
    struct multipart_part part = { .content_type = "" };
    if (++m->part_count > MULTIPART_PARTS_MAX)
        return malformed(why, "too many parts");
    if (strlen(m->headers) != m->headers_len)
        return malformed(why, "a NUL in a part's headers");
    for (char *line = m->headers, *end; *line; line = end + 2) {
        end = strstr(line, "\r\n");
        *end = '\0';
        if (strpbrk(line, "\r\n") || read_header(line, &part) != ST_OK)
            return malformed(why, "a part's header");
    }
    if (!str_equal(part.disposition.kind, "form-data") || !*part.disposition.name)
        return malformed(why, "a part without a name");
    m->place = IN_DATA;
    m->matched = 0;
    return m->sink.begin(m->sink.ctx, &part, why);
}

/* Header lines end with an empty one; at least one line is needed, so it cannot come first. */
static enum status take_header(struct multipart *m, char c, struct why *why) {
    if (m->headers_len == MULTIPART_HEADERS_MAX_BYTES)
        return malformed(why, "a part's headers are too long");
    m->headers[m->headers_len++] = c;
    if (m->headers_len < 4 || memcmp(m->headers + m->headers_len - 4, "\r\n\r\n", 4) != 0)
        return ST_OK;
    m->headers_len -= 2;
    m->headers[m->headers_len] = '\0';
    return open_part(m, why);
}

static enum status take_tail(struct multipart *m, char c, struct why *why) {
    m->tail[m->tail_len++] = c;
    if (m->tail_len < 2)
        return ST_OK;
    m->tail_len = 0;
    if (memcmp(m->tail, "--", 2) == 0)
        m->place = AT_END;
    else if (memcmp(m->tail, "\r\n", 2) == 0)
        m->place = IN_HEADERS;
    else
        return malformed(why, "after a delimiter");
    m->headers_len = 0;
    return ST_OK;
}

static enum status take_end(struct multipart *m, char c, struct why *why) {
    if (m->tail_len == 2 || c != "\r\n"[m->tail_len])
        return malformed(why, "bytes after the last part");
    m->tail_len++;
    return ST_OK;
}

static enum status take_start(struct multipart *m, char c, struct why *why) {
    if (c != m->delimiter[m->matched])
        return malformed(why, "it does not begin with its boundary");
    if (++m->matched == m->delimiter_len)
        m->place = AFTER_DELIMITER;
    return ST_OK;
}

static enum status emit(struct multipart *m, const void *data, size_t len, struct why *why) {
    return len ? m->sink.data(m->sink.ctx, data, len, why) : ST_OK;
}

/* Content up to the next delimiter. Because CR occurs only at the delimiter's front, a failed match can be
 * given out whole, and only the byte that broke it can begin another. *ret_used: bytes consumed. */
static enum status take_data(struct multipart *m, const char *data, size_t len, size_t *ret_used, struct why *why) {
    size_t run = 0, i = 0;                          /* data[run, i) is content not yet given out */
    enum status st = ST_OK;
    for (; i < len && st == ST_OK; i++) {
        if (m->matched == 0 && data[i] != '\r') {
            const char *cr = memchr(data + i, '\r', len - i);
            i = cr ? (size_t)(cr - data) : len;
            if (i == len)
                break;
        }
        if (data[i] == m->delimiter[m->matched]) {
            if (m->matched++ == 0)
                st = emit(m, data + run, i - run, why);
            run = i + 1;
            if (m->matched == m->delimiter_len) {
                m->place = AFTER_DELIMITER;
                m->matched = 0;
                *ret_used = i + 1;
                return st == ST_OK ? m->sink.end(m->sink.ctx, why) : st;
            }
            continue;
        }
        if (m->matched) {
            size_t held = m->matched;
            m->matched = 0;
            st = emit(m, m->delimiter, held, why);
            run = i;
            i--;                                    /* look at this byte again, as one that may begin */
        }
    }
    *ret_used = len;
    return st == ST_OK && m->matched == 0 ? emit(m, data + run, len - run, why) : st;
}

enum status multipart_feed(struct multipart *m, const void *data, size_t len, struct why *why) {
    const char *p = data;
    while (len) {
        size_t used = 1;
        enum status st = ST_INTERNAL;
        switch (m->place) {
        case AT_START:
            st = take_start(m, *p, why);
            break;
        case AFTER_DELIMITER:
            st = take_tail(m, *p, why);
            break;
        case IN_HEADERS:
            st = take_header(m, *p, why);
            break;
        case IN_DATA:
            st = take_data(m, p, len, &used, why);
            break;
        case AT_END:
            st = take_end(m, *p, why);
            break;
        }
        if (st != ST_OK)
            return st;
        p += used;
        len -= used;
    }
    return ST_OK;
}

enum status multipart_finish(const struct multipart *m, struct why *why) {
    if (m->place != AT_END)
        return fail_as(why, ERR_REQ_TRUNCATED, "multipart: no closing delimiter");
    return ST_OK;
}
