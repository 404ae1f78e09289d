/* claims — whom tickets stand for, as the database says: it verifies each, and that its session, user, tenant or lease
 * still stands. What it accepted is kept for a quarter of a second and not asked again so long, for callers hold a
 * ticket for a second and verifying one is what a small event costs most. An event that is put on the log so shortly
 * after its ticket was revoked shows nobody anything: keys.open() verifies the ticket itself. Refusals are never kept.
 * Thread-safe. */
#ifndef CORDON_AUDIT_WRITER_CLAIMS_H
#define CORDON_AUDIT_WRITER_CLAIMS_H

#include "batch.h"

struct claims_memory *claims_memory_new(void);
void claims_memory_destroy(struct claims_memory **memory_p);

/* Fill the stamps of every call that has a ticket; one whose ticket is refused has its status and why. memory NULL: all
 * are asked for. */
enum status claims_fill(struct claims_memory *memory, struct db_pool *pool, struct batch_call *calls[], size_t count,
                        int64_t deadline_ms, struct why *why) MUST_USE;

#endif
