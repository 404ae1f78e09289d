/* edge — the only process that speaks HTTP: guards each request, has auth turn its token into a ticket,
 * makes one bus call of it and prints the reply.
 *
 * Trusts:   nothing that arrives over HTTP; the replies of auth, ingest-worker and query (CURVE).
 * Holds:    its own CURVE key; for a second at most, the tickets of its callers. No database, no AWS.
 * Fails:    each failure is one problem document and one log line; a service behind it that is missing
 *           is 503 until it returns; without its port or key it exits 1 for the supervisor. */
#include "edge.h"

int main(int argc, char **argv) {
    int status;
    return edge_print(argc, argv, &status) ? status : service_main(argc, argv, &EDGE);
}
