/* What ends a job, what counts against it, and what it waits for. */
#include <criterion/criterion.h>
#include <string.h>

#include "verdict.h"

struct verdict_case { enum job_step step; enum status st; enum error_code code; enum verdict want; char reason[24]; };

Test(verdict, depends_on_where_and_what) {
    static const struct verdict_case CASES[] = {
        { STEP_ORIGINAL, ST_INVALID,         ERR_DOC_DAMAGED,       VERDICT_PERMANENT, "DOC_004" },
        { STEP_ORIGINAL, ST_INVALID,         ERR_DOC_NO_TEXT,       VERDICT_PERMANENT, "DOC_003" },
        { STEP_ORIGINAL, ST_INVALID,         ERR_DOC_TOO_COMPLEX,   VERDICT_PERMANENT, "DOC_006" },
        { STEP_ORIGINAL, ST_INVALID,         ERR_DOC_TYPE,          VERDICT_PERMANENT, "DOC_001" },
        { STEP_DATABASE, ST_NOT_FOUND,       ERR_NOT_FOUND,         VERDICT_PERMANENT, "document_deleted" },
        { STEP_DATABASE, ST_INVALID,         ERR_INVALID,           VERDICT_COUNTED,   "SRV_003" },    /* SQLSTATE 22xxx: our bug */
        { STEP_DATABASE, ST_CONFLICT,        ERR_CONFLICT,          VERDICT_COUNTED,   "SRV_003" },
        { STEP_ORIGINAL, ST_NOT_FOUND,       ERR_NOT_FOUND,         VERDICT_COUNTED,   "STORE_002" },
        { STEP_MODEL,    ST_NOT_FOUND,       ERR_NOT_FOUND,         VERDICT_COUNTED,   "SRV_003" },    /* an older embedding-worker */
        { STEP_MODEL,    ST_INVALID,         ERR_INVALID,           VERDICT_COUNTED,   "SRV_003" },
        { STEP_MODEL,    ST_INVALID,         ERR_DOC_DAMAGED,       VERDICT_COUNTED,   "SRV_003" },    /* not its to say */
        { STEP_ORIGINAL, ST_INTERNAL,        ERR_INTERNAL,          VERDICT_COUNTED,   "SRV_003" },    /* does not decrypt */
        { STEP_KEYS,     ST_INTERNAL,        ERR_INTERNAL,          VERDICT_COUNTED,   "SRV_003" },
        { STEP_DATABASE, ST_UNAUTHENTICATED, ERR_UNAUTHENTICATED,   VERDICT_COUNTED,   "SRV_003" },
        { STEP_KEYS,     ST_UNAVAILABLE,     ERR_KMS_DISABLED,      VERDICT_OUTAGE,    "KMS_001" },
        { STEP_KEYS,     ST_UNAVAILABLE,     ERR_KMS_UNAVAILABLE,   VERDICT_OUTAGE,    "KMS_002" },
        { STEP_ORIGINAL, ST_UNAVAILABLE,     ERR_STORE_UNAVAILABLE, VERDICT_OUTAGE,    "STORE_001" },
        { STEP_AUDIT,    ST_UNAVAILABLE,     ERR_AUDIT_UNAVAILABLE, VERDICT_OUTAGE,    "AUDIT_001" },
        { STEP_MODEL,    ST_LIMITED,         ERR_MODEL_LIMITED,     VERDICT_OUTAGE,    "MODEL_002" },
        { STEP_MODEL,    ST_TIMEOUT,         ERR_TIMEOUT,           VERDICT_OUTAGE,    "SRV_002" },
        { STEP_DATABASE, ST_UNAVAILABLE,     ERR_UNAVAILABLE,       VERDICT_OUTAGE,    "SRV_001" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct job_verdict got = job_verdict(CASES[i].step, CASES[i].st, CASES[i].code);
        cr_expect_eq(got.verdict, CASES[i].want, "case %zu", i);
        cr_expect_str_eq(got.reason, CASES[i].reason, "case %zu", i);
    }
}

/* Whatever a step may fail with, the reason is a word that the database takes. */
Test(verdict, every_failure_has_a_reason_and_only_documents_are_to_blame_at_once) {
    for (unsigned step = STEP_DATABASE; step <= STEP_MODEL; step <<= 1)
        for (int code = ERR_NONE + 1; code < ERROR_CODE_COUNT; code++) {
            enum status st = error_status((enum error_code)code);
            struct job_verdict got = job_verdict((enum job_step)step, st, (enum error_code)code);
            cr_expect(*got.reason && strspn(got.reason, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == strlen(got.reason));
            cr_expect(got.verdict != VERDICT_OUTAGE || st == ST_UNAVAILABLE || st == ST_TIMEOUT || st == ST_LIMITED || code == ERR_MODEL_NAME);
            cr_expect(got.verdict != VERDICT_PERMANENT || strncmp(got.reason, "DOC_", 4) == 0 || strcmp(got.reason, "document_deleted") == 0);
        }
}
