/* confine — give up, for good, what the kernel would let this process do: files and ports (Landlock), system calls
 * (seccomp), capabilities, new rights and dumps. What is given up is given up for the calling thread and for
 * whatever it starts, so this is done before the first thread is made. Tables say what remains; nothing here logs or
 * allocates for longer than a call. cordon-sandbox is compiled from these files too. */
#ifndef CORDON_CONFINE_CONFINE_H
#define CORDON_CONFINE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

/* Whom a row is for: the bits of enum peer (bus/bus.h), and the extractor that ingest-worker starts. */
enum confined {
#define PEER(id, bit, name, package) CONFINED_##id = 1 << (bit),
#include "service/peers.def"
#undef PEER
    CONFINED_CHILD = 1 << 16,
    CONFINED_ALL = (1 << 17) - 1,
};

/* ---- files and ports: landlock(7) ---- */

enum file_access {
    FILES_READ = 1,         /* read files below, list folders */
    FILES_WRITE = 2,        /* write to files that exist */
    FILES_CHANGE = 4,       /* make, rename and remove files */
    FILES_EXECUTE = 8,
};

/* A file, or a folder with all below it. What does not exist is skipped: nothing is to be allowed there. */
struct file_rule { const char *path; unsigned access, who; };
extern const struct file_rule HARDENING_FILES[];       /* hardening.def; ends with a NULL path */

/* The kernel's version of Landlock; 0: it has none, or does not let us. */
int landlock_version(void);
/* Only the files of hardening.def that are for `who`, those of `more` (it ends with a NULL path; NULL: none), and only these
 * TCP ports to listen on (a list that ends with 0; from version 4 on; connecting stays free). From version 6 on neither
 * signals nor abstract sockets reach processes outside.
 * ST_UNAVAILABLE: no Landlock here. ST_INTERNAL: a rule was refused; nothing may run then. */
enum status confine_files(unsigned who, const struct file_rule *more, const uint16_t *ports, struct why *why) MUST_USE;

/* ---- system calls: seccomp(2) ---- */

enum call_answer { CALL_ALLOW, CALL_KILL };

/* A call by name; with a mask, only where (argument & mask) == value. Names that this architecture's table or the
 * library does not have are skipped. */
struct call_rule { const char *name; enum call_answer answer; unsigned argument; uint64_t mask, value; unsigned who; };
extern const struct call_rule HARDENING_CALLS[];       /* hardening.def; ends with a NULL name */

/* Only the calls of hardening.def that are for `who`, and those of `more` (NULL: none). Others fail with otherwise_errno.
 * Wants no_new_privs. ST_UNAVAILABLE: the kernel takes no filter. ST_INTERNAL: a rule cannot be made. */
enum status confine_calls(unsigned who, const char *const *more, int otherwise_errno, struct why *why) MUST_USE;
/* The filter as rules that a person can read, for an architecture (SCMP_ARCH_AARCH64). */
enum status confine_calls_print(unsigned who, uint32_t arch, int fd, struct why *why) MUST_USE;

/* ---- the process: capabilities(7), prctl(2) ---- */

/* No rights by exec; no core, no debugger of the same user. ST_INTERNAL: the kernel refused. */
enum status confine_privileges(struct why *why) MUST_USE;
enum status confine_dumps(struct why *why) MUST_USE;
/* No capability in any set. The bounding set needs CAP_SETPCAP: *ret_is_bounded false when it stays as it was, which
 * matters little without new rights by exec. */
enum status confine_capabilities(bool *ret_is_bounded, struct why *why) MUST_USE;
/* May one more page be locked now (RLIMIT_MEMLOCK)? */
bool memory_is_lockable(void);

#endif
