/* note — what the threads of one process tell the network thread and hear from it, over inproc sockets:
 * a fixed struct, and for most kinds one frame of the bus. Never leaves the process. */
#ifndef CORDON_BUS_NOTE_H
#define CORDON_BUS_NOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <zmq.h>

#include "bus/bus.h"

enum note_kind {
    /* clients of outgoing calls */
    NOTE_ASK = 1,       /* to the network: send this CALL to a replica of peer */
    NOTE_PASS,          /* to the network: the next frame of call id; from it: of call or slot id */
    NOTE_FORGET,        /* to the network: nobody waits for call id */
    NOTE_FAILED,        /* from the network: call id ends without a REPLY; status, code, text tell why */
    /* workers of incoming calls */
    NOTE_READY,         /* to the network: this worker takes the next call */
    NOTE_TAKE,          /* from the network: a CALL; id is its slot */
    NOTE_PART,          /* to the network: a PART for the caller of slot id */
    NOTE_CREDIT,        /* CREDIT of `credit` parts: to the network with its frame, from it without */
    NOTE_DONE,          /* to the network: the REPLY of slot id */
    NOTE_CANCELLED,     /* from the network: the caller of slot id is gone */
    NOTE_STOP,          /* from the network: no more calls */
    /* the thread that started the bus, and the resolver */
    NOTE_DRAIN,         /* send GOAWAY, say NOTE_QUIET when nobody needs us */
    NOTE_QUIET,
    NOTE_HALT,          /* cancel what runs, stop the workers */
    NOTE_QUIT,          /* end the network thread */
    NOTE_ADDRESSES,     /* the frame holds the addresses of peer, each with its NUL */
};

enum { NOTE_TEXT_BYTES = 96, NOTE_ID_MAX_BYTES = 31 };

struct note {
    enum note_kind kind;
    enum peer peer;
    uint64_t id;
    int64_t deadline_ms;
    uint32_t credit;
    bool is_stream;                 /* NOTE_ASK */
    bool is_repeatable;             /* NOTE_ASK */
    enum status status;             /* NOTE_FAILED */
    char text[NOTE_TEXT_BYTES];     /* NOTE_FAILED */
};

/* A ROUTER's name for one connection. */
struct route_id { uint8_t len; uint8_t bytes[NOTE_ID_MAX_BYTES]; };

bool route_id_equal(const struct route_id *a, const struct route_id *b);

/* Name of the network thread's inproc socket. */
extern const char NOTE_ADDRESS[];

/* A DEALER of the calling thread, connected to the network thread. Never NULL. */
void *note_socket(void *zmq_context);

/* Send a note; to: the receiver when socket is the network thread's, else NULL. frame: NULL, or taken. */
void note_send(void *socket, const struct route_id *to, const struct note *note, zmq_msg_t *frame);

/* Take one note without waiting; false when there is none. ret_from: NULL on a DEALER. ret_frame is
 * initialised in any case and is the caller's to close. */
bool note_recv(void *socket, struct route_id *ret_from, struct note *ret_note, zmq_msg_t *ret_frame);

/* Wait until socket is readable or clock_mono_ms() reaches deadline_ms; false: the time is over. */
bool note_wait(void *socket, int64_t deadline_ms);
/* The same for either of two; other: NULL for none. */
bool note_wait_either(void *socket, void *other, int64_t deadline_ms);

#endif
