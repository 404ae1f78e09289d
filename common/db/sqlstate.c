#include "db/sqlstate.h"

#include <stddef.h>
#include <string.h>

static const struct sqlstate_row ROWS[] = {
#define SQLSTATE(prefix, status, keeps, says, code) { prefix, status, keeps, says, code },
#include "db/sqlstate.def"
#undef SQLSTATE
};

const struct sqlstate_row *sqlstate_find(const char *sqlstate) {
    static const struct sqlstate_row LOST = { "", ST_UNAVAILABLE, false, false, ERR_NONE };
    static const struct sqlstate_row UNKNOWN = { "", ST_INTERNAL, false, false, ERR_NONE };
    if (!sqlstate)
        return &LOST;
    const struct sqlstate_row *best = &UNKNOWN;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (strncmp(sqlstate, ROWS[i].prefix, strlen(ROWS[i].prefix)) == 0 && strlen(ROWS[i].prefix) > strlen(best->prefix))
            best = &ROWS[i];
    return best;
}

enum status sqlstate_status(const char *sqlstate) {
    return sqlstate_find(sqlstate)->status;
}
