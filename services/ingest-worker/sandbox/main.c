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
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* Read and execute below the system's folders, nothing else: no home, no state, no /proc, no /tmp. */
static void confine_files(bool is_required) {
    static const char *const READABLE[] = { "/usr", "/lib", "/lib64", "/etc/fonts", "/etc/ld.so.cache",
                                            "/var/cache/fontconfig" };
    struct landlock_ruleset_attr all = {
        .handled_access_fs = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                             LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                             LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                             LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                             LANDLOCK_ACCESS_FS_MAKE_SYM };
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules < 0) {
        if (is_required)
            refuse("landlock");
        return;
    }
    for (size_t i = 0; i < sizeof READABLE / sizeof *READABLE; i++) {
        int fd = open(READABLE[i], O_PATH | O_CLOEXEC);
        if (fd < 0)
            continue;                           /* not on this system: nothing to allow */
        bool is_file = str_ends_with(READABLE[i], ".cache");
        struct landlock_path_beneath_attr below = {
            .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE |
                              (is_file ? 0 : LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE),
            .parent_fd = fd };
        if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) != 0)
            refuse("landlock rule");
        close(fd);
    }
    if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        refuse("landlock restrict");
    close(rules);
}

/* What a program needs that maps its libraries, reads one pipe, computes and writes another. Everything
 * else answers EPERM: sockets, processes, signals, tracing, mounts, keys, time setting. */
static void confine_calls(void) {
    static const int ALLOWED[] = {
        SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close),
        SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(statx),
        SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
        SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
        SCMP_SYS(fcntl), SCMP_SYS(ioctl), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fadvise64),
        SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mprotect), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
        SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(set_tid_address),
        SCMP_SYS(rseq), SCMP_SYS(arch_prctl), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
        SCMP_SYS(sigaltstack), SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
        SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
        SCMP_SYS(getcwd), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(prlimit64), SCMP_SYS(getrlimit),
        SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(poll), SCMP_SYS(execve), SCMP_SYS(exit),
        SCMP_SYS(exit_group) };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(1));
    if (!filter)
        refuse("seccomp");
    for (size_t i = 0; i < sizeof ALLOWED / sizeof *ALLOWED; i++)
        if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, ALLOWED[i], 0) != 0)
            refuse("seccomp rule");
    if (seccomp_load(filter) != 0)
        refuse("seccomp load");
    seccomp_release(filter);
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
    limit(RLIMIT_CORE, 0, "core limit");
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        refuse("prctl");
    confine_files(is_landlock_required);
    confine_calls();

    char *environment[] = { (char *)"LANG=C.UTF-8", NULL };
    execve(argv[3], argv + 3, environment);
    fprintf(stderr, "cordon-sandbox: cannot execute the program\n");
    return EXIT_NO_PROGRAM;
}
