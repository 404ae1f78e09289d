/* The log in the vocabularies of others, held against what their definitions say, told here in words of our own: FHIR R4 4.0.1
 * (StructureDefinitions AuditEvent, Bundle, Binary), IHE BALP 1.1.4 (profiles.ihe.net/ITI/BALP, the differentials of IHE.BasicAudit.Read,
 * Query, Create, Update, Delete and their Patient forms) and OCSF 1.3.0 (schema.ocsf.io/1.3.0, classes 6003, 3002, 3004 and the
 * objects in them); and back into the lines that cordon-verify reads. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>

#include "audit/actions.h"
#include "audit_forms.h"
#include "core/str.h"
#include "core/text_codec.h"
#include "json/reader.h"
#include "log.h"
#include "rig.h"

#define DOC     "01920000-0000-7000-8000-0000000000d1"
#define DOC_2   "01920000-0000-7000-8000-0000000000d2"
#define SUBJECT "01920000-0000-7000-8000-0000000000e1"

TestSuite(query_forms, .init = rig_open, .fini = rig_close, .timeout = 60);

static json_t *parse(const char *text, size_t len) {
    struct why why = { 0 };
    json_t *value = NULL;
    cr_assert_eq(json_parse(text, len, len + 1, &value, &why), ST_OK, "%s: %.*s", why.text, (int)len, text);
    return value;
}

/* "agent.0.type.coding.0.code"; NULL: there is none. */
static const json_t *at(const json_t *value, const char *path) {
    char name[64];
    while (value && *path) {
        size_t len = strcspn(path, ".");
        (void)snprintf(name, sizeof name, "%.*s", (int)len, path);
        value = json_is_array(value) ? json_array_get(value, strtoul(name, NULL, 10)) : json_object_get(value, name);
        path += len + (path[len] == '.');
    }
    return value;
}
static const char *text_at(const json_t *value, const char *path) {
    const char *text = json_string_value(at(value, path));
    return text ? text : "";
}
static int64_t number_at(const json_t *value, const char *path) { return json_integer_value(at(value, path)); }

/* An event of the action, with so much in it. */
static const char *event_of(const char *action, const char *kind, const char *outcome, const char *documents, bool has_actor, bool has_resource) {
    return arena_printf(rig.mem, "{\"action\":\"%s\",%s\"detail\":{\"hits\":2},%s%s%s\"event_id\":\"01920000-0000-7000-8000-000000000001\",\"grant_id\":\"" DOC "\",\"kind\":\"%s\","
        "\"occurred_at\":\"2025-12-31T23:59:59.123456Z\",\"outcome\":\"%s\",\"recorded_at\":\"2025-12-31T23:59:59.123456Z\",\"reported_by\":\"query\","
        "\"request_id\":\"01920000-0000-7000-8000-000000000009\",%s\"seq\":41,%s\"tenant_id\":\"" PG_TENANT_A "\",\"v\":1}",
        action, has_actor ? "\"actor_id\":\"01920000-0000-7000-8000-0000000000aa\"," : "",
        *documents ? "\"document_ids\":[\"" : "", documents, *documents ? "\"]," : "", kind, outcome,
        has_resource ? "\"resource_id\":\"" SUBJECT "\"," : "", has_actor ? "\"session_id\":\"01920000-0000-7000-8000-0000000000ab\"," : "");
}

static json_t *printed(const char *form_name, const char *event) {
    struct why why = { 0 };
    const struct audit_form *form = audit_form_find(form_name);
    CLEANUP(buffer_end) struct buffer out = { 0 };
    json_t *parsed = parse(event, strlen(event));
    cr_assert_eq(form->put_event(&out, &(struct audit_entry){ event, strlen(event), 1767225599123456, parsed }, &why), ST_OK, "%s", why.text);
    json_destroy(&parsed);
    return parse(out.data, out.len);
}

/* ---- shapes ---- */

/* What an object may have in it, as "name:type": s a text, i a whole number, b true or false, or another shape; [ a list of it; ! required.
 * Of their many members only those that we print: whoever prints another looks it up. one_of: at least one of these. */
static const struct shape { const char *name, *members, *one_of; } SHAPES[] = {
    { "BundleEntry", "fullUrl:s resource:AuditEvent", "" },
    { "AuditEvent",  "resourceType:s! id:s meta:Meta type:Coding! subtype:[Coding action:s recorded:s! outcome:s agent:[Agent! source:Source! entity:[Entity", "" },
    { "Meta",        "profile:[s", "" },
    { "Coding",      "system:s code:s", "" },
    { "CodeableConcept", "coding:[Coding", "" },
    { "Reference",   "type:s identifier:Identifier", "" },
    { "Identifier",  "system:s value:s", "" },
    { "Agent",       "type:CodeableConcept who:Reference altId:s requestor:b! network:Network purposeOfUse:[CodeableConcept", "" },
    { "Network",     "extension:[Extension address:s type:s", "" },
    { "Extension",   "url:s! valueCode:s", "" },
    { "Source",      "observer:Reference! type:[Coding", "" },
    { "Entity",      "type:Coding role:Coding what:Reference query:s detail:[Detail", "" },
    { "Detail",      "type:s! valueBase64Binary:s!", "" },
#define BASE_EVENT "activity_id:i! activity_name:s actor:actor category_uid:i! class_uid:i! metadata:metadata! raw_data:s severity_id:i! status_detail:s status_id:i " \
                   "time:i! type_uid:i! "
    { "6003",        BASE_EVENT "api:api! resources:[resource_details src_endpoint:network_endpoint!", "actor" },
    { "3002",        BASE_EVENT "service:service user:user!", "service dst_endpoint" },
    { "3004",        BASE_EVENT "entity:managed_entity!", "" },
    { "metadata",    "correlation_uid:s event_code:s original_time:s product:product! sequence:i tenant_uid:s uid:s version:s!", "" },
    { "product",     "name:s vendor_name:s!", "" },
    { "actor",       "app_name:s session:session user:user", "process user invoked_by session app_name app_uid" },
    { "user",        "name:s uid:s", "account name uid" },
    { "session",     "uid:s", "" },
    { "api",         "operation:s! request:request service:service", "" },
    { "request",     "uid:s!", "" },
    { "service",     "name:s uid:s", "name uid" },
    { "network_endpoint", "svc_name:s", "ip uid name hostname svc_name instance_uid interface_uid interface_name" },
    { "resource_details", "type:s uid:s", "name uid" },
    { "managed_entity",   "name:s type:s uid:s", "name uid device group org policy user email" },
};

static bool has_one_of(const json_t *object, const char *names) {
    char name[32];
    int used = 0;
    bool has = !*names;
    for (; sscanf(names, " %31s%n", name, &used) == 1; names += used)
        has = has || json_object_get(object, name);
    return has;
}

static void expect_shape(const json_t *value, const char *shape, const char *action);

static void expect_type(const json_t *value, const char *type, const char *name, const char *action) {
    size_t i;
    json_t *one;
    if (*type == '[') {
        cr_expect(json_is_array(value), "%s: %s is no list", action, name);
        json_array_foreach((json_t *)value, i, one)
            expect_type(one, type + 1, name, action);
    } else if (type[1]) {
        expect_shape(value, type, action);
    } else {
        cr_expect(*type == 's' ? *text_at(value, "") : *type == 'i' ? json_is_integer(value) : json_is_boolean(value), "%s: %s", action, name);
    }
}

static void expect_shape(const json_t *value, const char *shape, const char *action) {
    const struct shape *s = SHAPES;
    while (!str_equal(s->name, shape))
        cr_assert_lt(++s, SHAPES + sizeof SHAPES / sizeof *SHAPES, "%s: no shape %s", action, shape);
    char name[32], type[32];
    size_t known = 0;
    int used = 0;
    for (const char *member = s->members; sscanf(member, " %31[^:]:%31s%n", name, type, &used) == 2; member += used) {
        const json_t *has = json_object_get(value, name);
        bool is_required = type[strlen(type) - 1] == '!';
        cr_expect(has || !is_required, "%s: %s has no %s", action, shape, name);
        type[strlen(type) - is_required] = '\0';
        if (has)
            expect_type(has, type, name, action);
        known += has != NULL;
    }
    cr_expect_eq(known, json_object_size(value), "%s: %s has a member that it may not have", action, shape);
    cr_expect(has_one_of(value, s->one_of), "%s: %s", action, shape);
}

/* ---- FHIR ---- */

static size_t entities(const json_t *resource, const char *type) {
    size_t n = 0, i;
    json_t *entity;
    json_array_foreach((json_t *)at(resource, "entity"), i, entity)
        n += str_equal(text_at(entity, "type.code"), type);
    return n;
}

/* The agent of a type, the only one; NULL. */
static const json_t *agent(const json_t *resource, const char *system, const char *code) {
    size_t i, found = 0;
    json_t *one;
    const json_t *last = NULL;
    json_array_foreach((json_t *)at(resource, "agent"), i, one)
        if (str_equal(text_at(one, "type.coding.0.system"), system) && str_equal(text_at(one, "type.coding.0.code"), code)) {
            last = one;
            found++;
        }
    return found == 1 ? last : NULL;
}

/* FHIR R4: codes that are bound as required, and rules beside the shapes. */
static void expect_audit_event(const json_t *r, const char *action) {
    size_t i;
    json_t *one;
    cr_expect_str_eq(text_at(r, "resourceType"), "AuditEvent");
    cr_expect(strlen(text_at(r, "action")) == 1 && strchr("CRUDE", *text_at(r, "action")), "%s: action", action);
    cr_expect_str_eq(text_at(r, "recorded"), "2025-12-31T23:59:59.123456Z", "instant");
    cr_expect(strlen(text_at(r, "outcome")) == 1 && strchr("048", *text_at(r, "outcome")), "%s: outcome", action);
    json_array_foreach((json_t *)at(r, "agent"), i, one)
        cr_expect(*text_at(one, "who.identifier.value"), "%s: agent.who", action);
    json_array_foreach((json_t *)at(r, "entity"), i, one)
        cr_expect(!at(one, "name") || !at(one, "query"), "sev-1");
}

#define DCM      "http://dicom.nema.org/resources/ontology/DCM"
#define HL7      "http://terminology.hl7.org/CodeSystem/"
static const struct balp { const char *name, *action, *interaction; struct { const char *system, *code; } client, server; const char *users; } PROFILES[] = {
    { "Read",   "R", "read",   { DCM, "110152" }, { DCM, "110153" }, "IRCP" },
    { "Query",  "E", "search", { DCM, "110153" }, { DCM, "110152" }, "IRCP" },
    { "Create", "C", "create", { DCM, "110153" }, { DCM, "110152" }, "AUT INF CST" },
    { "Update", "U", "update", { DCM, "110153" }, { DCM, "110152" }, "AUT INF CST" },
    { "Delete", "D", "delete", { DCM, "110150" }, { HL7 "provenance-participant-type", "custodian" }, "AUT INF CST" },
};

static void expect_agents(const json_t *r, const struct balp *p, const char *action) {
    const json_t *client = agent(r, p->client.system, p->client.code), *server = agent(r, p->server.system, p->server.code);
    cr_assert(client && server, "%s: client 1..1 and server 1..1", action);
    cr_expect(at(client, "network") && at(server, "network") && !at(client, "media") && !at(server, "media"), "%s: network 1..1, media 0..0", action);
    size_t i, users = 0;
    json_t *one;
    json_array_foreach((json_t *)at(r, "agent"), i, one)
        if (one != client && one != server) {
            users++;
            cr_expect_str_eq(text_at(one, "type.coding.0.system"), HL7 "v3-ParticipationType");
            cr_expect_not_null(strstr(p->users, text_at(one, "type.coding.0.code")), "%s", action);
            cr_expect(json_is_true(at(one, "requestor")) && !at(one, "network") && !at(one, "media"), "%s: the user", action);
        }
    cr_expect_leq(users, 1u, "%s", action);
}

static void expect_entities(const json_t *r, bool is_query, const char *action) {
    size_t i;
    json_t *one;
    json_array_foreach((json_t *)at(r, "entity"), i, one) {
        const char *type = text_at(one, "type.code"), *role = text_at(one, "role.code");
        if (str_equal(type, "2") && is_query)
            cr_expect(*text_at(one, "query") && !at(one, "what") && !at(one, "detail") && !at(one, "lifecycle") && str_equal(role, "24"), "%s", action);
        else if (str_equal(type, "2"))
            cr_expect(*text_at(one, "what.identifier.value") && (str_equal(role, "4") || str_equal(role, "3") || str_equal(role, "20")), "%s", action);
        if (str_equal(type, "1"))
            cr_expect(str_equal(text_at(one, "what.type"), "Patient") && str_equal(role, "1"), "%s", action);
        if (str_equal(type, "XrequestId"))
            cr_expect(*text_at(one, "what.identifier.value") && str_equal(text_at(one, "type.system"), "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"), "%s", action);
    }
}

/* IHE BALP, for the profile that the resource claims; none is a plain AuditEvent. */
static void expect_profile(const json_t *r, const char *action) {
    static const char BASE[] = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";
    const char *profile = text_at(r, "meta.profile.0");
    if (!*profile)
        return;
    cr_assert(strncmp(profile, BASE, strlen(BASE)) == 0);
    profile += strlen(BASE);
    bool is_patients = strncmp(profile, "Patient", 7) == 0;
    profile += is_patients ? 7 : 0;
    const struct balp *p = PROFILES;
    while (!str_equal(p->name, profile))
        cr_assert_lt(++p, PROFILES + sizeof PROFILES / sizeof *PROFILES, "%s: %s", action, profile);
    cr_expect_str_eq(text_at(r, "type.system"), HL7 "audit-event-type");
    cr_expect_str_eq(text_at(r, "type.code"), "rest");
    cr_expect_str_eq(text_at(r, "subtype.0.system"), "http://hl7.org/fhir/restful-interaction");
    cr_expect_str_eq(text_at(r, "subtype.0.code"), p->interaction, "%s", action);
    cr_expect_str_eq(text_at(r, "action"), p->action, "%s", action);
    cr_expect_str_eq(text_at(r, "outcome"), "0", "%s: profiles are of successes", action);
    expect_agents(r, p, action);
    expect_entities(r, str_equal(profile, "Query"), action);
    cr_expect_eq(entities(r, "XrequestId"), 1u);
    cr_expect_eq(entities(r, "2"), 1u, "%s: the one object, or what was asked", action);
    cr_expect_eq(entities(r, "1"), is_patients ? 1u : 0u, "%s: the patient", action);
}

Test(query_forms, each_action_is_an_audit_event_and_keeps_to_the_profile_that_it_claims) {
    static const char *const DOCUMENTS[] = { "", DOC, DOC "\",\"" DOC_2 };
    static const char *const OUTCOMES[] = { "success", "denied", "failure" };
    size_t claimed = 0;
    for (int a = 0; a < AUDIT_ACTION_COUNT; a++)
        for (int i = 0; i < 36; i++) {
            const char *action = audit_action_name((enum audit_action)a);
            json_t *entry = printed("fhir", event_of(action, audit_kind_text(audit_action_kind((enum audit_action)a)), OUTCOMES[i % 3], DOCUMENTS[i / 3 % 3], i & 1, i / 18));
            const json_t *r = at(entry, "resource");
            cr_expect_str_eq(text_at(entry, "fullUrl"), "urn:uuid:01920000-0000-7000-8000-000000000001");
            expect_shape(entry, "BundleEntry", action);
            expect_audit_event(r, action);
            expect_profile(r, action);
            claimed += *text_at(r, "meta.profile.0") != '\0';
            json_destroy(&entry);
        }
    cr_expect_gt(claimed, 100u);
}

Test(query_forms, profiles_are_claimed_where_they_fit) {
    static const struct { const char *action, *documents, *profile; bool has_resource; } ROWS[] = {
        { "document.content.read", DOC, "Read", false }, { "search.disclose", DOC "\",\"" DOC_2, "Query", false }, { "document.list", "", "Query", false },
        { "document.create", DOC, "PatientCreate", true }, { "document.create", DOC, "Create", false }, { "document.delete", DOC, "PatientDelete", true },
        { "document.status", DOC, "Update", false }, { "subject.find", "", "PatientQuery", true }, { "tenant.create", "", "", true },
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        json_t *entry = printed("fhir", event_of(ROWS[i].action, "disclosure", "success", ROWS[i].documents, true, ROWS[i].has_resource));
        const char *profile = strrchr(text_at(entry, "resource.meta.profile.0"), '.');
        cr_expect_str_eq(profile ? profile + 1 : "", ROWS[i].profile, "%s", ROWS[i].action);
        json_destroy(&entry);
    }
}

Test(query_forms, broken_glass_is_a_purpose_of_use) {
    json_t *entry = printed("fhir", event_of("document.content.read", "disclosure", "success", DOC, true, false));
    const json_t *user = agent(at(entry, "resource"), HL7 "v3-ParticipationType", "IRCP");
    cr_assert_not_null(user);
    cr_expect_str_eq(text_at(user, "purposeOfUse.0.coding.0.code"), "BTG");
    cr_expect(json_is_true(at(user, "requestor")));
    cr_expect_null(at(user, "network"));
    json_destroy(&entry);
}

/* ---- OCSF ---- */

Test(query_forms, each_action_is_an_ocsf_event_of_its_class) {
    for (int a = 0; a < AUDIT_ACTION_COUNT; a++)
        for (int i = 0; i < 4; i++) {
            const char *action = audit_action_name((enum audit_action)a), *event = event_of(action, "mutation", i & 1 ? "success" : "denied", DOC, i & 1, i & 2);
            json_t *e = printed("ocsf", event);
            int64_t class_uid = number_at(e, "class_uid"), activity = number_at(e, "activity_id");
            expect_shape(e, arena_printf(rig.mem, "%" PRId64, class_uid), action);
            cr_expect_eq(number_at(e, "category_uid"), class_uid / 1000);
            cr_expect_eq(number_at(e, "type_uid"), class_uid * 100 + activity);
            cr_expect((activity >= 1 && activity <= 4) || (activity == 99 && *text_at(e, "activity_name")), "%s", action);
            cr_expect_eq(number_at(e, "time"), 1767225599123);
            cr_expect(number_at(e, "severity_id") >= 1 && number_at(e, "status_id") >= 1);
            cr_expect_str_eq(text_at(e, "metadata.version"), "1.3.0");
            cr_expect_str_eq(text_at(e, "metadata.tenant_uid"), PG_TENANT_A);
            cr_expect_eq(number_at(e, "metadata.sequence"), 41);
            cr_expect_str_eq(text_at(e, "raw_data"), event);
            if (class_uid == 6003) {
                cr_expect_str_eq(text_at(e, "api.operation"), action);
                cr_expect_str_eq(text_at(e, "resources.0.uid"), DOC);
            }
            json_destroy(&e);
        }
}

Test(query_forms, logins_and_people_have_classes_of_their_own) {
    static const struct { const char *action; int type_uid; } ROWS[] = {
        { "auth.session.start", 300201 }, { "auth.session.revoke", 300202 }, { "auth.denied", 300201 }, { "user.role.create", 300401 },
        { "break_glass.create", 300401 }, { "api_key.update", 300403 }, { "document.content.read", 600302 }, { "document.erase", 600304 },
        { "question.ask", 600399 },
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        json_t *e = printed("ocsf", event_of(ROWS[i].action, "mutation", "success", DOC, true, true));
        cr_expect_eq(number_at(e, "type_uid"), ROWS[i].type_uid, "%s", ROWS[i].action);
        json_destroy(&e);
    }
}

/* ---- whole exports, and back ---- */

static void export_as(const char *format, struct buffer *out) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    req.format = (char *)format;
    req.from_seq = 100;
    cr_assert_eq(rig_stream("query.ExportAudit", pg_ticket(PG_SLUG_A, "auditor", "olga"), &req.base, &query__export_audit_reply__descriptor, out), ST_OK, "%s", rig.why.text);
}

static void add_base64(struct buffer *out, const char *text) {
    uint8_t *data;
    size_t len;
    cr_assert(base64_decode(rig.mem, text, strlen(text), &data, &len));
    (void)buffer_add(out, data, len);
}

static void unwrap_fhir(const struct buffer *bundle, struct buffer *out) {
    json_t *root = parse(bundle->data, bundle->len), *entry;
    size_t i;
    cr_expect_str_eq(text_at(root, "resourceType"), "Bundle");
    cr_expect_str_eq(text_at(root, "type"), "collection");
    json_array_foreach((json_t *)at(root, "entry"), i, entry) {
        const json_t *r = at(entry, "resource");
        if (str_equal(text_at(r, "resourceType"), "Binary")) {
            cr_expect_str_eq(text_at(r, "contentType"), "application/jsonl");
            add_base64(out, text_at(r, "data"));
            continue;
        }
        add_base64(out, text_at(json_array_get(at(r, "entity"), json_array_size(at(r, "entity")) - 1), "detail.0.valueBase64Binary"));
        (void)buffer_add_str(out, "\n");
    }
    json_destroy(&root);
}

static void unwrap_ocsf(const struct buffer *lines, struct buffer *out) {
    for (const char *line = lines->data, *end; (end = strchr(line, '\n')); line = end + 1) {
        json_t *value = parse(line, (size_t)(end - line));
        const char *raw = text_at(value, "raw_data");
        (void)(*raw ? buffer_add_str(out, raw) : buffer_add(out, line, (size_t)(end - line)));
        (void)buffer_add_str(out, "\n");
        json_destroy(&value);
    }
}

Test(query_forms, every_form_turns_back_into_the_lines_that_verify) {
    const char *const args[] = { "--key", LOG_VERIFIER, NULL };
    CLEANUP(buffer_end) struct buffer lines = { 0 }, fhir = { 0 }, ocsf = { 0 }, said = { 0 };
    log_fill(PG_TENANT_A, 700);
    log_sign(PG_TENANT_A);
    export_as("", &lines);
    for (int i = 0; i < 2; i++) {
        CLEANUP(buffer_end) struct buffer back = { 0 };
        struct buffer *out = i ? &ocsf : &fhir;
        export_as(i ? "ocsf" : "fhir", out);
        (i ? unwrap_ocsf : unwrap_fhir)(out, &back);
        cr_assert_eq(back.len, lines.len, "%d", i);
        cr_expect_arr_eq(back.data, lines.data, lines.len, "%d", i);
    }
    cr_expect_eq(log_verify(args, lines.data, lines.len, &said), 0, "%s", said.data);
    cr_expect_not_null(strstr(rig_last("audit.export")->detail, "\"format\":\"ocsf\""));
}

Test(query_forms, a_form_that_is_none_is_refused) {
    Query__ExportAuditRequest req = QUERY__EXPORT_AUDIT_REQUEST__INIT;
    CLEANUP(buffer_end) struct buffer out = { 0 };
    req.format = (char *)"xml";
    cr_expect_eq(rig_stream("query.ExportAudit", pg_ticket(PG_SLUG_A, "auditor", "olga"), &req.base, &query__export_audit_reply__descriptor, &out), ST_INVALID);
    cr_expect_eq(out.len, 0u);
    cr_expect_eq(rig.event_count, 0u);
}
