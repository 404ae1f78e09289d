/* ingest-worker — takes uploads in and turns documents into searchable chunks.
 *
 * Trusts:   the envelope from edge (CURVE-authenticated); the database for who the ticket's holder is.
 *           Not the document: its bytes are parsed by cordon-sandbox, in a child without files, network or time.
 * Holds:    database roles cordon_ingest (documents and chunks under a ticket) and cordon_jobs (the queue,
 *           no tenant tables); S3 Put, Get and Delete (every version) under tenants/, the shares of document
 *           keys, and the list of multipart uploads; KMS Decrypt. No Bedrock, no audit log.
 *           Its own settings' secrets in Secrets Manager, when they are named (common/secrets).
 * Fails:    an upload that ends early leaves no document, and what it left in S3 is the janitor's. A job dies with a reason when the document is to
 *           blame, goes back to the queue when something else is away or this process stops, and is claimed
 *           by another when its worker dies; too often, and it dies too. */
#include "ingest.h"

int main(int argc, char **argv) {
    return service_main(argc, argv, &INGEST_WORKER);
}
