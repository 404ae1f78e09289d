/* trace — which request a thread is working for, and where its time goes. W3C trace context (Level 1) comes in
 * from clients and travels with every call; a scope is opened around the work of one request, call or job
 * attempt, spans are the calls made inside it. Spans hold ids, method and route names, statuses, sizes; never
 * anything of a document, a question or a person.
 *
 * A scope belongs to the thread that opened it, is in place (usually on its stack) and is closed in the reverse
 * order. It is the thread's current one until then: log lines carry its ids, spans are its children, their time is
 * counted under its hops. Without a scope spans are measured and forgotten. */
#ifndef CORDON_OBS_TRACE_H
#define CORDON_OBS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "core/uuid.h"

enum hop {
    HOP_NONE,
#define HOP(id, number, name, prefix) id = (number),
#include "obs/hops.def"
#undef HOP
    HOP_COUNT
};

const char *hop_name(enum hop hop);             /* "db"; "" when unknown; static */
enum hop hop_of(const char *call);              /* "kms.Decrypt" -> HOP_KMS; HOP_NONE when none fits */

/* ---- context ---- */

enum { TRACE_ID_BYTES = 16, SPAN_ID_BYTES = 8, TRACEPARENT_BYTES = 56, TRACE_SAMPLED = 1 };

struct trace_context {
    uint8_t trace_id[TRACE_ID_BYTES], span_id[SPAN_ID_BYTES];
    uint8_t flags;                              /* TRACE_SAMPLED or 0; Level 1 knows no other */
};

/* Strict: lower-case hexadecimal, no zero id, version 00 of exactly 55 characters, a later one at least that long
 * and not ff. False, *ret_context untouched, for anything else. */
bool trace_parse(const char *traceparent, struct trace_context *ret_context);
const char *trace_format(const struct trace_context *context, char out[TRACEPARENT_BYTES]);

/* ---- spans ---- */

enum span_kind { SPAN_INTERNAL = 1, SPAN_SERVER, SPAN_CLIENT, SPAN_PRODUCER, SPAN_CONSUMER };    /* OTLP's numbers */
enum { SPAN_NAME_BYTES = 64, SPAN_TEXT_BYTES = 64, SPAN_ATTRIBUTES_MAX = 8 };

struct span_attribute {
    const char *name;                           /* static */
    bool is_number;
    int64_t number;
    char text[SPAN_TEXT_BYTES];                 /* cut when longer */
};

struct trace_scope;

struct span {
    struct trace_context context;
    uint8_t parent_id[SPAN_ID_BYTES];           /* zero: it begins its trace */
    enum span_kind kind;
    enum hop hop;
    char name[SPAN_NAME_BYTES];
    struct uuid request_id, tenant_id;          /* of the scope; nil when unknown; set when it ends */
    int64_t began_us, began_unix_us, took_us;
    enum status status;
    unsigned attribute_count;
    struct span_attribute attributes[SPAN_ATTRIBUTES_MAX];
    struct trace_scope *scope;                  /* NULL: not begun, or ended, or outside any scope */
};

/* A call made inside the current scope. Ends on the same thread, before its scope. name: cut when longer. */
void span_begin(struct span *span, const char *name);
/* A text of a name that is there already is added to it, behind a space. */
void span_text(struct span *span, const char *name, const char *value);
void span_number(struct span *span, const char *name, int64_t value);
/* Counts its time under its hop and gives it to the exporter. Twice, or without span_begin: nothing happens. */
void span_end(struct span *span, enum status st);

/* ---- scopes ---- */

struct trace_scope {
    struct span span;
    struct trace_scope *outer;
    struct uuid request_id, tenant_id;
    int64_t hop_us[HOP_COUNT];
};

/* traceparent: of whoever asked for this work; NULL: the current scope, if there is one. When it is "" or malformed a
 * new trace begins. */
void trace_begin(struct trace_scope *scope, enum span_kind kind, const char *name, const char *traceparent);
void trace_end(struct trace_scope *scope, enum status st);

/* For a thread that does a piece of the work of another one, which waits for it: until trace_return this thread is
 * in of's scope (NULL: in none), without a span of its own. trace_return counts the hops there; whoever calls it
 * keeps others that work for the same scope out meanwhile. */
void trace_adopt(struct trace_scope *scope, const struct trace_scope *of);
void trace_return(struct trace_scope *scope, struct trace_scope *of);

struct trace_scope *trace_current(void);        /* NULL: none */
/* For log lines and spans from now on; nothing happens without a scope. Inner scopes begin with the outer one's. */
void trace_request(const struct uuid *request_id);
void trace_tenant(const struct uuid *tenant_id);
/* What the callee of a call says about its own hops: counted in the current scope. Unknown places are ignored. */
void trace_add_hops(const uint32_t us[], size_t count);
/* The current scope's, as they go into a REPLY; returns how many of them to send. */
size_t trace_hops(uint32_t ret_us[HOP_COUNT]);
/* Server-Timing of a scope (RFC-like list of W3C Server Timing): "total;dur=12.345, db;dur=1.2"; returns out. */
enum { TRACE_TIMING_BYTES = 320 };
const char *trace_timing(const struct trace_scope *scope, char out[TRACE_TIMING_BYTES]);

/* ---- export ---- */

/* OTEL_TRACES_SAMPLER's names; a sampler that is parentbased_ follows a caller's flag where there is a caller. */
struct trace_sampler { bool is_parent_based; double ratio; };
/* False: unknown name, or argument outside [0, 1]. argument "": 1. */
bool trace_sampler_from_text(const char *name, const char *argument, struct trace_sampler *ret_sampler);

/* Who gets the spans that are sampled, on the threads where they end; must not block. Set before threads start, reset
 * (emit NULL) after they ended. Without one every caller's flag is passed on and nothing is recorded. */
struct trace_export {
    struct trace_sampler sampler;
    void (*emit)(void *ctx, const struct span *span);
    void *ctx;
};
void trace_open(const struct trace_export *to);

#endif
