// links: bus
/* The frame of any peer: opened, checked, packed again. Its body is the one that protobuf-c finds. */
#include <stdlib.h>
#include <string.h>

#include "bus/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena *mem = arena_new(envelope_cap_bytes(size));
    Bus__Envelope *e = envelope_open(mem, data, size);
    if (e) {
        Bus__Envelope *theirs = bus__envelope__unpack(NULL, size, data);
        if (!theirs || theirs->body.len != e->body.len || (e->body.len && memcmp(theirs->body.data, e->body.data, e->body.len) != 0))
            abort();
        bus__envelope__free_unpacked(theirs, NULL);
        (void)envelope_call_fault(e);
        zmq_msg_t frame;
        envelope_pack(e, &frame);
        (void)zmq_msg_close(&frame);
    }
    arena_destroy(&mem);
    return 0;
}
