/* verdict — what becomes of a job when an attempt at it fails: by where that was and what went wrong. One table. */
#ifndef CORDON_INGEST_VERDICT_H
#define CORDON_INGEST_VERDICT_H

#include "core/status.h"

/* Where an attempt was. Bits. */
enum job_step {
    STEP_DATABASE = 1 << 0,
    STEP_KEYS     = 1 << 1,     /* the tenant's key from KMS, and what it opens */
    STEP_ORIGINAL = 1 << 2,     /* fetch, decrypt, extract, split */
    STEP_AUDIT    = 1 << 3,
    STEP_MODEL    = 1 << 4,
};

enum verdict {
    VERDICT_PERMANENT,          /* the document is to blame and stays so: dead at once */
    VERDICT_COUNTED,            /* perhaps the document, perhaps we: so many attempts, then dead */
    VERDICT_OUTAGE,             /* something that we need is away: wait for it */
};

struct job_verdict {
    enum verdict verdict;
    const char *reason;         /* what people see: a code of errors.def, or "document_deleted" */
};

struct job_verdict job_verdict(enum job_step step, enum status st, enum error_code code);

#endif
