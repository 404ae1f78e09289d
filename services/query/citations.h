/* citations — what a model wrote, reduced to what its sources carry. A model's text is untrusted: it may
 * cite what it was not given, claim without citing, or repeat a link that a hostile document planted. */
#ifndef CORDON_QUERY_CITATIONS_H
#define CORDON_QUERY_CITATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"

struct cited_answer {
    const char *text;           /* statements that each end in citations; "" when none is left */
    bool *is_cited;             /* [source_count]: is source i + 1 cited in text? */
    uint32_t dropped_count;     /* citations of sources that were not given */
    uint32_t uncited_count;     /* statements dropped because no given source carries them */
};

/* Keep of text (UTF-8) the statements that end in at least one citation "[n]" of a given source,
 * 1 <= n <= source_count; drop other citations, statements without any, and links. A statement is what
 * stands between two groups of citations. Everything in the result lives in mem. */
void citations_check(struct arena *mem, const char *text, size_t source_count, struct cited_answer *ret_answer);

#endif
