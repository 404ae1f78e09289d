/* cancel — how a thread's long waits end when nobody needs their outcome any more, although their time is not up:
 * whoever waits for a server (http, db, a back-off) also waits for this descriptor. Belongs to one thread each; a
 * thread that never called cancel_on is not cancelled. */
#ifndef CORDON_CORE_CANCEL_H
#define CORDON_CORE_CANCEL_H

#include <stdbool.h>

/* From now on the calling thread's waits end once fd is readable; -1: never. fd must live as long. */
void cancel_on(int fd);
/* To poll beside something else; -1 when there is none. Nobody reads it. */
int cancel_fd(void);
bool cancel_is_due(void);

#endif
