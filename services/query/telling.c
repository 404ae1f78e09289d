#include "telling.h"

static enum status on_statement(void *ctx, const char *text, size_t len, struct why *why) {
    struct telling *t = ctx;
    (void)len;
    enum status st = tell_token(t, text, why);
    for (size_t i = 0; i < t->kept.source_count && st == ST_OK; i++) {
        if (!t->kept.is_cited[i] || t->is_told[i])
            continue;
        Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
        event.citation = t->citations[i];
        t->is_told[i] = true;
        st = tell(t, &event, why);
    }
    return st;
}

void telling_begin(struct telling *t, struct call *call, Query__Citation *const citations[], size_t count, uint32_t after) {
    *t = (struct telling){ .call = call, .after = after, .citations = citations, .is_told = arena_alloc(call->mem, count + 1),
                           .kept = { .source_count = count, .is_cited = arena_alloc(call->mem, count + 1), .on_statement = on_statement, .ctx = t } };
}

void telling_end(struct telling *t) {
    citations_end(&t->kept);
}

static enum status send(struct telling *t, const Query__AnswerEvent *event, struct why *why) {
    size_t len = protobuf_c_message_get_packed_size(&event->base);
    if (!call_is_stream(t->call))
        return ST_OK;
    if (len > BUS_PART_MAX_BYTES)
        return fail(why, ST_INTERNAL, "an event of %zu bytes is larger than a part", len);
    uint8_t *packed = arena_alloc(t->call->mem, len + 1);
    (void)protobuf_c_message_pack(&event->base, packed);
    enum status st = call_write(t->call, packed, len);
    if (st != ST_OK)
        *why = t->call->why;
    return st;
}

enum status tell(struct telling *t, Query__AnswerEvent *event, struct why *why) {
    event->number = ++t->number;
    return event->number > t->after ? send(t, event, why) : ST_OK;
}

enum status tell_token(struct telling *t, const char *text, struct why *why) {
    Query__AnswerToken token = QUERY__ANSWER_TOKEN__INIT;
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    token.text = (char *)text;
    event.token = &token;
    return tell(t, &event, why);
}

enum status tell_patience(struct telling *t, struct why *why) {
    Query__AnswerEvent event = QUERY__ANSWER_EVENT__INIT;
    return send(t, &event, why);
}
