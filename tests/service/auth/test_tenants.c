/* Tenants: made once with keys of their own, however often somebody tries. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/str.h"
#include "rig.h"

TestSuite(tenants, .init = rig_open, .fini = rig_close, .timeout = 60);

static enum status create(const char *ticket, const char *slug, const char *name, Auth__Tenant **ret_tenant) {
    Auth__CreateTenantRequest req = AUTH__CREATE_TENANT_REQUEST__INIT;
    Auth__CreateTenantReply *reply = NULL;
    req.slug = (char *)slug;
    req.name = (char *)name;
    enum status st = rig_call("auth.CreateTenant", ticket, &req.base, (ProtobufCMessage **)&reply);
    if (st == ST_OK)
        *ret_tenant = reply->tenant;
    return st;
}

static Auth__ListTenantsReply *list(const char *ticket, const char *cursor, unsigned limit) {
    Auth__ListTenantsRequest req = AUTH__LIST_TENANTS_REQUEST__INIT;
    Auth__ListTenantsReply *reply = NULL;
    req.cursor = (char *)cursor;
    req.limit = limit;
    enum status st = rig_call("auth.ListTenants", ticket, &req.base, (ProtobufCMessage **)&reply);
    return st == ST_OK ? reply : NULL;
}

static const char *id_text(const Auth__Tenant *tenant) {
    struct uuid id;
    cr_assert(uuid_from_bytes(tenant->id.data, tenant->id.len, &id));
    return uuid_format(&id, arena_alloc(rig.mem, UUID_TEXT_BYTES));
}

Test(tenants, a_new_tenant_has_a_kms_key_and_two_wrapped_keys) {
    Auth__Tenant *tenant = NULL;
    cr_assert_eq(create(rig_platform_ticket(), "hill-top", "Hill Top Clinic", &tenant), ST_OK, "%s", rig.why.text);
    cr_assert_str_eq(tenant->slug, "hill-top");
    cr_assert_str_eq(tenant->name, "Hill Top Clinic");
    cr_assert_str_eq(tenant->status, "active");
    cr_assert_gt(tenant->created_at_us, 0);
    const char *id = id_text(tenant);
    cr_assert_eq(rig.key_count, 1);
    cr_assert_str_eq(rig.keys[0].alias, "alias/cordon/hill-top");
    cr_assert_str_eq(rig.keys[0].description, arena_printf(rig.mem, "Cordon tenant %s", id));
    cr_assert_not_null(strstr(rig.keys[0].tags, "{\"TagKey\":\"cordon\",\"TagValue\":\"tenant-key\"}"), "%s", rig.keys[0].tags);
    cr_assert_not_null(strstr(rig.keys[0].tags, arena_printf(rig.mem, "{\"TagKey\":\"tenant_id\",\"TagValue\":\"%s\"}", id)));
    cr_assert_not_null(strstr(rig.keys[0].tags, "{\"TagKey\":\"managed-by\",\"TagValue\":\"cordon\"}"));
    cr_assert_eq(rig.data_key_count, 2);
    cr_assert_str_eq(rig.contexts[0], arena_printf(rig.mem, "{\"purpose\":\"data\",\"tenant_id\":\"%s\"}", id));
    cr_assert_str_eq(rig.contexts[1], arena_printf(rig.mem, "{\"purpose\":\"search\",\"tenant_id\":\"%s\"}", id));
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT string_agg(kind || version || kms_key_id || encode(blob, 'escape'), ' ' ORDER BY kind) FROM keys.tenant_keys "
                            "WHERE tenant_id = '%s'", id),
                     arena_printf(rig.mem, "data1%swrapped! search1%swrapped!", rig.keys[0].arn, rig.keys[0].arn));
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT kms_key_id FROM auth.tenants WHERE id = '%s'", id), rig.keys[0].arn);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM audit.audit_outbox WHERE action = 'tenant.create' AND resource_id = '%s'", id), "1");
}

Test(tenants, people_of_the_new_tenant_get_tickets) {
    Auth__Tenant *tenant = NULL;
    Auth__AuthenticateReply *reply = NULL;
    cr_assert_eq(create(rig_platform_ticket(), "hill-top", "Hill Top Clinic", &tenant), ST_OK);
    cr_assert_eq(rig_authenticate(rig_token("ada", "\"tenant\":\"hill-top\",\"roles\":[\"admin\"]"), &reply), ST_OK, "%s", rig.why.text);
    cr_assert_arr_eq(reply->tenant_id.data, tenant->id.data, UUID_BYTES);
}

Test(tenants, a_slug_is_taken_once) {
    Auth__Tenant *tenant = NULL;
    const char *ticket = rig_platform_ticket();
    cr_assert_eq(create(ticket, "hill-top", "One", &tenant), ST_OK);
    cr_assert_eq(create(ticket, "hill-top", "Two", &tenant), ST_CONFLICT);
    cr_assert_eq(create(ticket, PG_SLUG_A, "Three", &tenant), ST_CONFLICT);
    cr_assert_eq(create(ticket, "cordon-platform", "Four", &tenant), ST_CONFLICT);
    cr_assert_leq(rig.key_count, 2, "nothing is made for a slug that is visibly taken");
}

Test(tenants, an_attempt_that_died_is_taken_up_with_its_key_and_id) {
    Auth__Tenant *tenant = NULL;
    const char *ticket = rig_platform_ticket();
    rig.key_count = 1;
    rig.keys[0] = (struct rig_key){ "arn:aws:kms:us-east-1:123456789012:key/old", "alias/cordon/hill-top",
                                    "Cordon tenant 0192f3a0-0000-7000-8000-00000000000a", "", "Enabled" };
    cr_assert_eq(create(ticket, "hill-top", "Hill Top", &tenant), ST_OK, "%s", rig.why.text);
    cr_assert_str_eq(id_text(tenant), "0192f3a0-0000-7000-8000-00000000000a");
    cr_assert_eq(rig.key_count, 1, "no second key");
}

Test(tenants, keys_that_cannot_serve_make_no_tenant) {
    Auth__Tenant *tenant = NULL;
    const char *ticket = rig_platform_ticket();
    rig.key_count = 1;
    rig.keys[0] = (struct rig_key){ "arn:aws:kms:us-east-1:123456789012:key/old", "alias/cordon/hill-top",
                                    "Cordon tenant 0192f3a0-0000-7000-8000-00000000000a", "", "PendingDeletion" };
    cr_assert_eq(create(ticket, "hill-top", "Hill Top", &tenant), ST_UNAVAILABLE);
    cr_assert_eq(rig.why.code, ERR_KMS_DISABLED);
    strcpy(rig.keys[0].description, "somebody else's");
    cr_assert_eq(create(ticket, "hill-top", "Hill Top", &tenant), ST_CONFLICT);
    /* a key that already is another tenant's: renamed since, say */
    (void)snprintf(rig.keys[0].description, sizeof rig.keys[0].description, "Cordon tenant %s", PG_TENANT_A);
    strcpy(rig.keys[0].state, "Enabled");
    cr_assert_eq(create(ticket, "hill-top", "Hill Top", &tenant), ST_CONFLICT);
    rig.is_kms_down = true;
    cr_assert_eq(create(ticket, "valley", "Valley", &tenant), ST_UNAVAILABLE);
    cr_assert_eq(rig.why.code, ERR_KMS_UNAVAILABLE);
    cr_assert_str_eq(pg_ask(pg_admin(), "SELECT count(*) FROM auth.tenants"), "3");
}

Test(tenants, slugs_and_names_have_a_form) {
    static const char *const SLUGS[] = { "", "a", "-ab", "ab-", "Ab", "a_b", "a b", "caf\xc3\xa9", "0192f3a0-0000-7000-8000-00000000000a",
                                         "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx", "../x" };
    static const char *const NAMES[] = { "", "a\nb", "\x7f" };
    Auth__Tenant *tenant = NULL;
    const char *ticket = rig_platform_ticket();
    for (size_t i = 0; i < sizeof SLUGS / sizeof *SLUGS; i++)
        cr_expect_eq(create(ticket, SLUGS[i], "Name", &tenant), ST_INVALID, "%s", SLUGS[i]);
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        cr_expect_eq(create(ticket, "slug", NAMES[i], &tenant), ST_INVALID, "%s", NAMES[i]);
    cr_assert_eq(rig.key_count, 0);
}

Test(tenants, only_the_platforms_administrators_may) {
    Auth__Tenant *tenant = NULL;
    cr_assert_eq(create(pg_ticket(PG_SLUG_A, "admin", "root"), "hill-top", "Hill Top", &tenant), ST_FORBIDDEN);
    cr_assert_eq(create("", "hill-top", "Hill Top", &tenant), ST_UNAUTHENTICATED);
    cr_assert_eq(create("1.1.00.00", "hill-top", "Hill Top", &tenant), ST_UNAUTHENTICATED);
    cr_assert_eq(rig.key_count, 0, "nothing is made for somebody who may not");
    cr_assert_null(list(pg_ticket(PG_SLUG_A, "admin", "root"), "", 10));
    cr_assert_eq(rig.why.code, ERR_FORBIDDEN);
    cr_assert_null(list("", "", 10));
}

Test(tenants, are_listed_in_pages_and_the_reading_is_recorded) {
    Auth__Tenant *tenant = NULL;
    const char *ticket = rig_platform_ticket();
    for (int i = 0; i < 5; i++)
        cr_assert_eq(create(ticket, arena_printf(rig.mem, "clinic-%d", i), "Clinic", &tenant), ST_OK, "%s", rig.why.text);
    const char *cursor = "";
    unsigned pages = 0, seen = 0;
    do {
        Auth__ListTenantsReply *reply = list(ticket, cursor, 3);
        cr_assert_not_null(reply, "%s", rig.why.text);
        for (size_t i = 0; i < reply->n_tenants; i++, seen++)
            cr_assert_str_neq(reply->tenants[i]->slug, "cordon-platform");
        cursor = reply->next_cursor;
        pages++;
    } while (*cursor && pages < 10);
    cr_assert_eq(seen, 7);
    cr_assert_eq(pages, 3);
    cr_assert_eq(rig.event_count, pages);
    cr_assert_eq(rig.events[0].action, AUDIT_TENANT_READ);
    cr_assert(rig.events[0].has_tenant, "under the reader's ticket");
}

Test(tenants, are_not_shown_when_the_reading_cannot_be_recorded) {
    const char *ticket = rig_platform_ticket();
    rig.audit_answer = ST_UNAVAILABLE;
    cr_assert_null(list(ticket, "", 3));
}

Test(tenants, cursors_that_are_not_ours_are_refused) {
    const char *ticket = rig_platform_ticket();
    static const char *const CURSORS[] = { "x", "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAA" };
    for (size_t i = 0; i < sizeof CURSORS / sizeof *CURSORS; i++) {
        cr_expect_null(list(ticket, CURSORS[i], 3));
        cr_expect_eq(rig.why.code, ERR_REQ_CURSOR, "%s", CURSORS[i]);
    }
}
