#include <seccomp.h>

#include "confine/confine.h"

enum { OPTIMIZE_AS_TREE = 2 };

static void release(scmp_filter_ctx *filter) {
    if (*filter)
        seccomp_release(*filter);
}

static int add(scmp_filter_ctx filter, const struct call_rule *rule) {
    uint32_t action = rule->answer == CALL_KILL ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ALLOW;
    int number = seccomp_syscall_resolve_name(rule->name);
    if (number == __NR_SCMP_ERROR)
        return 0;                               /* newer than the library: nothing here was built to call it */
    if (!rule->mask)
        return seccomp_rule_add(filter, action, number, 0);
    struct scmp_arg_cmp same = { rule->argument, SCMP_CMP_MASKED_EQ, rule->mask, rule->value };
    return seccomp_rule_add_array(filter, action, number, 1, &same);
}

static enum status fill(scmp_filter_ctx filter, unsigned who, struct why *why) {
    for (const struct call_rule *rule = HARDENING_CALLS; rule->name; rule++)
        if (rule->who & who && add(filter, rule) != 0)
            return fail(why, ST_INTERNAL, "seccomp: rule for %s", rule->name);
    return ST_OK;
}

enum status confine_calls(unsigned who, const char *const *more, int otherwise_errno, struct why *why) {
    CLEANUP(release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO((uint32_t)otherwise_errno));
    if (!filter)
        return fail(why, ST_INTERNAL, "seccomp: no filter");
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, OPTIMIZE_AS_TREE);
    enum status st = fill(filter, who, why);
    for (; more && *more && st == ST_OK; more++)
        if (add(filter, &(struct call_rule){ .name = *more }) != 0)
            st = fail(why, ST_INTERNAL, "seccomp: rule for %s", *more);
    int rc = st == ST_OK ? seccomp_load(filter) : 0;
    return rc == 0 ? st : fail(why, ST_UNAVAILABLE, "seccomp: the kernel takes no filter: errno %d", -rc);
}

enum status confine_calls_print(unsigned who, uint32_t arch, int fd, struct why *why) {
    CLEANUP(release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(1));
    if (!filter)
        return fail(why, ST_INTERNAL, "seccomp: no filter");
    if (arch != seccomp_arch_native() && (seccomp_arch_add(filter, arch) != 0 || seccomp_arch_remove(filter, SCMP_ARCH_NATIVE) != 0))
        return fail(why, ST_INTERNAL, "seccomp: architecture %#x", arch);
    enum status st = fill(filter, who, why);
    return st != ST_OK || seccomp_export_pfc(filter, fd) == 0 ? st : fail(why, ST_INTERNAL, "seccomp: rules cannot be printed");
}
