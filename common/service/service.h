/* service — the skeleton that every process shares: settings, key, bus, worker threads, dispatch,
 * health, metrics, drain. main.c declares a struct service and calls service_main.
 *
 * Threads: the main thread waits for signals; the bus's network thread moves messages; `workers`
 * handler threads run plain synchronous handlers, one call each; a metrics listener answers Prometheus
 * and health. State is the service's own struct, made in open(), passed to handlers, shared by threads. */
#ifndef CORDON_SERVICE_SERVICE_H
#define CORDON_SERVICE_SERVICE_H

#include <protobuf-c/protobuf-c.h>

#include "bus/bus.h"
#include "config/config.h"
#include "core/scopes.h"
#include "core/status.h"
#include "obs/metrics.h"

/* Answer one call: read req, fill reply (initialised, in call->mem). Never logs; detail goes to
 * call->why and the skeleton writes the one log line. */
typedef enum status (*handler_fn)(void *self, struct call *call, const ProtobufCMessage *req, ProtobufCMessage *reply);

struct route {
    const char *method;                         /* "query.Search" */
    unsigned peers;                             /* enum peer bits that may call it */
    uint64_t scope;                             /* what the handler passes to tenant_tx_begin; SCOPE_NONE: no tenant data */
    const ProtobufCMessageDescriptor *req, *reply;
    handler_fn handle;
};

struct runtime_stop;
struct secrets;

/* Where secrets are that settings name instead of giving them: &SECRETS_MANAGER of common/secrets. */
struct secret_store {
    /* Before the process confines itself and without a thread: each reference gets its value; the list is taken. */
    enum status (*fetch)(struct config_references *references, const void *aws_settings, bool is_production,
                         struct secrets **ret_secrets, struct why *why);
    void (*stop)(struct secrets *secrets);              /* from here on nothing is read again */
    void (*destroy)(struct secrets **secrets_p);
};

/* What a running process offers to open(), start() and handlers. Lives until close() has returned. */
struct runtime {
    const char *process;                        /* "query" */
    bool is_production;                         /* ENVIRONMENT is not development */
    const char *version;
    struct uuid instance_id;                    /* of this start, for the record of it */
    char settings_sha256[65];                   /* of the settings' values, in hex, of secrets only whether they are there; */
    char settings_changed[4096];                /* and names of those that are not the default: for the record of the start */
    struct bus *bus;                            /* NULL until the bus runs: not in open() */
    struct metrics *metrics;
    struct secrets *secrets;                    /* NULL: the settings name none */
    bool has_left_behind;                       /* set by close(): a thread of the service does not end, nothing more is taken down */
    struct runtime_stop *stop;                  /* NULL in tests that never stop; asked through the functions below */
    struct runtime_stop *halt;                  /* set when the drain is over: what still runs shall end without an outcome */
};

/* For background threads: a descriptor that becomes readable, for ever, when the process shall stop.
 * Poll it beside whatever else is waited for; never read it. -1 without a stop. */
int runtime_stop_fd(const struct runtime *rt);
bool runtime_is_stopping(const struct runtime *rt);
/* As above, for the end of the drain. Handlers' threads are cancelled by it (core/cancel.h); so are the service's own
 * threads that say cancel_on(runtime_halt_fd(rt)). */
int runtime_halt_fd(const struct runtime *rt);
/* Wait up to ms; true when the process shall stop. */
bool runtime_wait_stop(const struct runtime *rt, int64_t ms);

/* One named check of readiness: ST_OK, or the reason in *why. Runs on the health listener's thread. */
struct ready_check {
    const char *name;                           /* "database" */
    enum status (*check)(void *self, struct why *why);
};

struct needs;

/* For service.needs: a file that may be executed, and a port that is listened on. */
void needs_program(struct needs *needs, const char *path);
void needs_port(struct needs *needs, int64_t port);

struct service {
    const char *name;                           /* "query" */
    enum peer peer;
    const char *about;                          /* one line for --help */
    unsigned calls;                             /* enum peer bits that it may call */
    const char *start_method;                   /* who puts its start on the record, "audit.RecordStart"; NULL: it does so itself, in open() */
    const struct setting *settings;             /* its own table; the skeleton's rows are added */
    size_t settings_size;                       /* sizeof its settings struct */
    const struct secret_store *secrets;         /* NULL: secrets are given, and naming one is refused */
    size_t aws_offset;                          /* offsetof its struct aws_settings, for secrets */
    const struct route *routes;                 /* ends with method == NULL; NULL: binds no bus socket */
    const struct ready_check *ready;            /* ends with name == NULL; peers and drain are checked by the skeleton */
    /* Optional: what its settings add to common/confine/hardening.def; the folders that they name may be read anyway. */
    void (*needs)(const void *settings, struct needs *needs);
    /* Make *self_p, also when it fails: what there is by then is left to close(), which comes when no thread reads secrets
     * again by its AWS. settings lives until close. The process is hardened already. Connect, verify the database role
     * (boot check), assert the AWS identity. */
    enum status (*open)(void **self_p, const void *settings, struct runtime *rt, struct why *why);
    /* Optional: the bus is up; start threads (job loops, the HTTP listener). */
    enum status (*start)(void *self, struct runtime *rt, struct why *why);
    /* Optional: SIGTERM came, runtime_is_stopping is true, callers were told GOAWAY; stop taking new work and
     * finish what runs, within deadline_ms (clock_mono_ms). The bus still answers. Join own threads here or in close. */
    void (*drain)(void *self, int64_t deadline_ms);
    /* Optional: everything was answered, and the process stops. Put that on the record by its own database role; without a database, and
     * with start_method, it is said there. */
    enum status (*record_end)(void *self, const struct runtime *rt, int64_t deadline_ms, struct why *why);
    void (*close)(void **self_p);
    /* Optional: gauges that are asked for at scrape time (queue depth). */
    void (*collect)(void *self, struct metrics *m);
};

/* Whole life of a process. Exit status: 0 after SIGTERM or SIGINT, 1 when it could not start, 2 usage, 3 when a
 * handler did not end within the drain and was left behind. */
int service_main(int argc, char **argv, const struct service *svc);

/* Find the route, check peer and budget, unpack, run. Pure: no sockets, no logging, so that tests drive
 * handlers with a real database and no bus. *ret_reply lives in call->mem. */
enum status service_dispatch(const struct service *svc, void *self, struct call *call, const char *method,
                             ProtobufCBinaryData body, ProtobufCMessage **ret_reply) MUST_USE;

#endif
