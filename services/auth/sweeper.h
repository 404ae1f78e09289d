/* sweeper — automatic logoff also when nobody comes back to be told: a thread that every few seconds has the database end
 * the browsers' sessions that are over, and forget what they held. Every replica has one; they do not disturb each other. */
#ifndef CORDON_AUTH_SWEEPER_H
#define CORDON_AUTH_SWEEPER_H

#include "db/pool.h"

enum { SWEEPER_PAUSE_MS = 10000 };

struct sweeper;

struct sweeper *sweeper_new(struct db_pool *db);
void sweeper_destroy(struct sweeper **sweeper_p);

#endif
