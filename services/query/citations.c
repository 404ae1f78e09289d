#include "citations.h"

#include <string.h>
#include <strings.h>

enum { NUMBER_DIGITS_MAX = 4 };

/* Is it a citation "[12]" at p? How long it is and its number; length 0: no. Undecided where p ends before that is known. */
struct citation { bool is_undecided; size_t len; uint32_t number; };

static struct citation citation_at(const char *p) {
    struct citation c = { 0 };
    size_t n = 1;
    if (*p != '[')
        return c;
    while (p[n] >= '0' && p[n] <= '9' && n <= NUMBER_DIGITS_MAX)
        c.number = c.number * 10 + (uint32_t)(p[n++] - '0');
    c.is_undecided = p[n] == '\0';
    c.len = n > 1 && p[n] == ']' ? n + 1 : 0;
    return c;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* What a scheme may be called in a link (RFC 3986, 3.1), and "://"; its length, 0: none. */
static size_t scheme_at(const char *p, const char *end) {
    size_t n = 0;
    while (p + n < end && (is_letter(p[n]) || (n > 0 && ((p[n] >= '0' && p[n] <= '9') || strchr("+.-", p[n])))))
        n++;
    return n > 0 && end - (p + n) >= 3 && memcmp(p + n, "://", 3) == 0 ? n + 3 : 0;
}

static size_t link_at(const char *p, const char *end) {
    static const char *const STARTS[] = { "www.", "javascript:", "data:", "mailto:" };
    size_t n = scheme_at(p, end);
    for (size_t i = 0; n == 0 && i < sizeof STARTS / sizeof *STARTS; i++)
        if ((size_t)(end - p) >= strlen(STARTS[i]) && strncasecmp(p, STARTS[i], strlen(STARTS[i])) == 0)
            n = strlen(STARTS[i]);
    size_t start = n;
    while (n > 0 && p + n < end && !is_space(p[n]) && !strchr("<>\"[]()", p[n]))
        n++;
    return n > start ? n : 0;       /* "data: sodium 140" is none */
}

/* The statement without links and without white space at its ends. A link begins a word. */
static void add_statement(struct buffer *out, const char *text, size_t len) {
    const char *end = text + len;
    while (text < end && is_space(*text))
        text++;
    while (text < end && is_space(end[-1]))
        end--;
    for (bool is_within_word = false; text < end;) {
        size_t link = is_within_word ? 0 : link_at(text, end);
        is_within_word = is_letter(*text);
        if (link)
            buffer_add_str(out, "(link removed)");
        else
            buffer_add(out, text, 1);
        text += link ? link : 1;
    }
}

static bool has_words(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!is_space(text[i]) && !strchr(".,;:!?", text[i]))
            return true;
    return false;
}

void citations_end(struct citations *c) {
    buffer_end(&c->text);
    buffer_end(&c->pending);
}

/* A group of citations, "[1], [2][3]", and the mark behind it. */
struct group { const char *end; bool is_undecided; struct buffer kept; uint32_t dropped_count; };

static void group_end(struct group *g) {
    buffer_end(&g->kept);
}

static void read_group(const struct citations *c, const char *p, struct citation at, struct group *g) {
    while (at.len) {
        if (at.number >= 1 && at.number <= c->source_count)
            buffer_printf(&g->kept, "[%u]", at.number);
        else
            g->dropped_count++;
        p += at.len;
        const char *next = p + strspn(p, ", ");
        at = citation_at(next);
        g->is_undecided = *next == '\0' || at.is_undecided;
        if (at.len)
            p = next;
    }
    g->end = p;
}

static void note_cited(struct citations *c, const char *group) {
    for (; *group; group += citation_at(group).len)
        c->is_cited[citation_at(group).number - 1] = true;
}

static void drop(struct buffer *b, size_t len) {
    b->len -= len;
    memmove(b->data, b->data + len, b->len + 1);
}

/* The statement before at, its group and the mark behind that go over into the text, or away. */
static enum status keep_statement(struct citations *c, const char *at, struct group *g, struct why *why) {
    const char *statement = c->pending.data;
    size_t len = (size_t)(at - statement), from = c->text.len;
    bool has_mark = *g->end && strchr(".!?", *g->end), is_said = has_words(statement, len);
    c->dropped_count += g->dropped_count;
    if (g->kept.len && is_said) {
        note_cited(c, g->kept.data);
        if (c->text.len)
            buffer_add_str(&c->text, " ");
        add_statement(&c->text, statement, len);
        buffer_printf(&c->text, " %s%.*s", g->kept.data, has_mark, g->end);
    } else {
        c->uncited_count += is_said;
    }
    drop(&c->pending, (size_t)(g->end - statement) + has_mark);
    c->looked_at = 0;
    bool is_kept = c->text.len > from;
    return is_kept && c->on_statement ? c->on_statement(c->ctx, c->text.data + from, c->text.len - from, why) : ST_OK;
}

static enum status look(struct citations *c, bool is_end, struct why *why) {
    while (c->looked_at < c->pending.len) {
        const char *p = c->pending.data + c->looked_at;
        struct citation at = citation_at(p);
        if (at.is_undecided && !is_end)
            return ST_OK;
        if (!at.len) {
            c->looked_at++;
            continue;
        }
        CLEANUP(group_end) struct group g = { 0 };
        read_group(c, p, at, &g);
        if (g.is_undecided && !is_end)
            return ST_OK;
        enum status st = keep_statement(c, p, &g, why);
        if (st != ST_OK)
            return st;
    }
    return ST_OK;
}

enum status citations_feed(struct citations *c, const char *text, size_t len, struct why *why) {
    for (const char *end = text + len; text < end;) {
        size_t n = strnlen(text, (size_t)(end - text));
        buffer_add(&c->pending, text, n);
        text += n + 1;
    }
    return look(c, false, why);
}

enum status citations_finish(struct citations *c, struct why *why) {
    enum status st = look(c, true, why);
    c->uncited_count += c->pending.len && has_words(c->pending.data, c->pending.len);
    buffer_clear(&c->pending);
    c->looked_at = 0;
    return st;
}

char *citations_strip(struct arena *mem, const char *text) {
    char *out = arena_alloc(mem, strlen(text) + 1), *p = out;
    while (*text) {
        struct citation at = citation_at(text);
        if (at.len && p > out && p[-1] == ' ')
            p--;
        if (!at.len)
            *p++ = *text;
        text += at.len ? at.len : 1;
    }
    *p = '\0';
    return out;
}
