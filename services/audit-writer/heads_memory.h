/* heads_memory — where this process left the heads of the log, and what time the database had: from both a batch can be
 * placed and hashed before the database is asked. A guess: audit.put() moves a head only from where it is, and refuses
 * a time that is not about now; whoever guessed wrong forgets, and locks before it looks. Thread-safe. */
#ifndef CORDON_AUDIT_WRITER_HEADS_MEMORY_H
#define CORDON_AUDIT_WRITER_HEADS_MEMORY_H

#include "heads.h"

struct heads_memory;

struct heads_memory *heads_memory_new(void);
void heads_memory_destroy(struct heads_memory **memory_p);

/* Fill the collected heads and their time, never later than the database's. False: one of them is not known. */
bool heads_recall(struct heads_memory *m, struct heads *h);
/* A batch on them is committed. at_us is the database's clock, read while clock_mono_us() was at most mono_us; 0: nobody asked. */
void heads_keep(struct heads_memory *m, const struct heads *h, int64_t at_us, int64_t mono_us);
/* The guess was wrong, or nobody knows: somebody else moves them too, so they are not guessed again for a second. When that
 * was a thread of ours, which has said so meanwhile, it stays as it is. */
void heads_forget(struct heads_memory *m, const struct heads *h);

#endif
