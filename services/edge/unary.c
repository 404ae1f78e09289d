#include "answer.h"
#include "body.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/str.h"
#include "exchange.h"
#include "rest/header.h"

enum { BODY_MS = 30000 };

enum status exchange_fill(struct exchange *x, const struct buffer *json) {
    struct fill *f = &x->fill;
    enum status st = ST_OK;
    fill_init(f, x->call.mem, FIELDS, x->route->req, &x->call.why);
    for (unsigned i = 0; i < x->match.param_count && st == ST_OK; i++) {
        const struct route_param *p = &x->match.params[i];
        st = fill_text(f, arena_strndup(x->call.mem, p->name, p->name_len), p->text, p->text_len);
    }
    if (st == ST_OK && json)
        st = fill_json(f, json->data ? json->data : "", json->len);
    else if (st == ST_OK)
        st = fill_query(f, x->in->query_string);
    if (st == ST_OK)
        st = fill_end(f);
    if (st != ST_OK)
        (void)snprintf(x->detail, sizeof x->detail, "%s", f->detail);
    return st;
}

static enum status read_json(struct exchange *x, struct buffer *out) {
    struct media_type type;
    if (!x->framing.content_type || !media_type_parse(x->framing.content_type, &type) || !str_equal(type.text, "application/json"))
        return fail_as(&x->call.why, ERR_REQ_MEDIA_TYPE, "not application/json");
    if (x->in->query_string && *x->in->query_string)
        return fail_as(&x->call.why, ERR_REQ_FIELD, "a query string beside a body");
    if (x->framing.idempotency_key) {       /* who sends one relies on it: better refused than not heeded */
        (void)snprintf(x->detail, sizeof x->detail, "Idempotency-Key is honoured by uploads only");
        return fail_as(&x->call.why, ERR_REQ_FIELD, "an Idempotency-Key where none is honoured");
    }
    x->call.deadline_ms = clock_mono_ms() + BODY_MS;
    return body_read_all(x, out);
}

enum status exchange_read(struct exchange *x) {
    CLEANUP(buffer_end) struct buffer json = { .limit_bytes = x->route->body_max_bytes };
    enum status st = x->route->body == BODY_JSON ? read_json(x, &json) : ST_OK;
    if (st == ST_OK)
        st = exchange_enter(x);
    return st == ST_OK ? exchange_fill(x, x->route->body == BODY_JSON ? &json : NULL) : st;
}

/* Ask, and answer with the reply. */
enum status exchange_ask(struct exchange *x) {
    ProtobufCMessage *reply = NULL;
    x->call.deadline_ms = clock_mono_ms() + x->route->budget_ms;
    enum status st = bus_ask(&x->call, x->route->method, x->fill.msg, x->route->reply, &reply);
    if (st == ST_OK)
        st = fault_status(FAULT_EDGE_REPLIED, &x->call.why);
    if (st != ST_OK)
        return st;
    if (x->route->success == 204)
        return answer_whole(x, &(struct answer_head){ .http_status = 204 }, "", 0);
    return answer_message(x, x->route->success, reply);
}

enum status serve_unary(struct exchange *x) {
    enum status st = exchange_read(x);
    return st == ST_OK ? exchange_ask(x) : st;
}
