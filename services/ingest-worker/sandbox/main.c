/* cordon-sandbox — gives up everything and becomes a text extractor.
 *
 *   cordon-sandbox [--without-landlock] MEMORY_BYTES CPU_SECONDS PROGRAM [ARGUMENT...]
 *
 * Spawned by ingest-worker with pipes as standard input, output and error. Before it executes PROGRAM
 * it closes every other descriptor, caps memory, CPU time, files and processes, drops its environment,
 * limits the file system to read-only system folders (Landlock) and the kernel to the system calls that
 * reading, computing and writing need (seccomp). A hostile document that takes PROGRAM over owns a
 * process that can only write to its parent's pipe and die.
 *
 * Trusts:  its arguments (from ingest-worker). Holds: nothing.
 * Fails:   exits 126 when a restriction cannot be made, so that nothing runs unconfined. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "confine/confine.h"
#include "core/str.h"

enum { EXIT_UNCONFINED = 126, EXIT_NO_PROGRAM = 127, OPEN_FILES_MAX = 32 };

static _Noreturn void refuse(const char *what) {
    fprintf(stderr, "cordon-sandbox: %s failed\n", what);
    _exit(EXIT_UNCONFINED);
}

static void limit(int resource, int64_t value, const char *what) {
    struct rlimit both = { (rlim_t)value, (rlim_t)value };
    if (setrlimit((__rlimit_resource_t)resource, &both) != 0)
        refuse(what);
}

int main(int argc, char **argv) {
    bool is_landlock_required = true;
    if (argc > 1 && str_equal(argv[1], "--without-landlock")) {
        is_landlock_required = false;
        argv++;
        argc--;
    }
    int64_t memory_bytes = 0, cpu_s = 0;
    if (argc < 4 || !str_to_i64(argv[1], 1 << 20, INT64_MAX, &memory_bytes) || !str_to_i64(argv[2], 1, 3600, &cpu_s)) {
        fprintf(stderr, "usage: cordon-sandbox [--without-landlock] MEMORY_BYTES CPU_SECONDS PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    if (close_range(STDERR_FILENO + 1, ~0U, 0) != 0)
        refuse("close_range");
    limit(RLIMIT_AS, memory_bytes, "memory limit");
    limit(RLIMIT_CPU, cpu_s, "CPU limit");
    limit(RLIMIT_FSIZE, 0, "file size limit");          /* pipes are not files: only disk writes are refused */
    limit(RLIMIT_NOFILE, OPEN_FILES_MAX, "open files limit");
    limit(RLIMIT_NPROC, 0, "process limit");
    /* Read and execute below the system's folders, nothing else: no home, no state, no /proc, no /tmp. And only the calls of
     * a program that maps its libraries, reads one pipe, computes and writes another; the rest answers EPERM. */
    struct why why = { 0 };
    static const uint16_t NO_PORTS[] = { 0 };
    if (confine_dumps(&why) != ST_OK || confine_privileges(&why) != ST_OK)
        refuse(why.text);
    enum status st = confine_files(CONFINED_CHILD, NULL, NO_PORTS, &why);
    if (st != ST_OK && (is_landlock_required || st != ST_UNAVAILABLE))
        refuse(why.text);
    if (confine_calls(CONFINED_CHILD, NULL, EPERM, &why) != ST_OK)
        refuse(why.text);

    char *environment[] = { (char *)"LANG=C.UTF-8", NULL };
    execve(argv[3], argv + 3, environment);
    fprintf(stderr, "cordon-sandbox: cannot execute the program\n");
    return EXIT_NO_PROGRAM;
}
