/* fault — named places where a test lets this process die, stop, wait or fail, so that what must survive is
 * tried exactly where it hurts. faults.def lists the places. Which of two implementations is linked decides what
 * happens: the product's does nothing (fault.c), that of the binaries in build/…/faults does what a file says
 * (tests/faults/program/fault.c). Any thread. */
#ifndef CORDON_CORE_FAULT_H
#define CORDON_CORE_FAULT_H

#include "core/status.h"

enum fault {
#define FAULT(id, name, process, what) id,
#include "core/faults.def"
#undef FAULT
    FAULT_COUNT
};

/* May kill, stop or delay this process. */
void fault_point(enum fault at);
/* The same, and it may fail: ST_UNAVAILABLE, to be treated as any failure of this step. */
enum status fault_status(enum fault at, struct why *why) MUST_USE;

/* What the tests' implementation needs of a hardened process: a folder to change files in and system calls by name (it ends
 * with NULL). The product's needs nothing: NULL. */
struct fault_needs { const char *folder; const char *const *calls; };
const struct fault_needs *fault_needs(void);

#endif
