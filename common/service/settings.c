#include <assert.h>
#include <ctype.h>
#include <stdio.h>

#include "service/skeleton.h"

#define OFF(member) offsetof(struct skeleton_values, member)

static const struct setting EVERY[] = {
    /* name                     type        default       min max    unit offset                 help */
    { "ENVIRONMENT",            SET_TEXT,   "production", 1,  32,    "",  OFF(environment),      "development or production; production refuses what only a laptop may do." },
    { "LOG_LEVEL",              SET_TEXT,   "info",       1,  8,     "",  OFF(log_level),        "debug, info, warn or error." },
    { "CORDON_METRICS_LISTEN",  SET_TEXT,   "",           0,  64,    "",  OFF(metrics_listen),   "Address of /metrics and /health, 127.0.0.1:9100 or [::]:9100; none when empty." },
    { "CORDON_CURVE_SECRET_KEY", SET_SECRET, NULL,        40, 40,    "",  OFF(curve_secret_key), "This process's CURVE secret key, Z85." },
    { "CORDON_REQUIRE_HARDENING", SET_TEXT, "no_new_privs,capabilities,no_core_dumps,environment,system_calls", 0, 256, "", OFF(required_hardening),
      "Without which of these the process does not start; also landlock and locked_memory, which not every platform has." },
    OTLP_SETTINGS(struct skeleton_values, otlp),
};

static const struct setting SERVING[] = {
    { "CORDON_BUS_LISTEN",      SET_TEXT,   NULL,         7,  128,   "",  OFF(bus_listen),       "Where the bus listens, tcp://127.0.0.1:18110 or tcp://[::]:18110." },
    { "CORDON_WORKERS",         SET_INT,    "32",         1,  1024,  "",  OFF(worker_count),     "Calls handled at once; streams take at most three quarters of them." },
    { "CORDON_QUEUE",           SET_INT,    "256",        0,  65536, "",  OFF(queue_count),      "Calls that may wait for a worker; more are answered busy." },
};

static void add(struct skeleton_table *table, const struct setting *row) {
    assert(table->row_count < SKELETON_ROWS_MAX - 1);
    table->rows[table->row_count++] = *row;
}

/* "CORDON_INGEST_WORKER" and the suffix. */
static const char *peer_setting(struct skeleton_table *table, enum peer peer, const char *suffix) {
    char *name = table->names[table->name_count];
    (void)snprintf(name, SKELETON_NAME_BYTES, "CORDON_%s_%s", peer_name(peer), suffix);
    for (char *c = name; *c; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return name;
}

static void add_peer_row(struct skeleton_table *table, enum peer peer, const char *suffix, struct setting row) {
    row.name = peer_setting(table, peer, suffix);
    table->name_count++;
    add(table, &row);
}

unsigned service_callers(const struct service *svc) {
    unsigned peers = 0;
    for (const struct route *r = svc->routes; r && r->method; r++)
        peers |= r->peers;
    return peers;
}

void skeleton_table_fill(struct skeleton_table *table, const struct service *svc) {
    *table = (struct skeleton_table){ 0 };
    for (size_t i = 0; i < sizeof EVERY / sizeof *EVERY; i++)
        add(table, &EVERY[i]);
    for (size_t i = 0; svc->routes && i < sizeof SERVING / sizeof *SERVING; i++)
        add(table, &SERVING[i]);
    unsigned peers = service_callers(svc) | svc->calls;
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        if (peers & peer_at(i))
            add_peer_row(table, peer_at(i), "PUBLIC_KEY",
                         (struct setting){ .type = SET_TEXT,
                                           .min = 40,
                                           .max = 40,
                                           .offset = OFF(public_keys) + i * sizeof(char *),
                                           .help = "CURVE public key of this peer, Z85." });
        if (svc->calls & peer_at(i))
            add_peer_row(table, peer_at(i), "ENDPOINTS",
                         (struct setting){ .type = SET_TEXT,
                                           .min = 7,
                                           .max = 4096,
                                           .offset = OFF(endpoints) + i * sizeof(char *),
                                           .help = "Where the peer's replicas listen: tcp://host:port, comma-separated; names are "
                                                   "resolved to all their addresses, every 3 s. Or file:///path, with one a line." });
    }
}
