/* What a process has given up: each thing is tried by a child that gave it up, and an equal one that did not. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine/confine.h"

enum { REFUSED = 0, DONE = 1, NOT_CONFINED = 2 };

static const uint16_t NO_PORTS[] = { 0 };
static uint16_t port;       /* that may be listened on */
static char folder[64];     /* outside every rule */

static enum status confine_as(unsigned who) {
    struct why why = { 0 };
    const uint16_t ports[] = { port, 0 };
    enum status st = confine_privileges(&why);
    if (st == ST_OK)
        st = confine_files(who, NULL, port ? ports : NO_PORTS, &why);
    return st == ST_OK ? confine_calls(who, NULL, ENOSYS, &why) : st;
}

/* How a child ended that tried this: its exit status, or 128 and the signal. */
static int outcome(long (*attempt)(void), unsigned who) {
    pid_t pid = fork();
    if (pid == 0) {
        if (who && confine_as(who) != ST_OK)
            _exit(NOT_CONFINED);
        _exit(attempt() < 0 ? REFUSED : DONE);
    }
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static long open_file(const char *name, int flags) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return open(path, flags | O_CLOEXEC, 0600);
}

static long read_it(void) { return open_file("there", O_RDONLY); }
static long write_it(void) { return open_file("there", O_WRONLY); }
static long make_one(void) { return open_file("new", O_WRONLY | O_CREAT); }
static long write_hosts(void) { return open("/etc/hosts", O_WRONLY | O_CLOEXEC); }
static long read_hosts(void) { return open("/etc/hosts", O_RDONLY | O_CLOEXEC); }
static long read_memory(void) { return open("/proc/self/mem", O_RDONLY | O_CLOEXEC); }
static long unlink_it(void) { return unlink("/etc/nothing") < 0 && errno == ENOENT ? 0 : -1; }
static long packet_socket(void) { return socket(AF_PACKET, SOCK_RAW, 0) >= 0 || errno != ENOSYS ? 0 : -1; }
static long become_somebody(void) { return syscall(SYS_setuid, getuid()); }
static long shell(void) { return execl("/bin/false", "false", (char *)NULL); }
static long trace(void) { return ptrace(PTRACE_TRACEME, 0, NULL, NULL); }
static long fork_again(void) { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static long new_user(void) { return syscall(SYS_unshare, 0x10000000); }

static long map_code(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}

static long bind_port(uint16_t at_port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(at_port) };
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return bind(fd, (const struct sockaddr *)&at, sizeof at);
}

static long bind_own(void) { return bind_port(port); }
static long bind_other(void) { return bind_port((uint16_t)(port + 1)); }

static void make_folder(void) {
    (void)snprintf(folder, sizeof folder, "/tmp/cordon-confine-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    cr_assert_geq(make_one(), 0);
    char from[128], to[128];
    (void)snprintf(from, sizeof from, "%s/new", folder);
    (void)snprintf(to, sizeof to, "%s/there", folder);
    cr_assert_eq(rename(from, to), 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    cr_assert_eq(bind(listener, (struct sockaddr *)&at, len), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    port = ntohs(at.sin_port);
    (void)close(listener);
}

static void remove_folder(void) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/there", folder);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/new", folder);
    (void)unlink(path);
    (void)rmdir(folder);
}

TestSuite(confine, .init = make_folder, .fini = remove_folder, .timeout = 60);

struct attempt { const char *what; long (*run)(void); int alone, spawning; };

Test(confine, what_is_in_no_row_is_refused_or_ends_the_process) {
    if (landlock_version() < 4)
        cr_skip("this kernel has no Landlock for ports");
    static const struct attempt ATTEMPTS[] = {
        { "read names of hosts", read_hosts, DONE, DONE },
        { "write them", write_hosts, REFUSED, REFUSED },
        { "read outside", read_it, REFUSED, REFUSED },
        { "write outside", write_it, REFUSED, REFUSED },
        { "make a file", make_one, REFUSED, REFUSED },
        { "read memory by its file", read_memory, REFUSED, REFUSED },
        { "remove a file", unlink_it, REFUSED, REFUSED },
        { "listen where it should", bind_own, DONE, DONE },
        { "listen elsewhere", bind_other, REFUSED, REFUSED },
        { "a socket of another kind", packet_socket, REFUSED, REFUSED },
        { "become another user", become_somebody, REFUSED, REFUSED },
        { "map code", map_code, REFUSED, DONE },
        { "fork", fork_again, REFUSED, DONE },
        { "a shell", shell, 128 + SIGSYS, REFUSED },
        { "trace", trace, 128 + SIGSYS, 128 + SIGSYS },
        { "a namespace", new_user, 128 + SIGSYS, 128 + SIGSYS },
    };
    for (size_t i = 0; i < sizeof ATTEMPTS / sizeof *ATTEMPTS; i++) {
        const struct attempt *a = &ATTEMPTS[i];
        if (a->alone == REFUSED)        /* the end of the process is hardening's own; some platforms refuse a namespace, in a chroot for one */
            cr_expect_neq(outcome(a->run, 0), REFUSED, "%s: refused without hardening too, so nothing is shown", a->what);
        cr_expect_eq(outcome(a->run, CONFINED_PEER_QUERY), a->alone, "%s by query: %d", a->what, outcome(a->run, CONFINED_PEER_QUERY));
        cr_expect_eq(outcome(a->run, CONFINED_PEER_INGEST_WORKER), a->spawning, "%s by ingest-worker: %d", a->what, outcome(a->run, CONFINED_PEER_INGEST_WORKER));
    }
}

/* Rows that an architecture does not have are skipped, and it still gets a filter of its own calls. */
Test(confine, every_process_has_a_filter_on_both_architectures) {
    static const uint32_t ARCHITECTURES[] = { SCMP_ARCH_X86_64, SCMP_ARCH_AARCH64 };
    for (unsigned bit = 0; bit <= 16; bit = bit == 5 ? 16 : bit + 1)
        for (size_t i = 0; i < 2; i++) {
            struct why why = { 0 };
            FILE *rules = tmpfile();
            static char text[256 << 10];
            cr_assert_eq(confine_calls_print(1U << bit, ARCHITECTURES[i], fileno(rules), &why), ST_OK, "%s", why.text);
            rewind(rules);
            text[fread(text, 1, sizeof text - 1, rules)] = '\0';
            (void)fclose(rules);
            static const char *const WANTED[] = { "openat", "futex", "mmap", "read", "rt_sigreturn", "exit_group", "ppoll" };
            for (size_t w = 0; w < sizeof WANTED / sizeof *WANTED; w++) {
                char row[64];
                (void)snprintf(row, sizeof row, "\"%s\"", WANTED[w]);
                cr_expect_not_null(strstr(text, row), "process %u, architecture %zu: %s", bit, i, WANTED[w]);
            }
        }
}

Test(confine, every_row_names_a_call_that_the_library_knows) {
    for (const struct call_rule *rule = HARDENING_CALLS; rule->name; rule++) {
        cr_expect_neq(seccomp_syscall_resolve_name(rule->name), __NR_SCMP_ERROR, "%s", rule->name);
        cr_expect_neq(rule->who, 0, "%s is for nobody", rule->name);
    }
}

/* Everything that the extractor may do its parent may: a filter is inherited. */
Test(confine, the_extractor_may_do_nothing_that_its_parent_may_not) {
    for (const struct call_rule *rule = HARDENING_CALLS; rule->name; rule++) {
        bool is_allowed = !(rule->who & CONFINED_CHILD);
        for (const struct call_rule *parent = HARDENING_CALLS; parent->name; parent++)
            is_allowed |= strcmp(parent->name, rule->name) == 0 && parent->who & CONFINED_PEER_INGEST_WORKER && parent->answer == CALL_ALLOW;
        cr_expect(is_allowed, "%s", rule->name);
    }
}

static void end_by_a_fault(void) {
    char canary[32];
    (void)snprintf(canary, sizeof canary, "%s-%s", "canary", "in-memory");
    (void)signal(SIGSEGV, SIG_DFL);
    (void)kill(getpid(), SIGSEGV);
    _exit(canary[0]);
}

/* A core of a child that asks for one; status says whether the kernel wrote it. */
static bool leaves_core(bool is_confined) {
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
        struct why why;
        if (chdir(folder) != 0 || setrlimit(RLIMIT_CORE, &all) != 0 || (is_confined && confine_dumps(&why) != ST_OK))
            _exit(1);
        if (is_confined)
            (void)prctl(PR_SET_DUMPABLE, 0);
        end_by_a_fault();
    }
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFSIGNALED(status));
    return WCOREDUMP(status);
}

Test(confine, a_process_without_dumps_leaves_none) {
    cr_expect_not(leaves_core(true));
    char command[128];
    (void)snprintf(command, sizeof command, "rm -f %s/core*", folder);
    (void)!system(command);
}

Test(confine, capabilities_are_gone_from_every_set) {
    pid_t pid = fork();
    if (pid == 0) {
        struct why why;
        bool is_bounded = false;
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = { { 1, 1, 1 }, { 0 } };
        if (confine_capabilities(&is_bounded, &why) != ST_OK || syscall(SYS_capget, &header, have) != 0)
            _exit(1);
        if (have[0].effective | have[0].permitted | have[0].inheritable | have[1].effective | have[1].permitted | have[1].inheritable)
            _exit(2);
        for (int cap = 0; is_bounded && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
            if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 0)
                _exit(3);
        _exit(0);
    }
    int status = 0;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect_eq(status, 0, "%d", WEXITSTATUS(status));
}

Test(confine, memory_that_may_not_be_locked_is_told) {
    cr_expect(memory_is_lockable());
    struct rlimit none = { 0, 0 };
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    if (geteuid() != 0)     /* CAP_IPC_LOCK has no limit */
        cr_expect_not(memory_is_lockable());
}
