/* inbound — calls that this process serves: the ROUTER, who is connected, the bounded queue in front of
 * the workers, and which worker has which call. A full queue answers BUSY at once; a call whose time ran
 * out while it waited is dropped before it starts. A stream lasts as long as its client is slow, so streams
 * have a bound of their own that leaves workers for short calls. Belongs to the network thread. */
#ifndef CORDON_BUS_INBOUND_H
#define CORDON_BUS_INBOUND_H

#include "bus/note.h"
#include "bus/options.h"

enum { INBOUND_BUSY_RETRY_MS = 1000 };

struct inbound;

/* Binds. inner: the network thread's inproc ROUTER. Statuses as sockets_serve. */
enum status inbound_open(void *zmq_context, const struct bus_options *opt, void *inner, struct inbound **ret_in,
                         struct why *why) MUST_USE;
void inbound_close(struct inbound **in_p);

/* One note of a worker: READY, PART, CREDIT, DONE. The frame is taken if it is moved on. */
void inbound_note(struct inbound *in, const struct route_id *worker, const struct note *note, zmq_msg_t *frame);

/* Tell every caller to send no more. */
void inbound_drain(struct inbound *in);
/* Hand back what waits, cancel what runs, and stop the workers as they become idle. What still ends is answered. */
void inbound_halt(struct inbound *in);
/* After inbound_drain: nothing runs or waits, and no caller may still be sending. */
bool inbound_is_quiet(const struct inbound *in, int64_t now_ms);

size_t inbound_poll_items(struct inbound *in, zmq_pollitem_t *items, size_t max);
void inbound_turn(struct inbound *in);
void inbound_tick(struct inbound *in, int64_t now_ms);

#endif
