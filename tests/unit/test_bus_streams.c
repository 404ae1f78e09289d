#include "bus_fixture.h"

TestSuite(bus_streams, .init = make_keys, .timeout = 120);

enum { PART_BYTES = 1000, MANY_PARTS = 200 };

struct upload {
    sem_t may_read;                     /* one post lets the handler read one part */
    atomic_bool is_paced;
    atomic_uint read_count;
    atomic_bool was_cancelled;
    atomic_uint early;                  /* refuse with this before reading anything */
};

static struct node worker, edge;
static struct upload upload;
static struct asker asker;

/* Reads everything, checks the order, answers the number of bytes as document_id. */
static enum status take_upload(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    struct upload *u = ctx;
    if (u->early)
        return fail(&call->why, (enum status)u->early, "not this one");
    uint64_t bytes = 0;
    for (bool is_end = false; !is_end;) {
        if (u->is_paced)
            sem_wait(&u->may_read);
        const void *data;
        size_t len;
        enum status st = call_read(call, &data, &len, &is_end);
        if (st != ST_OK) {
            u->was_cancelled = st == ST_UNAVAILABLE;
            return st;
        }
        unsigned expected = u->read_count++;
        if (len >= sizeof expected && memcmp(data, &expected, sizeof expected) != 0)
            return fail(&call->why, ST_INTERNAL, "part %u is out of order", expected);
        bytes += len;
    }
    Ingest__UploadReply *reply = arena_alloc(call->mem, sizeof *reply);
    ingest__upload_reply__init(reply);
    reply->document_id = (ProtobufCBinaryData){ sizeof bytes, arena_memdup(call->mem, &bytes, sizeof bytes) };
    reply->status = arena_strdup(call->mem, call->ticket);
    *ret_reply = &reply->base;
    return ST_OK;
}

static void start(test_handler handle, enum peer callee) {
    upload = (struct upload){ .early = ST_OK };
    sem_init(&upload.may_read, 0, 0);
    callee_start(&worker, callee, 0, 2, handle, &upload);
    caller_start(&edge, callee, worker.listen);
    asker_start(&asker, &edge, PATIENCE_MS);
}

static void stop(void) {
    asker_end(&asker);
    node_stop(&edge);
    node_stop(&worker);
}

static struct bus_stream *open_upload(void) {
    Ingest__UploadRequest req = INGEST__UPLOAD_REQUEST__INIT;
    struct bus_stream *s = NULL;
    cr_assert_eq(bus_stream_open(&asker.call, "ingest.Upload", &req.base, &s), ST_OK, "%s", asker.call.why.text);
    return s;
}

static enum status write_part(struct bus_stream *s, unsigned number, size_t len, bool is_end, const char *ticket) {
    static char part[BUS_PART_MAX_BYTES];
    memcpy(part, &number, sizeof number);
    return bus_stream_write(s, part, len, is_end, ticket);
}

static enum status finish_upload(struct bus_stream *s, uint64_t *ret_bytes, char *ret_ticket) {
    ProtobufCMessage *reply = NULL;
    enum status st = bus_stream_finish(s, &ingest__upload_reply__descriptor, &reply);
    if (st == ST_OK) {
        memcpy(ret_bytes, ((Ingest__UploadReply *)reply)->document_id.data, sizeof *ret_bytes);
        strcpy(ret_ticket, ((Ingest__UploadReply *)reply)->status);
    }
    return st;
}

Test(bus_streams, an_upload_arrives_whole_and_in_order_with_its_fresh_ticket) {
    start(take_upload, PEER_INGEST_WORKER);
    struct bus_stream *s = open_upload();
    for (unsigned i = 0; i < MANY_PARTS; i++)
        cr_assert_eq(write_part(s, i, PART_BYTES, false, i == 100 ? "fresh" : NULL), ST_OK, "%s", asker.call.why.text);
    cr_assert_eq(write_part(s, MANY_PARTS, BUS_PART_MAX_BYTES, true, NULL), ST_OK);
    uint64_t bytes = 0;
    char ticket[64] = "";
    cr_assert_eq(finish_upload(s, &bytes, ticket), ST_OK, "%s", asker.call.why.text);
    cr_expect_eq(bytes, (uint64_t)MANY_PARTS * PART_BYTES + BUS_PART_MAX_BYTES);
    cr_expect_str_eq(ticket, "fresh");
    bus_stream_destroy(&s);
    stop();
}

Test(bus_streams, an_empty_upload_is_one_empty_last_part) {
    start(take_upload, PEER_INGEST_WORKER);
    struct bus_stream *s = open_upload();
    cr_assert_eq(bus_stream_write(s, NULL, 0, true, NULL), ST_OK);
    uint64_t bytes = 1;
    char ticket[64] = "";
    cr_assert_eq(finish_upload(s, &bytes, ticket), ST_OK, "%s", asker.call.why.text);
    cr_expect_eq(bytes, 0);
    bus_stream_destroy(&s);
    stop();
}

/* A writer is never more than the window ahead of the reader. */
Test(bus_streams, a_slow_reader_holds_the_writer_back) {
    start(take_upload, PEER_INGEST_WORKER);
    upload.is_paced = true;
    struct bus_stream *s = open_upload();
    sem_post(&upload.may_read);
    for (unsigned i = 0; i < BUS_WINDOW_PARTS; i++)
        cr_assert_eq(write_part(s, i, PART_BYTES, false, NULL), ST_OK);
    WAIT_FOR(upload.read_count == 1);
    int64_t deadline_ms = asker.call.deadline_ms;
    asker.call.deadline_ms = clock_mono_ms() + 300;
    cr_expect_eq(write_part(s, BUS_WINDOW_PARTS, PART_BYTES, false, NULL), ST_TIMEOUT, "the window is wider than it should be");
    asker.call.deadline_ms = deadline_ms;
    sem_post(&upload.may_read);
    cr_expect_eq(write_part(s, BUS_WINDOW_PARTS, PART_BYTES, false, NULL), ST_OK, "%s", asker.call.why.text);
    bus_stream_destroy(&s);
    for (unsigned i = 0; i < 8; i++)
        sem_post(&upload.may_read);
    WAIT_FOR(upload.was_cancelled);
    stop();
}

Test(bus_streams, a_destroyed_stream_cancels_the_call) {
    start(take_upload, PEER_INGEST_WORKER);
    struct bus_stream *s = open_upload();
    cr_assert_eq(write_part(s, 0, PART_BYTES, false, NULL), ST_OK);
    WAIT_FOR(upload.read_count == 1);
    bus_stream_destroy(&s);
    WAIT_FOR(upload.was_cancelled);
    stop();
}

Test(bus_streams, a_lost_caller_cancels_the_call) {
    start(take_upload, PEER_INGEST_WORKER);
    struct bus_stream *s = open_upload();
    cr_assert_eq(write_part(s, 0, PART_BYTES, false, NULL), ST_OK);
    WAIT_FOR(upload.read_count == 1);
    bus_stream_destroy(&s);
    asker_end(&asker);
    node_stop(&edge);
    WAIT_FOR(upload.was_cancelled);
    node_stop(&worker);
}

Test(bus_streams, an_early_refusal_swallows_the_parts_and_tells_why_at_the_end) {
    start(take_upload, PEER_INGEST_WORKER);
    upload.early = ST_FORBIDDEN;
    struct bus_stream *s = open_upload();
    for (unsigned i = 0; i < 20; i++)
        cr_assert_eq(write_part(s, i, PART_BYTES, false, NULL), ST_OK);
    ProtobufCMessage *reply = NULL;
    cr_expect_eq(bus_stream_finish(s, &ingest__upload_reply__descriptor, &reply), ST_FORBIDDEN);
    cr_expect_eq(asker.call.why.code, ERR_FORBIDDEN);
    bus_stream_destroy(&s);
    stop();
}

/* While an upload is open, the same thread may ask something else of the same peer. */
Test(bus_streams, a_question_may_be_asked_during_an_upload) {
    start(take_upload, PEER_INGEST_WORKER);
    struct bus_stream *s = open_upload();
    cr_assert_eq(write_part(s, 0, PART_BYTES, false, NULL), ST_OK);
    struct call other = asker.call;
    Ingest__DeleteDocumentRequest req = INGEST__DELETE_DOCUMENT_REQUEST__INIT;
    ProtobufCMessage *reply = NULL;
    /* The handler treats it as an upload; a call that is no stream has no DATA to read. */
    cr_expect_eq(bus_ask(&other, "ingest.DeleteDocument", &req.base, &ingest__delete_document_reply__descriptor, &reply), ST_INVALID);
    cr_assert_eq(bus_stream_write(s, NULL, 0, true, NULL), ST_OK);
    uint64_t bytes = 0;
    char ticket[64] = "";
    cr_expect_eq(finish_upload(s, &bytes, ticket), ST_OK, "%s", asker.call.why.text);
    cr_expect_eq(bytes, PART_BYTES);
    bus_stream_destroy(&s);
    stop();
}

/* ---- downloads ---- */

static enum status send_content(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    struct upload *u = ctx;
    static char part[BUS_PART_MAX_BYTES];
    for (unsigned i = 0; i < MANY_PARTS; i++) {
        enum status st = call_write(call, &i, sizeof i);
        if (st != ST_OK) {
            u->was_cancelled = st == ST_UNAVAILABLE;
            return st;
        }
        u->read_count++;
    }
    enum status st = call_write(call, part, sizeof part);
    Query__GetContentReply *reply = arena_alloc(call->mem, sizeof *reply);
    query__get_content_reply__init(reply);
    reply->sent_bytes = 4711;
    *ret_reply = &reply->base;
    return st;
}

static struct bus_stream *open_download(void) {
    Query__GetContentRequest req = QUERY__GET_CONTENT_REQUEST__INIT;
    struct bus_stream *s = NULL;
    cr_assert_eq(bus_stream_open(&asker.call, "query.GetContent", &req.base, &s), ST_OK, "%s", asker.call.why.text);
    return s;
}

Test(bus_streams, a_download_arrives_whole_and_in_order) {
    start(send_content, PEER_QUERY);
    struct bus_stream *s = open_download();
    const void *data = NULL;
    size_t len = 0;
    for (unsigned i = 0; i < MANY_PARTS; i++) {
        cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK, "%s", asker.call.why.text);
        cr_assert_eq(len, sizeof i);
        cr_assert_eq(memcmp(data, &i, sizeof i), 0);
    }
    cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK);
    cr_expect_eq(len, BUS_PART_MAX_BYTES);
    cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK);
    cr_expect_null(data);
    cr_expect_eq(len, 0);
    ProtobufCMessage *reply = NULL;
    cr_assert_eq(bus_stream_finish(s, &query__get_content_reply__descriptor, &reply), ST_OK, "%s", asker.call.why.text);
    cr_expect_eq(((Query__GetContentReply *)reply)->sent_bytes, 4711);
    bus_stream_destroy(&s);
    stop();
}

Test(bus_streams, a_reader_that_stops_holds_the_handler_back_and_may_leave) {
    start(send_content, PEER_QUERY);
    struct bus_stream *s = open_download();
    const void *data = NULL;
    size_t len = 0;
    cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK);
    WAIT_FOR(upload.read_count == BUS_WINDOW_PARTS);
    usleep(50000);      /* nothing must happen, and that has no event */
    cr_expect_eq(upload.read_count, BUS_WINDOW_PARTS);
    bus_stream_destroy(&s);
    WAIT_FOR(upload.was_cancelled);
    stop();
}

Test(bus_streams, finishing_early_throws_the_rest_away) {
    start(send_content, PEER_QUERY);
    struct bus_stream *s = open_download();
    ProtobufCMessage *reply = NULL;
    cr_expect_eq(bus_stream_finish(s, &query__get_content_reply__descriptor, &reply), ST_OK, "%s", asker.call.why.text);
    cr_expect_eq(upload.read_count, MANY_PARTS);
    bus_stream_destroy(&s);
    stop();
}

Test(bus_streams, a_question_takes_no_stream) {
    start(send_content, PEER_QUERY);
    cr_expect_eq(search(&asker.call, "why", NULL), ST_INVALID);
    stop();
}

/* ---- waiting for a time, and fresh tickets on the way down ---- */

/* Answers once it was told that its ticket is the one it waits for. */
static enum status await_ticket(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx, (void)body;
    call_take_tickets(call);
    while (!str_equal(call->ticket, "fresh") && !call_is_cancelled(call)) {
        usleep(1000);
        call_take_tickets(call);
    }
    cr_expect(call_is_stream(call));
    enum status st = call_write(call, call->ticket, strlen(call->ticket));
    Query__GetContentReply *reply = arena_alloc(call->mem, sizeof *reply);
    query__get_content_reply__init(reply);
    *ret_reply = &reply->base;
    return st;
}

Test(bus_streams, a_reader_may_wait_for_a_while_and_hand_over_fresh_tickets_between) {
    Query__GetContentRequest req = QUERY__GET_CONTENT_REQUEST__INIT;
    struct bus_stream *s = NULL;
    const void *data = NULL;
    size_t len = 0;
    ProtobufCMessage *reply = NULL;
    start(await_ticket, PEER_QUERY);
    cr_assert_eq(bus_stream_open(&asker.call, "query.GetContent", &req.base, &s), ST_OK);
    cr_expect_not(bus_stream_has_room(s));
    while (!bus_stream_has_room(s))
        cr_assert_eq(bus_stream_read_until(s, clock_mono_ms() + 20, &data, &len), ST_TIMEOUT, "there is nothing to read yet");
    for (unsigned i = 0; i < 3 * BUS_WINDOW_PARTS; i++) {
        cr_assert_eq(bus_stream_write(s, NULL, 0, false, "stale"), ST_OK, "%u", i);
        while (!bus_stream_has_room(s))
            cr_assert_eq(bus_stream_read_until(s, clock_mono_ms() + 20, &data, &len), ST_TIMEOUT, "%u", i);
    }
    cr_assert_eq(bus_stream_write(s, NULL, 0, false, "fresh"), ST_OK);
    cr_assert_eq(bus_stream_read(s, &data, &len), ST_OK);
    cr_expect(len == 5 && memcmp(data, "fresh", 5) == 0);
    cr_expect_eq(bus_stream_finish(s, &query__get_content_reply__descriptor, &reply), ST_OK);
    bus_stream_destroy(&s);
    stop();
}

/* query, which asks a model that never answers. */
static struct node model, asking;
static atomic_bool model_was_cancelled, asker_saw_it;

static enum status say_nothing(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx, (void)body, (void)ret_reply;
    while (!call_is_cancelled(call))
        usleep(1000);
    model_was_cancelled = true;
    return fail(&call->why, ST_UNAVAILABLE, "cancelled");
}

static enum status ask_model(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)ctx, (void)body, (void)ret_reply;
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    CLEANUP(bus_stream_destroy) struct bus_stream *s = NULL;
    const void *data = NULL;
    size_t len = 0;
    enum status st = bus_stream_open(call, "embedding.Generate", &req.base, &s);
    if (st == ST_OK)
        st = bus_stream_read(s, &data, &len);
    asker_saw_it = st == ST_UNAVAILABLE;
    return st;
}

Test(bus_streams, whoever_is_left_by_its_caller_leaves_those_that_it_asked_at_once) {
    Query__SearchRequest req = QUERY__SEARCH_REQUEST__INIT;
    struct bus_stream *s = NULL;
    model_was_cancelled = asker_saw_it = false;
    callee_init(&model, PEER_EMBEDDING_WORKER, 0, 1, say_nothing, NULL);
    model.opt.callers = PEER_QUERY;
    node_start(&model);
    callee_init(&asking, PEER_QUERY, 0, 1, ask_model, NULL);
    asking.opt.endpoints[peer_index(PEER_EMBEDDING_WORKER)] = model.listen;
    node_start(&asking);
    caller_start(&edge, PEER_QUERY, asking.listen);
    asker_start(&asker, &edge, PATIENCE_MS);
    cr_assert_eq(bus_stream_open(&asker.call, "query.Query", &req.base, &s), ST_OK);
    WAIT_FOR(metric(&model, "cordon_in_flight ") == 1);
    int64_t left_ms = clock_mono_ms();
    bus_stream_destroy(&s);
    WAIT_FOR(asker_saw_it && model_was_cancelled);
    cr_expect_lt(clock_mono_ms() - left_ms, 2000);
    asker_end(&asker);
    node_stop(&edge);
    node_stop(&asking);
    node_stop(&model);
}
