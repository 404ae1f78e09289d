#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit.pb-c.h"
#include "auth.pb-c.h"
#include "bus/envelope.h"
#include "bus/methods.h"
#include "bus/peers.h"
#include "core/str.h"
#include "embedding.pb-c.h"
#include "ingest.pb-c.h"
#include "query.pb-c.h"

TestSuite(envelope, .timeout = 10);

static bool opens(Bus__Envelope *e) {
    zmq_msg_t frame;
    envelope_pack(e, &frame);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(zmq_msg_size(&frame)));
    bool is_open = envelope_open(mem, zmq_msg_data(&frame), zmq_msg_size(&frame)) != NULL;
    zmq_msg_close(&frame);
    return is_open;
}

Test(envelope, sizes_and_kind_are_checked) {
    char text[ENVELOPE_TICKET_MAX_BYTES + 2];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    static uint8_t body[BUS_FRAME_MAX_BYTES];
    Bus__Envelope e = BUS__ENVELOPE__INIT;
    cr_expect_not(opens(&e), "kind 0");
    e.kind = BUS__KIND__CALL;
    cr_expect(opens(&e));
    e.kind = 8;
    cr_expect_not(opens(&e), "kind 8");
    e.kind = BUS__KIND__CALL;
    e.ticket = text;
    cr_expect_not(opens(&e), "long ticket");
    e.ticket = (char *)"";
    e.method = text;
    cr_expect_not(opens(&e), "long method");
    e.method = (char *)"";
    e.traceparent = text;
    cr_expect_not(opens(&e), "long traceparent");
    e.traceparent = (char *)"";
    e.body = (ProtobufCBinaryData){ ENVELOPE_BODY_MAX_BYTES, body };
    cr_expect(opens(&e));
    e.kind = BUS__KIND__PART;
    cr_expect_not(opens(&e), "long part");
    e.body.len = BUS_PART_MAX_BYTES;
    cr_expect(opens(&e));
    e.body.len = BUS_FRAME_MAX_BYTES;
    e.kind = BUS__KIND__CALL;
    cr_expect_not(opens(&e), "long frame");
}

/* Fields in any order and number are what protobuf-c makes of them, whether the body is copied or not. */
Test(envelope, the_body_of_a_stream_is_not_copied) {
    static const struct { const char *wire; size_t len; const char *body; bool is_in_frame; } CASES[] = {
        { "\x10\x04\x62\x03" "abc", 7, "abc", true },                           /* PART: kind, body */
        { "\x10\x02\x3a\x01t\x58\x01\x62\x02" "xy", 11, "xy", true },       /* DATA: ticket and end before it */
        { "\x10\x05\x62\x02" "xy\x68\x00", 8, "xy", false },                  /* REPLY: status behind it */
        { "\x62\x01" "a\x10\x04\x62\x02" "bc", 9, "bc", true },               /* twice: the last one */
        { "\x10\x04\x62\x00", 4, "", true },
        { "\x10\x04", 2, "", false },
        { "\x10\x04\x62\x04" "abc", 7, NULL, false },                           /* longer than the frame */
        { "\x10\x04\x62\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13, NULL, false },
        { "\x10\x04\x62", 3, NULL, false },
        { "\x10\x04\x62\x83\x80\x80\x80\x00" "abc", 11, "abc", true },
        { "\x10\x04\x62\x83\x80\x80\x80\x80\x00" "abc", 12, NULL, false },       /* of six bytes are neither lengths */
        { "\x10\x04\xe2\x80\x80\x80\x80\x00\x03" "abc", 12, NULL, false },       /* nor tags */
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(CASES[i].len));
        Bus__Envelope *e = envelope_open(mem, CASES[i].wire, CASES[i].len);
        cr_assert_eq(e != NULL, CASES[i].body != NULL, "case %zu", i);
        if (!e)
            continue;
        cr_expect_eq(e->body.len, strlen(CASES[i].body), "case %zu", i);
        cr_expect_eq(memcmp(e->body.len ? (const char *)e->body.data : "", CASES[i].body, e->body.len), 0, "case %zu", i);
        bool is_in_frame = (const char *)e->body.data >= CASES[i].wire && (const char *)e->body.data <= CASES[i].wire + CASES[i].len;
        cr_expect_eq(is_in_frame, CASES[i].is_in_frame, "case %zu", i);
    }
}

/* Two bytes of wire become a 24-byte struct each: the cap stops that. */
Test(envelope, a_flood_of_unknown_fields_is_refused) {
    enum { FIELDS = 100000 };
    uint8_t *flood = malloc(3 * FIELDS);
    for (size_t i = 0; i < FIELDS; i++)
        memcpy(flood + 3 * i, "\xf8\x07\x00", 3);
    CLEANUP(arena_destroy) struct arena *mem = arena_new(envelope_cap_bytes(3 * FIELDS));
    cr_expect_null(envelope_open(mem, flood, 3 * FIELDS));
    free(flood);
}

struct method_case { const char *method; bool is_good; };

Test(envelope, methods_are_package_dot_rpc) {
    static const struct method_case CASES[] = {
        { "query.Search", true }, { "bus.Ping", true }, { "", false }, { ".Search", false }, { "query.", false }, { "query", false },
        { "query.Search.x", false }, { "query.Se arch", false }, { "query.\n", false },
    };
    uint8_t id[UUID_BYTES] = { 0 };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Bus__Envelope e = BUS__ENVELOPE__INIT;
        e.version = BUS_VERSION;
        e.method = (char *)CASES[i].method;
        e.request_id = (ProtobufCBinaryData){ sizeof id, id };
        cr_expect_eq(envelope_call_fault(&e) == NULL, CASES[i].is_good, "'%s'", CASES[i].method);
    }
}

Test(peers, names_packages_and_bits_agree) {
    for (unsigned i = 0; i < PEER_COUNT; i++) {
        enum peer peer = peer_at(i);
        cr_expect_eq(peer_index(peer), i);
        cr_expect_eq(peer_from_name(peer_name(peer)), peer);
    }
    cr_expect_eq(peer_of_method("ingest.Upload"), PEER_INGEST_WORKER);
    cr_expect_eq(peer_of_method("ingest"), PEER_NONE);
    cr_expect_eq(peer_of_method("bus.Ping"), PEER_NONE);
    cr_expect_eq(peer_from_name(NULL), PEER_NONE);
    cr_expect_str_eq(peer_name(PEER_NONE), "?");
}

Test(methods, reads_are_repeatable_and_writes_are_not) {
    cr_expect(method_is_repeatable("query.Search"));
    cr_expect(method_is_repeatable("audit.Append"));
    cr_expect_not(method_is_repeatable("ingest.Upload"));
    cr_expect_not(method_is_repeatable("ingest.DeleteDocument"));
    cr_expect_not(method_is_repeatable("auth.CreateTenant"));
    cr_expect_not(method_is_repeatable("query.Nothing"));
}

/* A row for a method that was renamed would silently stop to be repeated. */
Test(methods, every_repeatable_row_names_a_real_rpc) {
    static const ProtobufCServiceDescriptor *const SERVICES[] = {
        &auth__auth__descriptor, &ingest__ingest__descriptor, &embedding__embedding__descriptor, &query__query__descriptor, &audit__audit__descriptor,
    };
    static const char *const ROWS[] = {
#define REPEATABLE(method) method,
#include "bus/methods.def"
#undef REPEATABLE
    };
    for (size_t row = 0; row < sizeof ROWS / sizeof *ROWS; row++) {
        unsigned found = str_equal(ROWS[row], "bus.Ping");
        for (size_t i = 0; i < sizeof SERVICES / sizeof *SERVICES; i++)
            for (unsigned n = 0; n < SERVICES[i]->n_methods; n++) {
                char method[128];
                (void)snprintf(method, sizeof method, "%s.%s", SERVICES[i]->package, SERVICES[i]->methods[n].name);
                found += str_equal(method, ROWS[row]);
            }
        cr_expect_eq(found, 1, "%s", ROWS[row]);
    }
}
