#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "confine/confine.h"
#include "core/fault.h"
#include "core/str.h"
#include "service/skeleton.h"

enum { NEEDS_FILES_MAX = 40, NEEDS_PORTS_MAX = 8 };

struct needs {
    struct file_rule files[NEEDS_FILES_MAX + 1];
    char paths[NEEDS_FILES_MAX][1024];
    uint16_t ports[NEEDS_PORTS_MAX + 1];
    unsigned file_count, port_count;
};

static const char *const NAMES[HARDEN_COUNT] = {
    [HARDEN_NO_NEW_PRIVS] = "no_new_privs",   [HARDEN_CAPABILITIES] = "capabilities", [HARDEN_NO_CORE_DUMPS] = "no_core_dumps",
    [HARDEN_LOCKED_MEMORY] = "locked_memory", [HARDEN_ENVIRONMENT] = "environment",   [HARDEN_LANDLOCK] = "landlock",
    [HARDEN_SYSTEM_CALLS] = "system_calls",
};

const char *hardening_name(enum hardening_step step) {
    return NAMES[step];
}

static void PRINTF(4, 5) note(struct hardening *h, enum hardening_step step, bool is_done, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    h->steps[step].is_done = is_done;
    (void)vsnprintf(h->steps[step].text, HARDENING_TEXT_BYTES, fmt, ap);
    va_end(ap);
}

static void add_file(struct needs *needs, const char *path, unsigned access) {
    if (needs->file_count == NEEDS_FILES_MAX)
        return;                                 /* closed rather than open: what is not in the list cannot be read */
    (void)snprintf(needs->paths[needs->file_count], sizeof *needs->paths, "%s", path);
    needs->files[needs->file_count] = (struct file_rule){ .path = needs->paths[needs->file_count], .access = access };
    needs->file_count++;
}

static void add_folder(void *needs, const char *path) {
    add_file(needs, path, FILES_READ);
}

void needs_program(struct needs *needs, const char *path) {
    add_file(needs, path, FILES_READ | FILES_EXECUTE);
}

void needs_port(struct needs *needs, int64_t port) {
    if (port > 0 && port <= UINT16_MAX && needs->port_count < NEEDS_PORTS_MAX)
        needs->ports[needs->port_count++] = (uint16_t)port;
}

/* The port at the end of an address; there is one, or whoever listens will say so. */
static void add_port_of(struct needs *needs, const char *address) {
    const char *colon = address ? strrchr(address, ':') : NULL;
    int64_t port = 0;
    if (colon && str_to_i64(colon + 1, 1, UINT16_MAX, &port))
        needs_port(needs, port);
}

static void raise_to_most(__rlimit_resource_t resource) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(resource, &limit);
    }
}

enum status harden_begin(struct hardening *h, struct why *why) {
    bool is_bounded = false;
    enum status st = confine_privileges(why);
    if (st == ST_OK)
        st = confine_capabilities(&is_bounded, why);
    if (st == ST_OK)
        st = confine_dumps(why);
    if (st != ST_OK)
        return st;
    raise_to_most(RLIMIT_NOFILE);
    raise_to_most(RLIMIT_MEMLOCK);
    note(h, HARDEN_NO_NEW_PRIVS, true, "ok");
    note(h, HARDEN_CAPABILITIES, true, is_bounded ? "ok" : "none held; the bounding set is its parent's");
    note(h, HARDEN_NO_CORE_DUMPS, true, "ok");
    return ST_OK;
}

static enum status close_files(struct hardening *h, unsigned who, const struct needs *needs, struct why *why) {
    struct why own = { 0 };
    enum status st = confine_files(who, needs->files, needs->ports, &own);
    if (st == ST_OK)
        note(h, HARDEN_LANDLOCK, true, "ok, version %d", landlock_version());
    else if (st == ST_UNAVAILABLE)
        note(h, HARDEN_LANDLOCK, false, "%s", own.text);
    else
        *why = own;
    return st == ST_UNAVAILABLE ? ST_OK : st;
}

static enum status close_calls(struct hardening *h, unsigned who, const char *const *more, struct why *why) {
    struct why own = { 0 };
    enum status st = confine_calls(who, more, ENOSYS, &own);
    if (st == ST_OK)
        note(h, HARDEN_SYSTEM_CALLS, true, "ok");
    else if (st == ST_UNAVAILABLE)
        note(h, HARDEN_SYSTEM_CALLS, false, "%s", own.text);
    else
        *why = own;
    return st == ST_UNAVAILABLE ? ST_OK : st;
}

/* Every word of the setting is a step, and each of them was taken. */
static enum status check_required(const struct hardening *h, const char *words, struct why *why) {
    for (; *words; words += strspn(words, ", ")) {
        size_t len = strcspn(words, ", ");
        unsigned step = 0;
        while (step < HARDEN_COUNT && !(strlen(NAMES[step]) == len && strncmp(NAMES[step], words, len) == 0))
            step++;
        if (step == HARDEN_COUNT)
            return fail(why, ST_INVALID, "CORDON_REQUIRE_HARDENING: there is no '%.*s'", (int)len, words);
        if (!h->steps[step].is_done)
            return fail(why, ST_FORBIDDEN, "CORDON_REQUIRE_HARDENING: %s: %s", NAMES[step], h->steps[step].text);
        words += len;
    }
    return ST_OK;
}

static void gather(struct needs *needs, const struct service *svc, const void *settings, const struct skeleton_values *values, const struct setting *rows) {
    const struct fault_needs *faults = fault_needs();
    config_each_folder(rows, values, add_folder, needs);
    if (svc->settings)
        config_each_folder(svc->settings, settings, add_folder, needs);
    add_port_of(needs, values->metrics_listen);
    add_port_of(needs, values->bus_listen);
    if (svc->needs)
        svc->needs(settings, needs);
    if (faults && *faults->folder)
        add_file(needs, faults->folder, FILES_READ | FILES_CHANGE);
}

enum status harden_finish(struct hardening *h, const struct service *svc, const void *settings, const struct skeleton_values *values,
                          const struct setting *rows, bool is_production, struct why *why) {
    bool is_wiped = config_is_environment_wiped(), is_lockable = memory_is_lockable();
    note(h, HARDEN_ENVIRONMENT, is_wiped, is_wiped ? "ok" : "variables are left");
    note(h, HARDEN_LOCKED_MEMORY, is_lockable, is_lockable ? "ok" : "keys cannot be locked: RLIMIT_MEMLOCK");
    if (!CORDON_CONFINED) {
        note(h, HARDEN_LANDLOCK, true, "not in this build");
        note(h, HARDEN_SYSTEM_CALLS, true, "not in this build");
        return is_production ? fail(why, ST_FORBIDDEN, "built for sanitizers, without hardening: not for production")
                             : check_required(h, values->required_hardening, why);
    }
    struct needs needs = { 0 };
    gather(&needs, svc, settings, values, rows);
    enum status st = close_files(h, svc->peer, &needs, why);
    if (st == ST_OK)
        st = close_calls(h, svc->peer, fault_needs() ? fault_needs()->calls : NULL, why);
    return st == ST_OK ? check_required(h, values->required_hardening, why) : st;
}
