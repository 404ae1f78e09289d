#include "citations.h"

#include <string.h>

#include "core/buffer.h"
#include "core/str.h"

enum { NUMBER_DIGITS_MAX = 4 };

/* Length of a citation "[12]" at p, and its number; 0 when there is none. */
static size_t citation_at(const char *p, uint32_t *ret_number) {
    if (*p != '[')
        return 0;
    uint32_t number = 0;
    size_t n = 1;
    while (p[n] >= '0' && p[n] <= '9' && n <= NUMBER_DIGITS_MAX)
        number = number * 10 + (uint32_t)(p[n++] - '0');
    if (n == 1 || p[n] != ']')
        return 0;
    *ret_number = number;
    return n + 1;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t link_at(const char *p) {
    static const char *const STARTS[] = { "http://", "https://", "HTTP://", "HTTPS://", "www.", "ftp://", "javascript:", "data:" };
    for (size_t i = 0; i < sizeof STARTS / sizeof *STARTS; i++) {
        if (!str_starts_with(p, STARTS[i]))
            continue;
        size_t n = strlen(STARTS[i]);
        while (p[n] && !is_space(p[n]) && !strchr("<>\"[]()", p[n]))
            n++;
        return n;
    }
    return 0;
}

/* The statement without links and without white space at its ends. */
static void add_statement(struct buffer *out, const char *text, size_t len) {
    while (len && is_space(*text)) {
        text++;
        len--;
    }
    while (len && is_space(text[len - 1]))
        len--;
    for (size_t i = 0; i < len;) {
        size_t link = link_at(text + i);
        if (link > len - i)
            link = len - i;
        if (link)
            buffer_add_str(out, "(link removed)");
        else
            buffer_add(out, text + i, 1);
        i += link ? link : 1;
    }
}

static bool has_words(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (!is_space(text[i]) && !strchr(".,;:!?", text[i]))
            return true;
    return false;
}

void citations_check(struct arena *mem, const char *text, size_t source_count, struct cited_answer *ret_answer) {
    *ret_answer = (struct cited_answer){ .is_cited = arena_alloc(mem, source_count * sizeof(bool)) };
    CLEANUP(buffer_end) struct buffer out = { 0 };
    const char *statement = text, *p = text;
    while (*p) {
        uint32_t number = 0;
        size_t n = citation_at(p, &number);
        if (!n) {
            p++;
            continue;
        }
        size_t statement_len = (size_t)(p - statement);
        CLEANUP(buffer_end) struct buffer group = { 0 };
        for (; n; n = citation_at(p, &number)) {
            if (number >= 1 && number <= source_count) {
                ret_answer->is_cited[number - 1] = true;
                buffer_printf(&group, "[%u]", number);
            } else {
                ret_answer->dropped_count++;
            }
            p += n;
            const char *next = p + strspn(p, ", ");
            if (citation_at(next, &number))
                p = next;
        }
        bool ends_after = *p && strchr(".!?", *p);
        if (group.len && has_words(statement, statement_len)) {
            if (out.len)
                buffer_add_str(&out, " ");
            add_statement(&out, statement, statement_len);
            buffer_printf(&out, " %s", group.data);
            if (ends_after)
                buffer_add(&out, p, 1);
        } else if (has_words(statement, statement_len)) {
            ret_answer->uncited_count++;
        }
        p += ends_after;
        statement = p;
    }
    ret_answer->uncited_count += has_words(statement, strlen(statement));
    ret_answer->text = arena_strdup(mem, out.data ? out.data : "");
}
