/* auth — who is asking, and for which tenant.
 *
 * Trusts:   edge for the client's address and for nothing else; the configured issuer's keys, fetched over
 *           TLS; the database's word on tickets.
 * Holds:    database role cordon_auth (EXECUTE authz.admit: whoever owns this process can ask for a ticket for
 *           anybody, but never sees the key that signs them); KMS CreateKey, CreateAlias, DescribeKey and
 *           GenerateDataKeyWithoutPlaintext on keys with our tag: it makes tenants' keys and can neither
 *           decrypt with them nor delete them.
 *           Its own settings' secrets in Secrets Manager, when they are named (common/secrets).
 * Fails:    closed. Without the issuer's keys or the database nobody gets a ticket (503); keys that were
 *           fetched within the hour serve while the issuer is down. A refusal that audit-writer cannot take
 *           is counted and stays a refusal. */
#include "auth.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &AUTH);
}
