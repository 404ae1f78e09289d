#include <asm/termbits.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "confine/confine.h"

/* The names that the rows use. */
enum { EDGE = CONFINED_PEER_EDGE, INGEST = CONFINED_PEER_INGEST_WORKER, CHILD = CONFINED_CHILD, EVERY = CONFINED_ALL & ~CHILD, ALONE = EVERY & ~INGEST };

const struct file_rule HARDENING_FILES[] = {
#define FILES(path, access, who) { path, access, who },
#define CALL(name, who)
#define CALL_IF(name, argument, mask, value, who)
#define NEVER(name, who)
#include "confine/hardening.def"
#undef FILES
#undef CALL
#undef CALL_IF
#undef NEVER
    { 0 }
};

const struct call_rule HARDENING_CALLS[] = {
#define FILES(path, access, who)
#define CALL(name, who) { name, CALL_ALLOW, 0, 0, 0, who },
#define CALL_IF(name, argument, mask, value, who) { name, CALL_ALLOW, argument, mask, value, who },
#define NEVER(name, who) { name, CALL_KILL, 0, 0, 0, who },
#include "confine/hardening.def"
    { 0 }
};
