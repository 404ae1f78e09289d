/* heads_memory — where this process's batches leave the heads of the log, and what time the database has: from both a
 * batch is placed and hashed before the database is asked, also while the one before it is still in flight. A guess:
 * audit.put() moves a head only from where it is, and refuses a time that is not about now; whoever guessed wrong
 * forgets, and locks before it looks. Batches that guess fly beside each other, in turns; one that locks flies alone,
 * or those beside it would guess wrong. Thread-safe. */
#ifndef CORDON_AUDIT_WRITER_HEADS_MEMORY_H
#define CORDON_AUDIT_WRITER_HEADS_MEMORY_H

#include "heads.h"

struct heads_memory;

struct heads_memory *heads_memory_new(void);
void heads_memory_destroy(struct heads_memory **memory_p);

/* Until heads_land. heads_take_off waits for the one that flies alone, heads_take_off_alone for all. */
void heads_take_off(struct heads_memory *m);
void heads_take_off_alone(struct heads_memory *m);
void heads_land(struct heads_memory **m);                   /* may run twice */

/* Fill the collected heads and their time, never later than the database's. On true nobody else places: heads_advance or
 * heads_stay must follow. False: one of them is not known. */
bool heads_recall(struct heads_memory *m, struct heads *h);
/* The next batch starts where this one ends. ret_turn: what audit.put() is to know of who comes after whom. */
struct heads_turn { int32_t own, after; };
void heads_advance(struct heads_memory *m, const struct heads *h, struct heads_turn *ret_turn);
void heads_stay(struct heads_memory *m);

/* The database's clock was at_us while clock_mono_us() was at most mono_us. */
void heads_read_clock(struct heads_memory *m, int64_t at_us, int64_t mono_us);
/* A batch that looked is committed. */
void heads_keep(struct heads_memory *m, const struct heads *h);
/* The guess was wrong, or nobody knows: somebody else moves them too, so they are not guessed again for a second. */
void heads_forget(struct heads_memory *m, const struct heads *h);

#endif
