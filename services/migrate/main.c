/* migrate — brings the database's schema to the version of this tree, or back, and sets role passwords.
 *
 * Trusts:   the SQL files of its migrations directory; nobody else's input.
 * Holds:    an administrator's database URL (CREATE ROLE), for seconds; the role passwords. No AWS, no bus.
 * Fails:    a migration is one transaction: it is applied whole and recorded, or not at all; exit status 1. */
#include "migrate.h"

int main(int argc, char **argv) {
    return migrate_main(argc, argv);
}
