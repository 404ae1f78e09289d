/* audit_export — the tenant's log as a file that a stranger can check (docs/AUDIT_FORMAT.md): events as they were
 * hashed, with the checkpoint and the hashes around them. Streamed in portions of 256 events, so memory is bounded; the
 * caller sends fresh tickets on the way, so that it ends with the access of whoever asked. One thread, one call. */
#ifndef CORDON_QUERY_AUDIT_EXPORT_H
#define CORDON_QUERY_AUDIT_EXPORT_H

#include "archive/archive.h"
#include "ledger/ledger.h"
#include "query.h"
#include "query.pb-c.h"

struct audit_export {
    struct call *call;              /* borrowed */
    const struct audit_form *form;
    struct audit_head head;         /* these: from the beginning on */
    int64_t first, last;            /* last is behind the last */
    bool has_begun;                 /* something stands before the next entry */
    struct buffer line, out;        /* out: what was not sent yet; the caller ends both */
};

/* Events as the database has them, and where the others are. */
struct audit_export_portion { int64_t from; PGresult *rows; struct archived archived; struct arena *mem; };
void audit_export_portion_end(struct audit_export_portion *p);

/* The parts of an export, one behind the other; begin and read inside a transaction of somebody who may read the log. Their text
 * goes behind what is in x->out. ST_CONFLICT (AUDIT_003): nothing is signed yet, or more is asked for than is. */
enum status audit_export_begin(struct audit_export *x, struct tenant_tx *tx, const Query__ExportAuditRequest *req) MUST_USE;
/* Up to 256 events; then, after the transaction, they and the hashes that were stored with them. ST_UNAVAILABLE (AUDIT_004). */
enum status audit_export_read(struct audit_export *x, struct tenant_tx *tx, int64_t from, int64_t to, struct audit_export_portion *p) MUST_USE;
enum status audit_export_put(struct audit_export *x, struct s3 *anchor, struct audit_export_portion *p) MUST_USE;
enum status audit_export_end(struct audit_export *x) MUST_USE;

#endif
