// links: bus
/* The frame of any peer: opened, checked, packed again. */
#include "bus/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct arena *mem = arena_new(envelope_cap_bytes(size));
    Bus__Envelope *e = envelope_open(mem, data, size);
    if (e) {
        (void)envelope_call_fault(e);
        zmq_msg_t frame;
        envelope_pack(e, &frame);
        (void)zmq_msg_close(&frame);
    }
    arena_destroy(&mem);
    return 0;
}
