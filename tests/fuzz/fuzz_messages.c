// links: bus rest
/* The body of any call or reply, from a peer: unpacked within its cap or not at all; what was unpacked is whole, and what is
 * printed of it for a client is JSON. The first byte says which message. */
#include <stdlib.h>

#include "audit.pb-c.h"
#include "auth.pb-c.h"
#include "bus/bus.h"
#include "embedding.pb-c.h"
#include "ingest.pb-c.h"
#include "json/reader.h"
#include "query.pb-c.h"
#include "rest/print.h"

static const ProtobufCServiceDescriptor *const SERVICES[] = {
    &audit__audit__descriptor, &auth__auth__descriptor, &embedding__embedding__descriptor, &ingest__ingest__descriptor, &query__query__descriptor,
};

/* Requests and replies of all services, one after the other; round and round. */
static const ProtobufCMessageDescriptor *message(unsigned number) {
    unsigned count = 0;
    for (size_t i = 0; i < sizeof SERVICES / sizeof *SERVICES; i++)
        count += 2 * SERVICES[i]->n_methods;
    number %= count;
    for (size_t i = 0;; number -= 2 * SERVICES[i++]->n_methods)
        if (number < 2 * SERVICES[i]->n_methods)
            return number % 2 ? SERVICES[i]->methods[number / 2].output : SERVICES[i]->methods[number / 2].input;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    if (size < 1)
        return 0;
    CLEANUP(arena_destroy) struct arena *mem = arena_new(BUS_BODY_CAP_BYTES);
    CLEANUP(buffer_end) struct buffer printed = { 0 };
    CLEANUP(json_destroy) json_t *read = NULL;
    ProtobufCMessage *msg = protobuf_c_message_unpack(message(data[0]), arena_wire(mem), size - 1, data + 1);
    if (!msg)
        return 0;
    size_t len = protobuf_c_message_get_packed_size(msg);
    uint8_t *packed = malloc(len + 1);
    if (!protobuf_c_message_check(msg) || protobuf_c_message_pack(msg, packed) != len)
        abort();
    free(packed);
    struct json_writer w;
    struct why why = { 0 };
    json_begin(&w, &printed);
    if (print_message(msg, &w) && json_finish(&w) && json_parse(printed.data, printed.len, printed.len, &read, &why) != ST_OK)
        abort();
    return 0;
}
