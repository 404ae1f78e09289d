#include <criterion/criterion.h>
#include <string.h>

#include "ingest.h"

enum { TICKET_MS = 60000 };     /* life of a job's ticket: authz.mint_job() */

/* A lease is renewed after a third of it, and its ticket with it. */
Test(ingest_settings, the_longest_lease_is_renewed_before_its_ticket_ends) {
    const struct setting *s = INGEST_WORKER.settings;
    while (s->name && strcmp(s->name, "CORDON_LEASE_MS") != 0)
        s++;
    cr_assert_not_null(s->name);
    cr_expect_lt(s->max / 3, TICKET_MS);
}
