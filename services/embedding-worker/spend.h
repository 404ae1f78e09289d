/* spend — what tenants have cost outlives this process, and is one sum for all replicas: every few seconds audit-writer, which has a
 * database, is told what came to it and tells the sums (ADR 0029). At the start it tells them of all tenants. One thread of its own. */
#ifndef CORDON_EMBEDDING_SPEND_H
#define CORDON_EMBEDDING_SPEND_H

#include "accounts.h"
#include "service/service.h"

struct spend;

/* Until the first answer no budget is granted. Both are borrowed until spend_destroy. */
struct spend *spend_new(const struct runtime *rt, struct accounts *accounts);
/* Tells what is left to tell, for 3 s at most. */
void spend_destroy(struct spend **spend_p);

#endif
