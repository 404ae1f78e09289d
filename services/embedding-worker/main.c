/* embedding-worker — the only process that speaks to a language model: texts in, vectors or a cited answer out.
 *
 * Trusts:   ingest-worker and query to have put a disclosure on the record, under the call's ticket, before they send
 *           text; the model's answer not at all: it is checked for shape here and for its citations by query.
 * Holds:    Bedrock InvokeModel on the models of its settings, with its guardrail, and two looks at the account. No
 *           database, no store, no tenant's keys; texts live in memory for the length of one call. From the ticket it
 *           reads whose call it is, for accounts and fair shares only (ADR 0029). A link to audit-writer, which takes its start
 *           for the record (ADR 0033) and keeps the sums of what tenants have cost, and nothing else.
 *           Its own settings' secrets in Secrets Manager, when they are named (common/secrets).
 * Fails:    a throttled model is asked less and then ST_LIMITED, a tenant over its budget likewise; an absent model is
 *           ST_UNAVAILABLE, and left alone for a while. Another AWS identity, or an account that logs or sends text
 *           where nobody has declared it, refuses to start; a model that does not answer makes the process not ready. */
#include "embedding_worker.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &EMBEDDING_WORKER);
}
