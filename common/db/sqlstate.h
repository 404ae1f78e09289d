/* sqlstate — what a database error means to a caller, in one table. */
#ifndef CORDON_DB_SQLSTATE_H
#define CORDON_DB_SQLSTATE_H

#include <stdbool.h>

#include "core/status.h"

struct sqlstate_row {
    const char *prefix;
    enum status status;
    bool keeps;             /* the connection is as good as before */
    bool says;              /* the server's message may be logged */
    enum error_code code;   /* more precise than the status; ERR_NONE: it is not */
};

/* The row for a five-character code. NULL, an error without any code, is a lost connection. */
const struct sqlstate_row *sqlstate_find(const char *sqlstate);

enum status sqlstate_status(const char *sqlstate);

#endif
