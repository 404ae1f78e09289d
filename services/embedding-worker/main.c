/* embedding-worker — the only process that speaks to a language model: texts in, vectors or a cited answer out.
 *
 * Trusts:   ingest-worker and query to have put a disclosure on the record before they send text; the model's
 *           answer not at all: it is checked for shape here and for its citations by query.
 * Holds:    Bedrock InvokeModel on the two models of its settings. No database, no store, no tenant's keys; texts
 *           live in memory for the length of one call. It does not read the ticket.
 * Fails:    a throttled model is ST_LIMITED after bounded repetition inside the caller's time, an absent one
 *           ST_UNAVAILABLE; a wrong AWS identity refuses to start; a model that does not answer its preflight
 *           makes the process not ready. */
#include "embedding_worker.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &EMBEDDING_WORKER);
}
