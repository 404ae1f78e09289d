#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "db/sqlstate.h"

struct sqlstate_case { char state[6]; enum status want; bool keeps; };

ParameterizedTestParameters(db_sqlstate, maps_to_a_status) {
    static struct sqlstate_case cases[] = {
        { "23505", ST_CONFLICT, true },
        { "23503", ST_NOT_FOUND, true },
        { "28000", ST_UNAUTHENTICATED, true },
        { "42501", ST_FORBIDDEN, true },
        { "CJ001", ST_CONFLICT, true },
        { "CA001", ST_CONFLICT, true },
        { "CA002", ST_UNAVAILABLE, true },          /* longer than "CA" */
        { "22P02", ST_INVALID, true },              /* by its class */
        { "40P01", ST_UNAVAILABLE, true },
        { "57014", ST_TIMEOUT, false },             /* longer than "57" */
        { "57P01", ST_UNAVAILABLE, false },
        { "42P01", ST_INTERNAL, false },            /* no such table: our bug */
        { "XX000", ST_INTERNAL, false },
        { "",      ST_UNAVAILABLE, false },         /* an error without SQLSTATE: the connection is lost */
    };
    return cr_make_param_array(struct sqlstate_case, cases, sizeof cases / sizeof *cases);
}

ParameterizedTest(struct sqlstate_case *c, db_sqlstate, maps_to_a_status) {
    const struct sqlstate_row *row = sqlstate_find(c->state[0] ? c->state : NULL);
    cr_assert_eq(row->status, c->want, "'%s' gave %s, want %s", c->state, status_name(row->status), status_name(c->want));
    cr_assert_eq(row->keeps, c->keeps, "'%s'", c->state);
}
