/* limit — what each of very many keys has had lately: token buckets, lock-outs and marks, in memory that is fixed when
 * the table is made. A key is looked up by a digest under a random seed, so nobody can choose keys that meet in one
 * place; where a place is full, the entry that would be forgotten first makes room: a flood of fresh keys pushes out
 * other fresh keys, not those that are being held back. What is forgotten has its whole allowance again. Any thread; a lock per
 * place. Times are clock_mono_us(), given by the caller. */
#ifndef CORDON_LIMIT_LIMIT_H
#define CORDON_LIMIT_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LIMIT_KEY_MAX_BYTES = 96 };

struct limits;

/* About 45 bytes an entry. */
struct limits *limits_new(unsigned entry_count);
void limits_destroy(struct limits **limits_p);

/* What a key is: a kind, so that one table serves several, and its bytes (longer ones are cut: give a digest). */
struct limit_key { uint8_t bytes[LIMIT_KEY_MAX_BYTES]; size_t len; };
struct limit_key limit_key(uint8_t kind, uint8_t class, const void *bytes, size_t len);

/* ---- token buckets ---- */

struct quota { int64_t units, window_us; };         /* units 0: no limit */
struct allowance {
    bool is_granted;
    int64_t remaining;                              /* whole units that are left */
    int64_t whole_us;                               /* until the bucket is full again */
    int64_t retry_us;                               /* until a unit is there; 0 when granted */
};

/* Take one unit. The bucket holds `units` and gains them evenly over the window, so that a key gets at most twice
 * its quota within one window, and its quota in the long run. */
struct allowance limit_take(struct limits *limits, const struct limit_key *key, const struct quota *quota, int64_t now_us);

/* ---- lock-outs ---- */

struct lockout_policy {
    unsigned free_count;                            /* failures without consequence */
    int64_t first_us, longest_us;                   /* the first lock-out; each further failure doubles it */
    int64_t forget_us;                              /* so long after the last one has ended, failures are forgotten */
};

/* How long key is still locked out; 0: it is not. */
int64_t lockout_left_us(struct limits *limits, const struct limit_key *key, int64_t now_us);
/* key failed. Returns the lock-out that begins with it, 0: none. Failures during one do not count. */
int64_t lockout_fail(struct limits *limits, const struct limit_key *key, const struct lockout_policy *policy, int64_t now_us);

/* ---- marks ---- */

void limit_mark(struct limits *limits, const struct limit_key *key, int64_t until_us);
bool limit_is_marked(struct limits *limits, const struct limit_key *key, int64_t now_us);

#endif
