#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine/confine.h"

/* Debian 12's header ends at version 3; numbers from include/uapi/linux/landlock.h. */
enum { VERSION_NET = 4, VERSION_SCOPE = 6, RULE_NET_PORT = 2 };
static const uint64_t FS_REFER = 1ULL << 13, FS_TRUNCATE = 1ULL << 14, FS_IOCTL_DEV = 1ULL << 15;
static const uint64_t NET_BIND_TCP = 1ULL << 0, SCOPE_ABSTRACT_SOCKETS = 1ULL << 0, SCOPE_SIGNALS = 1ULL << 1;

struct ruleset_attr { uint64_t fs, net, scoped; };
struct port_attr { uint64_t allowed, port; };

static const uint64_t OF_FILES = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE;
static const uint64_t CHANGES = LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE;

int landlock_version(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

/* Everything that this version can forbid. */
static uint64_t all_files(int version) {
    uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    return all | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) | (version >= 5 ? FS_IOCTL_DEV : 0);
}

static uint64_t rights(unsigned access) {
    uint64_t fs = 0;
    if (access & FILES_READ)
        fs |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    if (access & (FILES_WRITE | FILES_CHANGE))
        fs |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
    if (access & FILES_CHANGE)
        fs |= CHANGES;
    if (access & FILES_EXECUTE)
        fs |= LANDLOCK_ACCESS_FS_EXECUTE;
    return fs;
}

static enum status allow_files(int rules, const struct file_rule *rule, uint64_t all, struct why *why) {
    struct stat about;
    int fd = open(rule->path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0)
        return ST_OK;                           /* not on this system: nothing to allow */
    uint64_t may = rights(rule->access) & all & (S_ISDIR(about.st_mode) ? ~0ULL : OF_FILES | FS_TRUNCATE);
    struct landlock_path_beneath_attr below = { .allowed_access = may, .parent_fd = fd };
    long done = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0);
    (void)close(fd);
    return done == 0 ? ST_OK : fail(why, ST_INTERNAL, "landlock: rule for %s: errno %d", rule->path, errno);
}

static enum status fill(int rules, int version, unsigned who, const struct file_rule *more, const uint16_t *ports, struct why *why) {
    enum status st = ST_OK;
    for (const struct file_rule *rule = HARDENING_FILES; rule->path && st == ST_OK; rule++)
        if (rule->who & who)
            st = allow_files(rules, rule, all_files(version), why);
    for (; more && more->path && st == ST_OK; more++)
        st = allow_files(rules, more, all_files(version), why);
    for (; version >= VERSION_NET && *ports && st == ST_OK; ports++) {
        struct port_attr one = { NET_BIND_TCP, *ports };
        if (syscall(SYS_landlock_add_rule, rules, RULE_NET_PORT, &one, 0) != 0)
            st = fail(why, ST_INTERNAL, "landlock: rule for port %u: errno %d", *ports, errno);
    }
    if (st == ST_OK && syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        st = fail(why, ST_INTERNAL, "landlock: restrict: errno %d", errno);
    return st;
}

enum status confine_files(unsigned who, const struct file_rule *more, const uint16_t *ports, struct why *why) {
    int version = landlock_version();
    if (version == 0)
        return fail(why, ST_UNAVAILABLE, "the kernel offers no Landlock");
    struct ruleset_attr attr = { .fs = all_files(version),
                                 .net = version >= VERSION_NET ? NET_BIND_TCP : 0,
                                 .scoped = version >= VERSION_SCOPE ? SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS : 0 };
    size_t size = version >= VERSION_SCOPE ? sizeof attr : version >= VERSION_NET ? offsetof(struct ruleset_attr, scoped) : sizeof attr.fs;
    int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (rules < 0)
        return fail(why, ST_INTERNAL, "landlock: ruleset: errno %d", errno);
    enum status st = fill(rules, version, who, more, ports, why);
    (void)close(rules);
    return st;
}
