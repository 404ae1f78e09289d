/* record — something whose SHA-256 an event of the log holds, with that event, its inclusion proof and the checkpoint: an
 * answer's receipt, the manifest of a package of evidence, a certificate of erasure. One JSON object, see
 * docs/AUDIT_FORMAT.md. An opened receipt's texts and salts are checked against its commitments. */
#ifndef VERIFY_RECORD_H
#define VERIFY_RECORD_H

#include "note.h"

struct record {
    char *bytes;                /* what the event vouches for; the caller's to free, also after a failure */
    size_t len;
    const char *kind;           /* "receipt", "manifest", "certificate" */
    char resource_id[64];       /* of the event */
    char origin[NAME_MAX_BYTES];        /* of its log */
    uint64_t seq, size;
    unsigned opened_count, closed_count;        /* commitments of a receipt that were opened, and that were not */
    char text[256];             /* what is wrong */
};

/* key NULL: the checkpoint may be anybody's. prompt: what the model was given, when somebody has it; NULL. */
bool record_check(struct text file, const struct verifier *key, const struct text *prompt, struct record *out);

#endif
