#include "otlp/encode.h"

#include <string.h>

#include "otlp.pb-c.h"

enum { ERROR = 2, OWN_ATTRIBUTES = 3 };     /* code of Status; request, tenant, status */

static Otlp__KeyValue *attribute(struct arena *mem, const char *name) {
    Otlp__KeyValue *pair = arena_alloc(mem, sizeof *pair);
    otlp__key_value__init(pair);
    pair->key = (char *)name;
    pair->value = arena_alloc(mem, sizeof *pair->value);
    otlp__any_value__init(pair->value);
    return pair;
}

static Otlp__KeyValue *text(struct arena *mem, const char *name, const char *value) {
    Otlp__KeyValue *pair = attribute(mem, name);
    pair->value->value_case = OTLP__ANY_VALUE__VALUE_STRING_VALUE;
    pair->value->string_value = (char *)value;
    return pair;
}

static Otlp__KeyValue *number(struct arena *mem, const char *name, int64_t value) {
    Otlp__KeyValue *pair = attribute(mem, name);
    pair->value->value_case = OTLP__ANY_VALUE__VALUE_INT_VALUE;
    pair->value->int_value = value;
    return pair;
}

static Otlp__KeyValue *id(struct arena *mem, const char *name, const struct uuid *value) {
    char *out = arena_alloc(mem, UUID_TEXT_BYTES);
    return text(mem, name, uuid_format(value, out));
}

static void fill_attributes(struct arena *mem, const struct span *from, Otlp__Span *to) {
    to->attributes = arena_alloc(mem, (SPAN_ATTRIBUTES_MAX + OWN_ATTRIBUTES) * sizeof *to->attributes);
    for (unsigned i = 0; i < from->attribute_count; i++) {
        const struct span_attribute *a = &from->attributes[i];
        to->attributes[to->n_attributes++] = a->is_number ? number(mem, a->name, a->number) : text(mem, a->name, a->text);
    }
    if (!uuid_is_nil(&from->request_id))
        to->attributes[to->n_attributes++] = id(mem, "cordon.request_id", &from->request_id);
    if (!uuid_is_nil(&from->tenant_id))
        to->attributes[to->n_attributes++] = id(mem, "cordon.tenant_id", &from->tenant_id);
    if (from->status != ST_OK)
        to->attributes[to->n_attributes++] = text(mem, "cordon.status", status_name(from->status));
}

/* What a client did wrong is no error of a server's span. */
static bool is_error(enum status st) {
    return st == ST_INTERNAL || st == ST_UNAVAILABLE || st == ST_TIMEOUT || st == ST_LIMITED;
}

static bool has_parent(const struct span *span) {
    static const uint8_t NONE[SPAN_ID_BYTES];
    return memcmp(span->parent_id, NONE, SPAN_ID_BYTES) != 0;
}

static Otlp__Span *encode_span(struct arena *mem, const struct span *from) {
    Otlp__Span *to = arena_alloc(mem, sizeof *to);
    otlp__span__init(to);
    to->trace_id = (ProtobufCBinaryData){ TRACE_ID_BYTES, (uint8_t *)from->context.trace_id };
    to->span_id = (ProtobufCBinaryData){ SPAN_ID_BYTES, (uint8_t *)from->context.span_id };
    if (has_parent(from))
        to->parent_span_id = (ProtobufCBinaryData){ SPAN_ID_BYTES, (uint8_t *)from->parent_id };
    to->name = (char *)from->name;
    to->kind = from->kind;
    to->start_time_unix_nano = (uint64_t)from->began_unix_us * 1000;
    to->end_time_unix_nano = to->start_time_unix_nano + (uint64_t)from->took_us * 1000;
    to->flags = from->context.flags;
    fill_attributes(mem, from, to);
    if (is_error(from->status)) {
        to->status = arena_alloc(mem, sizeof *to->status);
        otlp__status__init(to->status);
        to->status->code = ERROR;
        to->status->message = (char *)status_name(from->status);
    }
    return to;
}

const void *otlp_encode(struct arena *mem, const struct otlp_resource *resource, const struct span spans[], size_t count,
                        size_t *ret_len) {
    Otlp__ExportTraceServiceRequest request = OTLP__EXPORT_TRACE_SERVICE_REQUEST__INIT;
    Otlp__ResourceSpans of_resource = OTLP__RESOURCE_SPANS__INIT;
    Otlp__Resource who = OTLP__RESOURCE__INIT;
    Otlp__ScopeSpans of_scope = OTLP__SCOPE_SPANS__INIT;
    Otlp__InstrumentationScope scope = OTLP__INSTRUMENTATION_SCOPE__INIT;
    Otlp__KeyValue *about[] = { text(mem, "service.name", resource->service_name), text(mem, "service.namespace", "cordon"),
                                text(mem, "service.version", resource->version), text(mem, "service.instance.id", resource->instance_id) };
    who.attributes = about;
    who.n_attributes = sizeof about / sizeof *about;
    scope.name = (char *)"cordon";
    scope.version = (char *)resource->version;
    of_scope.scope = &scope;
    of_scope.spans = arena_alloc(mem, count * sizeof *of_scope.spans);
    while (of_scope.n_spans < count) {
        of_scope.spans[of_scope.n_spans] = encode_span(mem, &spans[of_scope.n_spans]);
        of_scope.n_spans++;
    }
    of_resource.resource = &who;
    of_resource.scope_spans = (Otlp__ScopeSpans *[]){ &of_scope };
    of_resource.n_scope_spans = 1;
    request.resource_spans = (Otlp__ResourceSpans *[]){ &of_resource };
    request.n_resource_spans = 1;
    uint8_t *out = arena_alloc(mem, otlp__export_trace_service_request__get_packed_size(&request));
    *ret_len = otlp__export_trace_service_request__pack(&request, out);
    return out;
}

int64_t otlp_rejected(struct arena *mem, const void *data, size_t len) {
    const Otlp__ExportTraceServiceResponse *response =
        otlp__export_trace_service_response__unpack(arena_wire(mem), len, data);
    int64_t count = response && response->partial_success ? response->partial_success->rejected_spans : 0;
    return count > 0 ? count : 0;
}
