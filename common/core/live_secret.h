/* live_secret — a secret that may become another one while the process runs: a password that is rotated. Whoever uses it
 * takes a copy at each use, and says when the copy was refused; whoever keeps it (common/secrets) then looks whether there
 * is another. Without a keeper it stays what it is. Any thread. */
#ifndef CORDON_CORE_LIVE_SECRET_H
#define CORDON_CORE_LIVE_SECRET_H

#include "core/secret.h"

struct live_secret;

struct live_secret *live_secret_new(const void *bytes, size_t len);
void live_secret_destroy(struct live_secret **secret_p);

/* A copy, the caller's, and which of its values that is. NULL for NULL. */
struct secret *live_secret_copy(struct live_secret *s, unsigned *ret_version);

/* Value `version` was refused by whom it was shown to. True when there is another one now: the keeper looks for it in this
 * thread, until deadline_ms (clock_mono_ms). False for NULL. */
bool live_secret_refused(struct live_secret *s, unsigned version, int64_t deadline_ms);

/* ---- for the keeper ---- */

/* Another value, or the same one: then nothing changes. True when it is another. */
bool live_secret_set(struct live_secret *s, const void *bytes, size_t len);
/* From now on look() is called when value `version` was refused. ctx is borrowed until the secret goes, or look is NULL again. */
typedef void (*live_secret_look)(void *ctx, struct live_secret *s, unsigned version, int64_t deadline_ms);
void live_secret_keep(struct live_secret *s, live_secret_look look, void *ctx);

#endif
