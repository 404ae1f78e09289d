#include "openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/scopes.h"
#include "core/str.h"
#include "edge.pb-c.h"
#include "exchange.h"
#include "json/writer.h"
#include "rest/schema.h"
#include "rest/shape.h"
#include "routes.h"

enum { SCHEMAS_MAX = 256 };

static const struct { const char *name, *text; } TAGS[] = {
    { "documents", "Upload, follow, read and delete documents." },
    { "jobs", "The work that turns a document into searchable passages." },
    { "questions", "Search and cited answers. What they show is on the audit record first." },
    { "audit", "Who did what, in an order that cannot be changed unseen." },
    { "tenants", "Organisations, for the platform's administrators." },
    { "sessions", "Log in from a browser, and the sessions of every kind of credential (docs/login.md)." },
    { "health", "For load balancers and operators." },
    { "about", "This interface described by itself." },
};

static void put(struct json_writer *w, const char *name, const char *text) {
    json_put_name(w, name);
    json_put_text(w, text);
}

static void open_member(struct json_writer *w, const char *name) {
    json_put_name(w, name);
    json_open_object(w);
}

/* ---- parameters ---- */

static bool is_path_param(const void *ctx, const char *name) {
    const struct http_route *r = ctx;
    char braced[SHAPE_NAME_BYTES + 3];
    (void)snprintf(braced, sizeof braced, "{%s}", name);
    if (strstr(r->path, braced))
        return true;
    (void)snprintf(braced, sizeof braced, "{%s*}", name);
    return strstr(r->path, braced) != NULL;
}

static void put_header_param(struct json_writer *w, const char *name, const char *help) {
    json_open_object(w);
    put(w, "name", name);
    put(w, "in", "header");
    put(w, "description", help);
    open_member(w, "schema");
    put(w, "type", "string");
    json_close_object(w);
    json_close_object(w);
}

static void put_upload_headers(struct json_writer *w) {
    put_header_param(w, "Content-Disposition", "For a raw body: the file's name, as in `attachment; filename=\"report.pdf\"`.");
    put_header_param(w, "Content-Digest", "SHA-256 or SHA-512 of the body (RFC 9530): `sha-256=:...:`. A body that differs is refused.");
    put_header_param(w, "Repr-Digest", "The same: a body here has no Content-Encoding.");
    put_header_param(w, "Idempotency-Key", "1 to 255 visible characters. The same key with the same request within 24 hours gives the same answer "
                     "and does nothing again.");
    put_header_param(w, "Cordon-Document-Id", "For a raw body: a UUIDv7 that the client chose, so that it can follow the upload.");
    put_header_param(w, "Cordon-Priority", "For a raw body: `interactive` or `bulk`, among the tenant's own work.");
    put_header_param(w, "Cordon-Metadata", "For a raw body: a JSON object with string values, at most 8192 bytes.");
    put_header_param(w, "Cordon-Mrn", "For a raw body: the patient's record number.");
}

static void put_content_headers(struct json_writer *w) {
    put_header_param(w, "Range", "One range of bytes, `bytes=0-65535`: 206 with these. Several are answered with all of it.");
    put_header_param(w, "If-Range", "The ETag that the first bytes came with: another document is sent from its beginning.");
    put_header_param(w, "If-Match", "412 when the ETag is another.");
    put_header_param(w, "If-None-Match", "304 when the ETag is this one.");
}

static void put_param(struct json_writer *w, const struct http_route *r, const ProtobufCFieldDescriptor *field) {
    char name[SHAPE_NAME_BYTES];
    const struct fill_rule *rule = fill_rule_find(FIELDS, r->req->name, field->name);
    bool is_path = is_path_param(r, shape_name(field, name));
    json_open_object(w);
    put(w, "name", name);
    put(w, "in", is_path ? "path" : "query");
    json_put_name(w, "required");
    json_put_bool(w, is_path || (rule && rule->is_required));
    if (rule && *rule->help)
        put(w, "description", rule->help);
    json_put_name(w, "schema");
    schema_put_field(w, FIELDS, r->req, field);
    json_close_object(w);
}

static void put_params(struct json_writer *w, const struct http_route *r) {
    char name[SHAPE_NAME_BYTES];
    json_put_name(w, "parameters");
    json_open_array(w);
    if (r->body == BODY_UPLOAD)
        put_upload_headers(w);
    if (route_has_head(r))
        put_content_headers(w);
    for (unsigned i = 0; r->req && i < r->req->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &r->req->fields[i];
        if ((r->body == BODY_NONE && shape_of(field) != SHAPE_OBJECT) || is_path_param(r, shape_name(field, name)))
            put_param(w, r, field);
    }
    json_close_array(w);
}

/* ---- bodies ---- */

static void put_empty_type(struct json_writer *w, const char *media_type) {
    open_member(w, media_type);
    open_member(w, "schema");
    json_close_object(w);
    json_close_object(w);
}

static void put_document_types(struct json_writer *w) {
    put_empty_type(w, "application/pdf");
    put_empty_type(w, "text/markdown");
    put_empty_type(w, "text/plain");
}

/* The form as edge.UploadForm says it; the file is bytes of any type, not hexadecimal. */
static void put_upload_form(struct json_writer *w) {
    const ProtobufCMessageDescriptor *form = &edge__upload_form__descriptor;
    char name[SHAPE_NAME_BYTES];
    open_member(w, "schema");
    put(w, "type", "object");
    open_member(w, "properties");
    for (unsigned i = 0; i < form->n_fields; i++) {
        json_put_name(w, shape_name(&form->fields[i], name));
        if (!str_equal(form->fields[i].name, "file")) {
            schema_put_field(w, FIELDS, form, &form->fields[i]);
            continue;
        }
        json_open_object(w);
        put(w, "type", "string");
        put(w, "contentMediaType", "application/octet-stream");
        json_close_object(w);
    }
    json_close_object(w);
    json_put_name(w, "required");
    json_open_array(w);
    json_put_text(w, "file");
    json_close_array(w);
    json_close_object(w);
}

static void put_request_body(struct json_writer *w, const struct http_route *r) {
    if (r->body == BODY_NONE)
        return;
    open_member(w, "requestBody");
    json_put_name(w, "required");
    json_put_bool(w, true);
    open_member(w, "content");
    if (r->body == BODY_UPLOAD) {
        open_member(w, "multipart/form-data");
        put_upload_form(w);
        json_close_object(w);
        put_document_types(w);
    } else {
        open_member(w, "application/json");
        json_put_name(w, "schema");
        schema_put_message(w, FIELDS, r->req, SCHEMA_REQUEST, is_path_param, r);
        json_close_object(w);
    }
    json_close_object(w);
    json_close_object(w);
}

/* The message that a row's good answer is; NULL when it is no JSON of ours. */
static const ProtobufCMessageDescriptor *answer_of(const struct http_route *r) {
    return r->success == 204 || r->handle == serve_content || r->handle == serve_tile || r->handle == serve_export ? NULL : r->reply;
}

static void put_success_content(struct json_writer *w, const struct http_route *r) {
    const ProtobufCMessageDescriptor *message = answer_of(r);
    if (message) {
        open_member(w, "application/json");
        json_put_name(w, "schema");
        schema_put_reference(w, message);
        json_close_object(w);
    } else if (r->handle == serve_tile) {
        put_empty_type(w, "application/octet-stream");
    } else if (r->handle == serve_export) {
        put_empty_type(w, export_content_type(r));
    } else if (r->reply) {
        put_document_types(w);
        put_empty_type(w, "application/octet-stream");
    } else {
        put_empty_type(w, str_ends_with(r->path, ".json") ? "application/json" : "text/html");
    }
}

static void put_problem(struct json_writer *w, const char *status) {
    open_member(w, status);
    put(w, "$ref", "#/components/responses/Problem");
    json_close_object(w);
}

static bool is_open(const struct http_route *r) {
    return r->auth == AUTH_NONE || r->auth == AUTH_LOGIN;
}

static void put_success(struct json_writer *w, const struct http_route *r, int http_status, const char *description, bool has_body) {
    char status[8];
    (void)snprintf(status, sizeof status, "%d", http_status);
    open_member(w, status);
    put(w, "description", description);
    open_member(w, "headers");
    open_member(w, "X-Request-ID");
    put(w, "$ref", "#/components/headers/X-Request-ID");
    json_close_object(w);
    json_close_object(w);
    if (has_body) {
        open_member(w, "content");
        put_success_content(w, r);
        json_close_object(w);
    }
    json_close_object(w);
}

static void put_responses(struct json_writer *w, const struct http_route *r, bool is_head) {
    open_member(w, "responses");
    put_success(w, r, r->success, "Done.", r->success != 204 && r->success != 303 && !is_head);
    if (route_has_head(r)) {
        put_success(w, r, 304, "The client has it.", false);
        put_problem(w, "412");
    }
    if (route_has_head(r) && !is_head) {
        put_success(w, r, 206, "The range that was asked for.", true);
        put_problem(w, "416");
    }
    put_problem(w, "400");
    if (!is_open(r)) {
        put_problem(w, "401");
        put_problem(w, "403");
    }
    if (strchr(r->path, '{'))
        put_problem(w, "404");
    if (r->body != BODY_NONE) {
        put_problem(w, "413");
        put_problem(w, "415");
    }
    put_problem(w, "503");
    put_problem(w, "default");
    json_close_object(w);
}

/* ---- operations ---- */

/* The rpc's name, or the verb and the path: "get_api_v1_health". */
static void put_operation_id(struct json_writer *w, const struct http_route *r, bool is_head) {
    char id[128];
    if (is_head) {
        (void)snprintf(id, sizeof id, "head%s", strstr(r->method, ".Get") + strlen(".Get"));
    } else if (r->method) {
        (void)snprintf(id, sizeof id, "%s", strchr(r->method, '.') + 1);
        id[0] = (char)tolower((unsigned char)id[0]);
    } else {
        (void)snprintf(id, sizeof id, "%s%s", r->verb, r->path);
        for (char *p = id; *p; p++)
            *p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '_';
    }
    put(w, "operationId", id);
}

static void put_operation(struct json_writer *w, const struct http_route *r, bool is_head) {
    char verb[16], text[128];
    (void)snprintf(verb, sizeof verb, "%s", is_head ? "head" : r->verb);
    for (char *p = verb; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    open_member(w, verb);
    put_operation_id(w, r, is_head);
    (void)snprintf(text, sizeof text, "%s%s", r->summary, is_head ? ": the head of the answer alone" : "");
    put(w, "summary", text);
    (void)snprintf(text, sizeof text, is_open(r) ? "Open to everybody." : r->auth == AUTH_TOKEN ? "Needs the scope `%s`." : "For whoever is logged in.",
                   scope_text(r->scope));
    put(w, "description", text);
    json_put_name(w, "tags");
    json_open_array(w);
    json_put_text(w, r->tag);
    json_close_array(w);
    if (is_open(r)) {
        json_put_name(w, "security");
        json_open_array(w);
        json_close_array(w);
    }
    put_params(w, r);
    put_request_body(w, r);
    put_responses(w, r, is_head);
    json_close_object(w);
}

static bool is_first_of_path(const struct http_route *row) {
    for (const struct http_route *r = ROUTES; r != row; r++)
        if (str_equal(r->path, row->path))
            return false;
    return true;
}

static void put_paths(struct json_writer *w) {
    open_member(w, "paths");
    for (const struct http_route *row = ROUTES; row->verb; row++) {
        if (!is_first_of_path(row))
            continue;
        char path[128];             /* the document knows no star: a parameter there may hold slashes */
        size_t len = 0;
        for (const char *p = row->path; *p && len + 1 < sizeof path; p++)
            if (*p != '*')
                path[len++] = *p;
        path[len] = '\0';
        open_member(w, path);
        for (const struct http_route *r = row; r->verb; r++)
            for (int is_head = 0; str_equal(r->path, row->path) && is_head <= route_has_head(r); is_head++)
                put_operation(w, r, is_head);
        json_close_object(w);
    }
    json_close_object(w);
}

/* ---- components ---- */

struct schemas { const ProtobufCMessageDescriptor *list[SCHEMAS_MAX]; enum schema_side sides[SCHEMAS_MAX]; unsigned count; };

static void collect_fields(struct schemas *s, const ProtobufCMessageDescriptor *message, enum schema_side side);

static void collect(struct schemas *s, const ProtobufCMessageDescriptor *message, enum schema_side side) {
    for (unsigned i = 0; i < s->count; i++)
        if (s->list[i] == message)
            return;
    if (s->count == SCHEMAS_MAX)
        return;
    s->sides[s->count] = side;
    s->list[s->count++] = message;
    collect_fields(s, message, side);
}

static void collect_fields(struct schemas *s, const ProtobufCMessageDescriptor *message, enum schema_side side) {
    for (unsigned i = 0; i < message->n_fields; i++)
        if (shape_of(&message->fields[i]) == SHAPE_OBJECT)
            collect(s, message->fields[i].descriptor, side);
}

static void put_schemas(struct json_writer *w) {
    struct schemas s = { .count = 0 };
    collect(&s, &edge__problem__descriptor, SCHEMA_REPLY);
    for (const struct http_route *r = ROUTES; r->verb; r++) {
        const ProtobufCMessageDescriptor *answer = answer_of(r);
        if (r->req)
            collect_fields(&s, r->req, SCHEMA_REQUEST);
        if (answer)
            collect(&s, answer, SCHEMA_REPLY);
    }
    open_member(w, "schemas");
    for (unsigned i = 0; i < s.count; i++) {
        json_put_name(w, s.list[i]->short_name);
        schema_put_message(w, FIELDS, s.list[i], s.sides[i], NULL, NULL);
    }
    json_close_object(w);
}

static void put_components(struct json_writer *w) {
    open_member(w, "components");
    open_member(w, "securitySchemes");
    open_member(w, "bearer");
    put(w, "type", "http");
    put(w, "scheme", "bearer");
    put(w, "bearerFormat", "JWT");
    json_close_object(w);
    open_member(w, "session");
    put(w, "type", "apiKey");
    put(w, "in", "cookie");
    put(w, "name", COOKIE_SESSION);
    put(w, "description", "A browser's session. Changes also need the header X-CSRF-Token with the value of the cookie " COOKIE_CSRF ".");
    json_close_object(w);
    json_close_object(w);
    open_member(w, "headers");
    open_member(w, "X-Request-ID");
    put(w, "description", "Names this request in logs and in the audit record.");
    open_member(w, "schema");
    put(w, "type", "string");
    put(w, "format", "uuid");
    json_close_object(w);
    json_close_object(w);
    json_close_object(w);
    open_member(w, "responses");
    open_member(w, "Problem");
    put(w, "description", "What went wrong (RFC 9457). `code` is stable; Retry-After says when to try again.");
    open_member(w, "content");
    open_member(w, "application/problem+json");
    json_put_name(w, "schema");
    schema_put_reference(w, &edge__problem__descriptor);
    json_close_object(w);
    json_close_object(w);
    json_close_object(w);
    json_close_object(w);
    put_schemas(w);
    json_close_object(w);
}

static void put_info(struct json_writer *w) {
    open_member(w, "info");
    put(w, "title", "Cordon");
    put(w, "version", CORDON_VERSION);
    put(w, "summary", "Upload clinical documents, ask questions about them, and get answers that cite their sources.");
    open_member(w, "license");
    put(w, "name", "Apache-2.0");
    put(w, "identifier", "Apache-2.0");
    json_close_object(w);
    json_close_object(w);
    json_put_name(w, "servers");
    json_open_array(w);
    json_open_object(w);
    put(w, "url", "/");
    json_close_object(w);
    json_close_array(w);
    json_put_name(w, "security");
    json_open_array(w);
    for (unsigned i = 0; i < 2; i++) {
        json_open_object(w);
        json_put_name(w, i ? "session" : "bearer");
        json_open_array(w);
        json_close_array(w);
        json_close_object(w);
    }
    json_close_array(w);
    json_put_name(w, "tags");
    json_open_array(w);
    for (unsigned i = 0; i < sizeof TAGS / sizeof *TAGS; i++) {
        json_open_object(w);
        put(w, "name", TAGS[i].name);
        put(w, "description", TAGS[i].text);
        json_close_object(w);
    }
    json_close_array(w);
}

bool openapi_print(struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    put(&w, "openapi", "3.1.0");
    put_info(&w);
    put_paths(&w);
    put_components(&w);
    json_close_object(&w);
    return json_finish(&w);
}

void endpoints_print(struct buffer *out) {
    (void)buffer_add_str(out, "| endpoint | scope | answer | what it does |\n|---|---|---|---|\n");
    for (const struct http_route *r = ROUTES; r->verb; r++) {
        const char *quote = r->auth == AUTH_TOKEN ? "`" : "";
        (void)buffer_printf(out, "| `%s %s` | %s%s%s | %d | %s |\n", r->verb, r->path, quote,
                            is_open(r) ? "open" : r->auth == AUTH_TOKEN ? scope_text(r->scope) : "any", quote, r->success, r->summary);
    }
}
