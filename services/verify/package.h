/* package — checks a package of evidence (docs/AUDIT_FORMAT.md): a tar archive whose last member is a manifest that the
 * log vouches for. Reads a stream once, in bounded memory, and names the first member that is wrong. */
#ifndef VERIFY_PACKAGE_H
#define VERIFY_PACKAGE_H

#include <stdio.h>

#include "note.h"

enum { MEMBERS_MAX = 16384, MEMBER_NAME_BYTES = 101 };

struct package_report {
    bool is_good;
    char member[MEMBER_NAME_BYTES];     /* the first that is wrong; "": none can be named */
    char text[256];                     /* what is wrong */
    char evidence_id[64];
    uint64_t documents, events, receipts;
    uint64_t seq, size;                 /* of the event that vouches for the manifest, and of its tree */
};

/* key NULL: the checkpoints may be anybody's. False only when reading fails. */
bool package_check(FILE *in, const struct verifier *key, struct package_report *out);

#endif
