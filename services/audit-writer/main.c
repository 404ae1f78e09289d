/* audit-writer — appends to the audit log, and nothing else.
 *
 * Trusts:   the peer's name (by its CURVE key) for who reports an event; the database for whose ticket it
 *           is and what time it is; nothing that an event says about tenant, actor or order.
 * Holds:    database role cordon_audit: EXECUTE of audit.put(), which inserts rows and moves heads, and of what locks
 *           heads, drain the outbox and check tickets. It cannot change or delete what is on
 *           the log; it reads events of closed months, to archive them, and nothing else of a tenant. The key that heads of the log are signed with. S3 Put,
 *           Get and legal holds in the anchor bucket, where nothing can be removed. KMS Sign and GetPublicKey of one key, when configured.
 *           Its own settings' secrets in Secrets Manager, when they are named (common/secrets).
 * Fails:    an event is acknowledged only after COMMIT; anything else is a failed call, and its caller
 *           shows nothing. A lost database is ST_UNAVAILABLE until it returns; changes then wait in
 *           audit_outbox. A log that ends before a head that was signed is appended to by nobody (AUDIT_002)
 *           until an operator has recovered it. Killed at any moment it leaves no gap and no half-written batch. */
#include <stdlib.h>

#include "audit/actions.h"
#include "audit_writer.h"
#include "core/str.h"

int main(int argc, char **argv) {
    if (argc == 2 && str_equal(argv[1], "--audit-events-markdown")) {
        audit_actions_print_markdown(stdout);
        return EXIT_SUCCESS;
    }
    return service_main(argc, argv, &AUDIT_WRITER);
}
