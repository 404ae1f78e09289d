#include "refusals.h"

#include <string.h>

#include "audit/client.h"
#include "core/buffer.h"
#include "json/writer.h"

enum { DETAIL_TEXT_MAX_BYTES = 120 };

/* Details hold visible ASCII only (audit/record.h); what a client could have put in is made so. */
static void put_visible(struct json_writer *w, struct arena *mem, const char *name, const char *text) {
    if (!text || !*text)
        return;
    char *copy = arena_strndup(mem, text, strnlen(text, DETAIL_TEXT_MAX_BYTES));
    for (char *c = copy; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '\\')
            *c = '_';
    json_put_name(w, name);
    json_put_text(w, copy);
}

struct detail_field { const char *name, *text; };

/* {"code": ...} and those of the fields (up to one without a name) that have a text. */
static enum status print_detail(struct call *call, enum error_code code, const struct detail_field fields[], struct buffer *out) {
    struct json_writer w;
    json_begin(&w, out);
    json_open_object(&w);
    put_visible(&w, call->mem, "code", error_text_code(code));
    for (const struct detail_field *f = fields; f->name; f++)
        put_visible(&w, call->mem, f->name, f->text);
    json_close_object(&w);
    return json_finish(&w) ? ST_OK : fail(&call->why, ST_INTERNAL, "detail of a refusal");
}

enum status record_denial(struct call *call, enum error_code code, const char *http_method, const char *path,
                          const char *remote_address) {
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    const struct detail_field fields[] = { { "method", http_method }, { "path", path }, { "remote_address", remote_address }, { 0 } };
    enum status st = print_detail(call, code, fields, &detail);
    if (st != ST_OK)
        return st;
    struct audit_record record = { .action = AUDIT_AUTH_DENIED, .outcome = AUDIT_REFUSED, .detail_json = detail.data };
    if (call->ticket[0]) {
        st = audit_append(call, &record, NULL);
        if (st != ST_UNAUTHENTICATED)
            return st;
        call->why = (struct why){ 0 };          /* the ticket has ended; the refusal still happened */
    }
    return audit_append_without_tenant(call, &record);
}

enum status record_lockout(struct call *call, const char *whom, int64_t locked_s, const char *http_method, const char *path,
                           const char *remote_address) {
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    char seconds[24];
    (void)snprintf(seconds, sizeof seconds, "%lld", (long long)locked_s);
    const struct detail_field fields[] = { { "locked", whom }, { "locked_s", seconds }, { "method", http_method }, { "path", path },
                                           { "remote_address", remote_address }, { 0 } };
    enum status st = print_detail(call, ERR_LOCKED_OUT, fields, &detail);
    return st == ST_OK ? audit_append_without_tenant(call, &(struct audit_record){
        .action = AUDIT_AUTH_LOCKOUT, .outcome = AUDIT_REFUSED, .detail_json = detail.data }) : st;
}

enum status record_refused_token(struct call *call, enum error_code code, const char *reason, const char *tenant,
                                 const char *remote_address) {
    CLEANUP(buffer_end) struct buffer detail = { 0 };
    const struct detail_field fields[] = { { "reason", reason }, { "tenant", tenant }, { "remote_address", remote_address }, { 0 } };
    enum status st = print_detail(call, code, fields, &detail);
    return st == ST_OK ? audit_append_without_tenant(call, &(struct audit_record){
        .action = AUDIT_AUTH_DENIED, .outcome = AUDIT_REFUSED, .detail_json = detail.data }) : st;
}
