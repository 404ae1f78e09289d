#include "obs/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/clock.h"
#include "core/str.h"

enum { TRACEPARENT_LEN = TRACEPARENT_BYTES - 1, REPLY_MAX_US = 3600 * 1000000u };

/* Set before threads start; and what each thread is working for. */
static struct trace_export export;
static _Thread_local struct trace_scope *current;

/* ---- hops ---- */

static const struct { const char *name, *prefix; } HOPS[HOP_COUNT] = {
#define HOP(id, number, name_, prefix_) [number] = { name_, prefix_ },
#include "obs/hops.def"
#undef HOP
};

const char *hop_name(enum hop hop) {
    return (unsigned)hop < HOP_COUNT && HOPS[hop].name ? HOPS[hop].name : "";
}

enum hop hop_of(const char *call) {
    for (unsigned i = 1; i < HOP_COUNT; i++)
        if (HOPS[i].prefix && str_starts_with(call, HOPS[i].prefix))
            return (enum hop)i;
    return HOP_NONE;
}

/* ---- context ---- */

static int nibble(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* len bytes of lower-case hexadecimal. */
static bool read_hex(const char *text, uint8_t *out, size_t len) {
    for (size_t i = 0; i < len; i++) {
        int high = nibble(text[2 * i]), low = high < 0 ? -1 : nibble(text[2 * i + 1]);
        if (low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

bool trace_parse(const char *t, struct trace_context *ret_context) {
    struct trace_context c;
    uint8_t version;
    size_t len = t ? strlen(t) : 0;
    if (len < TRACEPARENT_LEN || !read_hex(t, &version, 1) || version == 0xff ||
        (version == 0 ? len != TRACEPARENT_LEN : len > TRACEPARENT_LEN && t[TRACEPARENT_LEN] != '-'))
        return false;
    if (t[2] != '-' || !read_hex(t + 3, c.trace_id, TRACE_ID_BYTES) || t[35] != '-' ||
        !read_hex(t + 36, c.span_id, SPAN_ID_BYTES) || t[52] != '-' || !read_hex(t + 53, &c.flags, 1))
        return false;
    if (is_zero(c.trace_id, TRACE_ID_BYTES) || is_zero(c.span_id, SPAN_ID_BYTES))
        return false;
    c.flags &= TRACE_SAMPLED;
    *ret_context = c;
    return true;
}

static char *put_hex(char *out, const uint8_t *bytes, size_t len) {
    static const char HEX[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        *out++ = HEX[bytes[i] >> 4];
        *out++ = HEX[bytes[i] & 15];
    }
    return out;
}

const char *trace_format(const struct trace_context *context, char out[TRACEPARENT_BYTES]) {
    char *p = out;
    *p++ = '0';
    *p++ = '0';
    *p++ = '-';
    p = put_hex(p, context->trace_id, TRACE_ID_BYTES);
    *p++ = '-';
    p = put_hex(p, context->span_id, SPAN_ID_BYTES);
    *p++ = '-';
    p = put_hex(p, &context->flags, 1);
    *p = '\0';
    return out;
}

static void fill_random(uint8_t *bytes, size_t len) {
    do
        if (getrandom(bytes, len, 0) != (ssize_t)len)
            abort();        /* requests of up to 256 bytes are never cut short */
    while (is_zero(bytes, len));
}

/* ---- sampling ---- */

bool trace_sampler_from_text(const char *name, const char *argument, struct trace_sampler *ret_sampler) {
    static const struct { const char *name; bool is_parent_based, has_ratio; double ratio; } SAMPLERS[] = {
        { "always_on", false, false, 1 }, { "always_off", false, false, 0 }, { "traceidratio", false, true, 1 },
        { "parentbased_always_on", true, false, 1 }, { "parentbased_always_off", true, false, 0 },
        { "parentbased_traceidratio", true, true, 1 },
    };
    for (unsigned i = 0; i < sizeof SAMPLERS / sizeof *SAMPLERS; i++) {
        if (!str_equal(name, SAMPLERS[i].name))
            continue;
        struct trace_sampler sampler = { SAMPLERS[i].is_parent_based, SAMPLERS[i].ratio };
        char *end = NULL;
        if (SAMPLERS[i].has_ratio && *argument) {
            sampler.ratio = strtod(argument, &end);
            if (*end || !(sampler.ratio >= 0 && sampler.ratio <= 1))
                return false;
        }
        *ret_sampler = sampler;
        return true;
    }
    return false;
}

/* The same for all of a trace: its id's last 7 bytes, which Level 2 calls random, against the ratio. */
static bool is_chosen(const uint8_t trace_id[TRACE_ID_BYTES], double ratio) {
    uint64_t random = 0;
    for (size_t i = TRACE_ID_BYTES - 7; i < TRACE_ID_BYTES; i++)
        random = random << 8 | trace_id[i];
    return (double)random < ratio * 0x1p56;
}

static uint8_t decide(const struct trace_context *parent, const uint8_t trace_id[TRACE_ID_BYTES]) {
    if (parent && (!export.emit || export.sampler.is_parent_based))
        return parent->flags;
    return export.emit && is_chosen(trace_id, export.sampler.ratio) ? TRACE_SAMPLED : 0;
}

/* ---- spans ---- */

static void begin(struct span *span, enum span_kind kind, const char *name, const struct trace_context *parent) {
    span->kind = kind;
    (void)snprintf(span->name, sizeof span->name, "%s", name);
    if (parent) {
        span->context = *parent;
        memcpy(span->parent_id, parent->span_id, SPAN_ID_BYTES);
    } else {
        fill_random(span->context.trace_id, TRACE_ID_BYTES);
    }
    fill_random(span->context.span_id, SPAN_ID_BYTES);
    span->began_us = clock_mono_us();
    span->began_unix_us = clock_unix_us();
}

/* Not all of it: a span is large, and most of it is text that is not there yet. */
static void clear(struct span *span) {
    memset(span, 0, offsetof(struct span, attributes));
    span->scope = NULL;
}

void span_begin(struct span *span, const char *name) {
    clear(span);
    if (!current)
        return;
    begin(span, SPAN_CLIENT, name, &current->span.context);
    span->hop = hop_of(name);
    span->scope = current;
}

/* Where to put it; NULL: nobody will look, or there is no room. */
static struct span_attribute *place(struct span *span, const char *name) {
    if (!export.emit || !(span->context.flags & TRACE_SAMPLED))
        return NULL;
    for (unsigned i = 0; i < span->attribute_count; i++)
        if (str_equal(span->attributes[i].name, name))
            return &span->attributes[i];
    if (span->attribute_count == SPAN_ATTRIBUTES_MAX)
        return NULL;
    struct span_attribute *a = &span->attributes[span->attribute_count++];
    a->name = name;
    a->is_number = false;
    a->text[0] = '\0';
    return a;
}

void span_text(struct span *span, const char *name, const char *value) {
    struct span_attribute *a = place(span, name);
    size_t len = a ? strlen(a->text) : 0;
    if (a)
        (void)snprintf(a->text + len, sizeof a->text - len, "%s%s", len ? " " : "", value);
}

void span_number(struct span *span, const char *name, int64_t value) {
    struct span_attribute *a = place(span, name);
    if (!a)
        return;
    a->is_number = true;
    a->number = value;
}

void span_end(struct span *span, enum status st) {
    struct trace_scope *scope = span->scope;
    if (!scope)
        return;
    span->scope = NULL;
    span->took_us = clock_mono_us() - span->began_us;
    span->status = st;
    span->request_id = scope->request_id;
    span->tenant_id = scope->tenant_id;
    if (span->hop != HOP_NONE)
        scope->hop_us[span->hop] += span->took_us;
    if (export.emit && span->context.flags & TRACE_SAMPLED)
        export.emit(export.ctx, span);
}

/* ---- scopes ---- */

void trace_begin(struct trace_scope *scope, enum span_kind kind, const char *name, const char *traceparent) {
    struct trace_context caller;
    const struct trace_context *parent = NULL;
    if (traceparent)
        parent = trace_parse(traceparent, &caller) ? &caller : NULL;
    else if (current)
        parent = &current->span.context;
    clear(&scope->span);
    begin(&scope->span, kind, name, parent);
    if (traceparent || !current)
        scope->span.context.flags = decide(parent, scope->span.context.trace_id);
    scope->span.scope = scope;
    scope->outer = current;
    scope->request_id = current ? current->request_id : (struct uuid){ { 0 } };
    scope->tenant_id = current ? current->tenant_id : (struct uuid){ { 0 } };
    memset(scope->hop_us, 0, sizeof scope->hop_us);
    current = scope;
}

void trace_end(struct trace_scope *scope, enum status st) {
    if (!scope->span.scope)
        return;
    span_end(&scope->span, st);
    current = scope->outer;
    for (unsigned i = 0; current && i < HOP_COUNT; i++)
        current->hop_us[i] += scope->hop_us[i];
}

void trace_adopt(struct trace_scope *scope, const struct trace_scope *of) {
    clear(&scope->span);
    if (!of)
        return;
    scope->span.context = of->span.context;
    scope->span.scope = scope;
    scope->outer = current;
    scope->request_id = of->request_id;
    scope->tenant_id = of->tenant_id;
    memset(scope->hop_us, 0, sizeof scope->hop_us);
    current = scope;
}

void trace_return(struct trace_scope *scope, struct trace_scope *of) {
    if (!scope->span.scope)
        return;
    scope->span.scope = NULL;
    current = scope->outer;
    for (unsigned i = 0; i < HOP_COUNT; i++)
        of->hop_us[i] += scope->hop_us[i];
}

struct trace_scope *trace_current(void) {
    return current;
}

void trace_request(const struct uuid *request_id) {
    if (current)
        current->request_id = *request_id;
}

void trace_tenant(const struct uuid *tenant_id) {
    if (current)
        current->tenant_id = *tenant_id;
}

void trace_add_hops(const uint32_t us[], size_t count) {
    for (size_t i = 1; current && i < count && i < HOP_COUNT; i++)
        current->hop_us[i] += us[i] < REPLY_MAX_US ? us[i] : REPLY_MAX_US;
}

size_t trace_hops(uint32_t ret_us[HOP_COUNT]) {
    size_t count = 0;
    ret_us[0] = 0;
    for (unsigned i = 1; current && i < HOP_COUNT; i++) {
        int64_t us = current->hop_us[i];
        ret_us[i] = us < REPLY_MAX_US ? (uint32_t)us : REPLY_MAX_US;
        if (us > 0)
            count = i + 1;
    }
    return count;
}

const char *trace_timing(const struct trace_scope *scope, char out[TRACE_TIMING_BYTES]) {
    size_t len = (size_t)snprintf(out, TRACE_TIMING_BYTES, "total;dur=%.1f", (double)(clock_mono_us() - scope->span.began_us) / 1e3);
    for (unsigned i = 1; i < HOP_COUNT; i++)
        if (scope->hop_us[i] > 0 && len < TRACE_TIMING_BYTES)
            len += (size_t)snprintf(out + len, TRACE_TIMING_BYTES - len, ", %s;dur=%.1f", HOPS[i].name, (double)scope->hop_us[i] / 1e3);
    return out;
}

void trace_open(const struct trace_export *to) {
    export = *to;
}
