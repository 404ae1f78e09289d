/* edge — the state of the process, made in open() and shared by all listener threads. */
#ifndef CORDON_EDGE_EDGE_H
#define CORDON_EDGE_EDGE_H

#include <civetweb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"
#include "clients.h"
#include "doors.h"
#include "quotas.h"
#include "service/service.h"

struct auth_cache;
struct patience;
struct red;
struct watch;

struct edge_settings {
    const char *http_host, *allowed_origins, *allowed_hosts, *trusted_proxies, *address_header, *rate_user, *rate_tenant;
    int64_t port, threads, max_upload_bytes, upload_ms, body_min_rate, slow_ms, rate_address, replicas, login_failures, lockout_max_s;
};

struct edge {
    const struct edge_settings *settings;
    struct runtime *rt;
    struct mg_context *http;            /* NULL until start() */
    struct auth_cache *tickets;
    struct patience *patience;
    struct watch *watch;                /* NULL until start() */
    struct clients clients;             /* from start() on */
    struct red *red;                    /* rate, errors, durations per route */
    struct buffer openapi, docs_page, docs_policy;      /* printed once, then only read */
    struct counter *denials_lost;       /* refusals that auth did not take for the record */
    struct gauge *in_flight_gauge;
    atomic_uint in_flight;
    struct doors doors;
    struct quotas quotas;
    struct proxies proxies;             /* whose word about addresses is taken */
    atomic_ptrdiff_t info_offset;       /* of the request in a connection; 0: not known yet */
    atomic_bool is_draining;
};

extern const struct service EDGE;

/* The bus client of this connection; lent on first use, until the connection ends. */
struct bus_client *edge_bus(const struct mg_connection *conn);

/* --openapi, --endpoints-markdown, --error-codes-markdown: print and return true, without settings or servers. */
bool edge_print(int argc, char **argv, int *ret_exit);

#endif
