/* export — checks an exported log (docs/AUDIT_FORMAT.md): that its events, hashed in their order, are what a signed
 * checkpoint says, and that checkpoints kept elsewhere are beginnings of the same log. Reads a stream once, in bounded
 * memory, and names the first event that is wrong. */
#ifndef VERIFY_EXPORT_H
#define VERIFY_EXPORT_H

#include <stdio.h>

#include "note.h"

enum { WITNESSES_MAX = 16, OUTSIDE_MAX = 64, LINE_MAX_BYTES = 1 << 20 };

struct expected {
    const struct verifier *key;                         /* NULL: no signature is checked */
    struct verifier witnesses[WITNESSES_MAX];           /* each must have cosigned the export's checkpoint */
    size_t witness_count;
    struct checkpoint outside[OUTSIDE_MAX];             /* kept elsewhere; signed, when key is given */
    size_t outside_count;
};

struct report {
    bool is_good;
    int64_t index;                  /* of the first event that is wrong; -1: none can be named */
    char text[512];                 /* what is wrong, or what was verified */
    char origin[NAME_MAX_BYTES];
    uint64_t first, events, size;   /* where the export begins, how many it holds, leaves of the checkpoint's tree */
    uint64_t lines;
};

/* False only when reading fails. */
bool export_check(FILE *in, const struct expected *e, struct report *out);

#endif
