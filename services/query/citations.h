/* citations — what a model wrote, reduced to what its sources carry, while it writes. A model's text is untrusted: it may
 * cite what it was not given, claim without citing, or repeat a link that a hostile document planted. A statement is what
 * stands before a group of citations; it is kept back until its group is here, and nothing of it is shown if no given
 * source carries it (ADR 0022). Whole answers, streamed ones and stored ones go the same way. In place, one thread. */
#ifndef CORDON_QUERY_CITATIONS_H
#define CORDON_QUERY_CITATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/buffer.h"
#include "core/status.h"

/* Gets each statement with its citations as it is kept, and a space before it unless it is the first; len bytes, NUL behind
 * them. What it returns unless ST_OK ends feeding. */
typedef enum status (*citations_fn)(void *ctx, const char *text, size_t len, struct why *why);

struct citations {
    size_t source_count;
    bool *is_cited;                 /* [source_count], the caller's, false at first: is source i + 1 cited in text? */
    citations_fn on_statement;      /* NULL: nobody waits */
    void *ctx;
    struct buffer text;             /* all that was kept: statements that each end in citations "[n]" */
    uint32_t dropped_count;         /* citations of sources that were not given */
    uint32_t uncited_count;         /* statements dropped because no given source carries them */
    struct buffer pending;          /* what came behind the last group */
    size_t looked_at;               /* so much of pending holds no group */
};

/* Initialise with the first four members, and end with citations_end, whatever happens. */
void citations_end(struct citations *c);
/* Take the next len bytes of the model's text (UTF-8, cut anywhere). Dropped are citations unless 1 <= n <= source_count,
 * statements that keep none, links, and NULs. */
enum status citations_feed(struct citations *c, const char *text, size_t len, struct why *why) MUST_USE;
/* The model has ended: what is undecided is decided. */
enum status citations_finish(struct citations *c, struct why *why) MUST_USE;

/* A text without its citations, in mem: what they number is not there where it goes. */
char *citations_strip(struct arena *mem, const char *text);

#endif
