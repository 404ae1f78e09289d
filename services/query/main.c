/* query — answers questions over one tenant's documents, and every other read.
 *
 * Trusts:   the envelope from edge (CURVE-authenticated); the database for who the ticket's holder is.
 *           Not the model: what it writes is kept only as far as its sources carry it.
 * Holds:    database roles cordon_query (reads under a ticket, adds answers, keys only through an audit
 *           event) and cordon_audit_reader (the tenant's log); S3 Get; KMS Decrypt. No Bedrock.
 *           Its own settings' secrets in Secrets Manager, when they are named (common/secrets).
 * Fails:    without the audit log nothing is shown: ST_UNAVAILABLE AUDIT_001. Any handler failure is one
 *           reply and one log line; a lost database is ST_UNAVAILABLE until it returns. */
#include "query.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &QUERY);
}
