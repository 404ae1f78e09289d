/* ingest-worker — takes uploads in and turns documents into searchable chunks.
 *
 * Trusts:   the envelope from edge (CURVE-authenticated); the database for who the ticket's holder is.
 *           Not the document: its bytes are parsed by cordon-sandbox, in a child without files, network or time.
 * Holds:    database roles cordon_ingest (documents and chunks under a ticket) and cordon_jobs (the queue,
 *           no tenant tables); S3 Put, Get and Delete under tenants/; KMS Decrypt. No Bedrock, no audit log.
 * Fails:    an upload that ends early leaves no document. A job that fails goes back to the queue or, when
 *           the document is to blame, dies with a reason; one whose worker dies is claimed by another. */
#include "ingest.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &INGEST_WORKER);
}
