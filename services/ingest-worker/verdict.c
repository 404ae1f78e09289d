#include "verdict.h"

#include <stddef.h>

enum { ANYWHERE = -1 };

/* The first row that fits. A status alone says little: ST_INVALID from the database is our own mistake, and
 * ST_NOT_FOUND is a deleted document there, but a lost object in the store. ERR_NONE: any code. */
static const struct {
    int steps;
    enum status status;
    enum error_code code;
    enum verdict verdict;
    const char *reason;         /* NULL: the failure's own code */
} VERDICTS[] = {
    { STEP_ORIGINAL, ST_INVALID,     ERR_DOC_TYPE,        VERDICT_PERMANENT, NULL },
    { STEP_ORIGINAL, ST_INVALID,     ERR_DOC_NO_TEXT,     VERDICT_PERMANENT, NULL },
    { STEP_ORIGINAL, ST_INVALID,     ERR_DOC_DAMAGED,     VERDICT_PERMANENT, NULL },
    { STEP_ORIGINAL, ST_INVALID,     ERR_DOC_TOO_COMPLEX, VERDICT_PERMANENT, NULL },
    { STEP_DATABASE, ST_NOT_FOUND,   ERR_NONE,            VERDICT_PERMANENT, "document_deleted" },
    { STEP_ORIGINAL, ST_NOT_FOUND,   ERR_NONE,            VERDICT_COUNTED,   "STORE_002" },     /* ERR_STORE_MISSING */
    { STEP_MODEL,    ST_CONFLICT,    ERR_MODEL_NAME,      VERDICT_OUTAGE,    NULL },              /* until an operator sets it up again */
    { ANYWHERE,      ST_UNAVAILABLE, ERR_NONE,            VERDICT_OUTAGE,    NULL },
    { ANYWHERE,      ST_TIMEOUT,     ERR_NONE,            VERDICT_OUTAGE,    NULL },
    { ANYWHERE,      ST_LIMITED,     ERR_NONE,            VERDICT_OUTAGE,    NULL },
};

struct job_verdict job_verdict(enum job_step step, enum status st, enum error_code code) {
    for (size_t i = 0; i < sizeof VERDICTS / sizeof *VERDICTS; i++)
        if ((VERDICTS[i].steps & (int)step) && VERDICTS[i].status == st &&
            (VERDICTS[i].code == ERR_NONE || VERDICTS[i].code == code))
            return (struct job_verdict){ VERDICTS[i].verdict,
                                         VERDICTS[i].reason ? VERDICTS[i].reason : error_text_code(code) };
    return (struct job_verdict){ VERDICT_COUNTED, error_text_code(ERR_INTERNAL) };      /* we did something wrong */
}
