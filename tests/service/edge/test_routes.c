#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "auth.pb-c.h"
#include "core/str.h"
#include "ingest.pb-c.h"
#include "openapi.h"
#include "query.pb-c.h"
#include "rest/shape.h"
#include "routes.h"

/* What is asked by the edge itself and so has no endpoint. */
static const char *const INTERNAL[] = { "auth.Authenticate", "auth.Denied", "auth.RecordStart", "auth.CheckSessions", "auth.BeginLogin", "auth.CompleteLogin" };

static bool is_internal(const char *method) {
    for (unsigned i = 0; i < sizeof INTERNAL / sizeof *INTERNAL; i++)
        if (str_equal(INTERNAL[i], method))
            return true;
    return false;
}

static unsigned rows_of(const ProtobufCServiceDescriptor *d, unsigned i) {
    char method[96];
    unsigned rows = 0;
    (void)snprintf(method, sizeof method, "%s.%s", d->package, d->methods[i].name);
    for (const struct http_route *r = ROUTES; r->verb; r++)
        if (str_equal(r->method, method)) {
            rows++;
            cr_expect_eq(r->req, d->methods[i].input, "%s", method);
            cr_expect_eq(r->reply, d->methods[i].output, "%s", method);
        }
    return is_internal(method) ? rows + 1 : rows;
}

Test(edge_routes, every_public_rpc_has_one_row_of_its_types) {
    static const ProtobufCServiceDescriptor *const PUBLIC[] = {
        &auth__auth__descriptor, &ingest__ingest__descriptor, &query__query__descriptor };
    for (unsigned s = 0; s < sizeof PUBLIC / sizeof *PUBLIC; s++)
        for (unsigned i = 0; i < PUBLIC[s]->n_methods; i++)
            cr_expect_eq(rows_of(PUBLIC[s], i), 1, "%s.%s", PUBLIC[s]->package, PUBLIC[s]->methods[i].name);
}

Test(edge_routes, authority_is_written_out) {
    unsigned count = 0;
    for (const struct http_route *r = ROUTES; r->verb; r++, count++) {
        bool is_open = r->auth == AUTH_NONE || r->auth == AUTH_LOGIN, is_redirect = r->success == 303;
        cr_expect_eq(r->auth == AUTH_TOKEN, r->scope != SCOPE_NONE, "%s %s", r->verb, r->path);
        cr_expect(r->auth != AUTH_TOKEN || *scope_text(r->scope), "%s %s: one scope", r->verb, r->path);
        cr_expect(!is_open || !r->method, "%s %s: open, yet asks others", r->verb, r->path);
        cr_expect_eq(r->auth == AUTH_NONE, r->rate == RATE_NONE, "%s %s", r->verb, r->path);
        cr_expect(r->handle && r->summary && r->tag && r->budget_ms > 0 && r->success >= 200, "%s %s", r->verb, r->path);
        cr_expect(r->success < 300 || (is_redirect && r->auth == AUTH_LOGIN), "%s %s", r->verb, r->path);
        cr_expect_eq(r->body == BODY_JSON, r->body_max_bytes > 0, "%s %s", r->verb, r->path);
    }
    cr_expect_leq(count, ROUTE_COUNT_MAX);
}

Test(edge_routes, every_path_parameter_is_a_required_field) {
    for (const struct http_route *r = ROUTES; r->verb; r++)
        for (const char *p = strchr(r->path, '{'); p; p = strchr(p + 1, '{')) {
            char name[SHAPE_NAME_BYTES];
            (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(p + 1, "*}"), p + 1);
            cr_assert_not_null(r->req, "%s", r->path);
            const ProtobufCFieldDescriptor *field = shape_find(r->req, name);
            cr_assert_not_null(field, "%s: %s", r->path, name);
            const struct fill_rule *rule = fill_rule_find(FIELDS, r->req->name, field->name);
            cr_expect(rule && rule->is_required, "%s: %s", r->path, name);
        }
}

static bool has_field(const ProtobufCMessageDescriptor *d, const struct fill_rule *rule) {
    return str_equal(d->name, rule->message) && protobuf_c_message_descriptor_get_field_by_name(d, rule->field);
}

static bool reaches(const ProtobufCMessageDescriptor *d, const struct fill_rule *rule) {
    if (!d)
        return false;
    if (has_field(d, rule))
        return true;
    for (unsigned i = 0; i < d->n_fields; i++)
        if (shape_of(&d->fields[i]) == SHAPE_OBJECT && reaches(d->fields[i].descriptor, rule))
            return true;
    return false;
}

Test(edge_fields, every_row_names_a_field_that_a_route_uses) {
    for (const struct fill_rule *rule = FIELDS; rule->message; rule++) {
        bool is_used = str_starts_with(rule->message, "edge.");
        for (const struct http_route *r = ROUTES; r->verb; r++)
            is_used = is_used || reaches(r->req, rule) || reaches(r->reply, rule);
        cr_expect(is_used, "%s.%s", rule->message, rule->field);
        cr_expect(rule->min <= rule->max || !rule->max, "%s.%s", rule->message, rule->field);
        cr_expect(*rule->help, "%s.%s", rule->message, rule->field);
    }
}

struct path_case { char path[96]; bool fits; };

Test(edge_routes, paths_match_exactly) {
    static const struct path_case CASES[] = {
        { "/api/v1/documents", true }, { "/api/v1/documents/", false }, { "/api/v1/documents/abc", true },
        { "/api/v1/documents/abc/content", true }, { "/api/v1/documents/abc/content/", false }, { "/api/v1/documents//content", false },
        { "/api/v1/documents/a%62c", false }, { "/api/v1/documents/a;b", false }, { "/API/v1/documents", false },
        { "/api/v1/../v1/documents", false }, { "//api/v1/documents", false }, { "/", false }, { "", false },
        { "/api/v1/documents/a/b", false }, { "/api/v1/jobs/a", true }, { "/api/v1/jobs", true }, { "/api/v1/jobs/", false },
    };
    for (unsigned i = 0; i < sizeof CASES / sizeof *CASES; i++)
        cr_expect_eq(route_match("GET", CASES[i].path).other != NULL, CASES[i].fits, "%s", CASES[i].path);
    struct route_match match = route_match("GET", "/api/v1/documents/xyz/content");
    cr_assert_eq(match.param_count, 1);
    cr_expect_eq(match.params[0].text_len, 3);
    cr_expect_eq(strncmp(match.params[0].name, "document_id", match.params[0].name_len), 0);
    char verbs[64];
    route_verbs("/api/v1/documents", verbs, sizeof verbs);
    cr_expect_str_eq(verbs, "POST, GET");
    cr_expect_null(route_match("PUT", "/api/v1/documents").route);
}

/* Every $ref has its target, and every operation is there. */
static void check_references(const json_t *root, const json_t *value) {
    const char *name;
    json_t *inner;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, name, inner) {
            const char *ref = str_equal(name, "$ref") ? json_string_value(inner) : NULL;
            if (ref) {
                char kind[32], target[64];
                cr_assert_eq(sscanf(ref, "#/components/%31[^/]/%63s", kind, target), 2, "%s", ref);
                cr_expect(json_object_get(json_object_get(json_object_get(root, "components"), kind), target), "%s", ref);
            }
            check_references(root, inner);
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, inner)
            check_references(root, inner);
    }
}

Test(edge_openapi, says_what_the_table_says) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 0 };
    cr_assert(openapi_print(&out));
    json_t *root = json_loadb(out.data, out.len, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_not_null(root);
    check_references(root, root);
    for (const struct http_route *r = ROUTES; r->verb; r++) {
        char verb[16];
        (void)snprintf(verb, sizeof verb, "%s", r->verb);
        for (char *p = verb; *p; p++)
            *p = (char)(*p | 0x20);
        char path[128], *star;
        (void)snprintf(path, sizeof path, "%s", r->path);
        if ((star = strchr(path, '*')))         /* {tile*} takes the rest of a path; the document has no sign for that */
            memmove(star, star + 1, strlen(star));
        const json_t *operation = json_object_get(json_object_get(json_object_get(root, "paths"), path), verb);
        cr_expect(operation, "%s %s", r->verb, r->path);
        cr_expect_eq(json_object_get(operation, "security") != NULL, r->auth == AUTH_NONE || r->auth == AUTH_LOGIN, "%s %s", r->verb, r->path);
    }
    json_decref(root);
}

Test(edge_docs, the_page_loads_nothing_from_elsewhere) {
    CLEANUP(buffer_end) struct buffer page = { .limit_bytes = 0 }, policy = { .limit_bytes = 0 };
    docs_page_print(&page, &policy);
    cr_expect_null(strstr(page.data, "http://"));
    cr_expect_null(strstr(page.data, "https://"));
    cr_expect_null(strstr(page.data, "innerHTML"));
    cr_expect(strstr(policy.data, "script-src 'sha256-"));
    buffer_end(&policy);
}

Test(edge_docs, api_md_holds_the_table_of_endpoints) {
    CLEANUP(buffer_end) struct buffer table = { .limit_bytes = 0 };
    CLEANUP(buffer_end) struct buffer page = { .limit_bytes = 0 };
    char piece[4096];
    FILE *file = fopen(CORDON_SOURCE_DIR "/docs/api.md", "re");
    cr_assert_not_null(file);
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;)
        (void)buffer_add(&page, piece, n);
    fclose(file);
    endpoints_print(&table);
    cr_expect(strstr(page.data, table.data), "docs/api.md is old: cordon-edge --endpoints-markdown prints the table");
}
