/* spend — what tenants have cost outlives this process, and is one sum for all replicas: every few seconds audit-writer, which has a
 * database, is told what came to it and tells the sums (ADR 0029). At the start it tells them of all tenants. One thread of its own. */
#ifndef CORDON_EMBEDDING_SPEND_H
#define CORDON_EMBEDDING_SPEND_H

#include "accounts.h"
#include "service/service.h"

struct spend;

/* Until the first answer no budget is granted. Both are borrowed until spend_destroy. */
struct spend *spend_new(const struct runtime *rt, struct accounts *accounts);
/* Tell what is left to tell, while the bus still asks, and end the thread; not beyond deadline_ms. What calls cost that are still in
 * hand then is lost. */
void spend_end(struct spend *spend, int64_t deadline_ms);
void spend_destroy(struct spend **spend_p);

#endif
