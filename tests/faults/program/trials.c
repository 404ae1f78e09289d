#include "trials.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Each returns -1 with errno when it was refused. */

static long run_shell(void) {
    return execl("/bin/sh", "sh", "-c", "id", (char *)NULL);
}

static long fork_self(void) {
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static long open_to_read(const char *path) {
    return open(path, O_RDONLY | O_CLOEXEC);
}

static long read_home(void) { return open_to_read("/root"); }
static long read_temporary(void) { return open_to_read("/tmp"); }
static long read_neighbours_memory(void) { return open_to_read("/proc/1/mem"); }
static long read_neighbours_environment(void) { return open_to_read("/proc/1/environ"); }
static long read_own_memory(void) { return open_to_read("/proc/self/mem"); }

static long write_file(void) {
    return open("/tmp/cordon-escape", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static long trace(void) {
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static long read_process(void) {
    char byte;
    struct iovec here = { &byte, 1 }, there = { &byte, 1 };
    return process_vm_readv(getppid(), &here, 1, &there, 1, 0);
}

static long signal_neighbour(void) {
    return syscall(SYS_tgkill, getppid(), getppid(), SIGTERM);
}

static long listen_elsewhere(void) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(48131) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long rc = bind(fd, (const struct sockaddr *)&at, sizeof at);
    int kept = errno;
    (void)close(fd);
    errno = kept;
    return rc;
}

static long raw_socket(void) {
    return socket(AF_PACKET, SOCK_RAW, 0);
}

static long load_library(void) {
    void *library = dlopen("libcrypt.so.1", RTLD_NOW);
    errno = library ? 0 : ELIBACC;
    return library ? 0 : -1;
}

static long map_code(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? -1 : 0;
}

static long become_root(void) {
    return setresuid(0, 0, 0);
}

static long become_dumpable(void) {
    struct rlimit large = { 1 << 30, 1 << 30 };
    return setrlimit(RLIMIT_CORE, &large) == 0 ? 0 : prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* A word that is nowhere in the file of this program as it is in memory, and would be in a core. */
static long dump(void) {
    char canary[64];
    (void)snprintf(canary, sizeof canary, "%s-%s-%s", "canary", "of", "a-core");
    (void)signal(SIGSEGV, SIG_DFL);
    (void)syscall(SYS_tgkill, getpid(), gettid(), SIGSEGV);
    return canary[0];
}

static long new_namespace(void) {
    return syscall(SYS_unshare, 0x10000000);
}

static const struct { const char *word; long (*run)(void); } TRIALS[] = {
    { "shell", run_shell }, { "fork", fork_self }, { "read-home", read_home }, { "read-temporary", read_temporary },
    { "read-neighbours-memory", read_neighbours_memory }, { "read-neighbours-environment", read_neighbours_environment },
    { "read-own-memory", read_own_memory }, { "write-file", write_file }, { "trace", trace }, { "read-process", read_process },
    { "signal-neighbour", signal_neighbour }, { "listen-elsewhere", listen_elsewhere }, { "raw-socket", raw_socket },
    { "load-library", load_library }, { "map-code", map_code }, { "become-root", become_root },
    { "become-dumpable", become_dumpable }, { "dump", dump }, { "new-namespace", new_namespace },
};

static void run_one(size_t i, char *result) {
    errno = 0;
    long rc = TRIALS[i].run();
    if (rc < 0)
        (void)snprintf(result, TRIAL_RESULT_BYTES, "%s refused: %s", TRIALS[i].word, strerrorname_np(errno));
    else
        (void)snprintf(result, TRIAL_RESULT_BYTES, "%s done: %ld", TRIALS[i].word, rc);
}

void trial_run(const char *word, char result[TRIAL_RESULT_BYTES]) {
    (void)snprintf(result, TRIAL_RESULT_BYTES, "%s: no such trial", word);
    for (size_t i = 0; i < sizeof TRIALS / sizeof *TRIALS; i++)
        if (strcmp(TRIALS[i].word, word) == 0)
            run_one(i, result);
}
