/* bus — questions and answers between processes over ZeroMQ with CURVE.
 *
 * One network thread per process owns every network socket: a ROUTER when the process serves, and one
 * DEALER per resolved replica of each process it calls. Other threads reach it through a bus_client,
 * an inproc socket of their own: one client per thread, for the thread's life. Calls go to the replica
 * with the fewest outstanding; a call that is safe to repeat is sent again when its replica goes away
 * before it answered; late replies are dropped. Nothing here keeps work: a lost message costs its
 * caller a timeout, and PostgreSQL holds everything that must not be lost. */
#ifndef CORDON_BUS_BUS_H
#define CORDON_BUS_BUS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/secret.h"
#include "core/status.h"
#include "core/uuid.h"

enum peer {
    PEER_NONE = 0,
#define PEER(id, bit, name, package) id = 1 << (bit),
#include "service/peers.def"
#undef PEER
};

enum {
    BUS_VERSION = 1,
    BUS_FRAME_MAX_BYTES = 1 << 20,      /* ZMQ_MAXMSGSIZE on every socket */
    BUS_PART_MAX_BYTES = 256 << 10,     /* DATA and PART bodies */
    BUS_WINDOW_PARTS = 4,               /* credit given at the start of a stream */
    BUS_BODY_CAP_BYTES = 8 << 20,       /* arena cap for unpacking one call */
};

const char *peer_name(enum peer peer);                  /* "query"; "?" when unknown; static */
enum peer peer_from_name(const char *name);             /* PEER_NONE when unknown */
enum peer peer_of_method(const char *method);           /* "query.Search" -> PEER_QUERY */

struct bus;
struct bus_client;

/* One request from receipt to reply. Everything in it dies with the reply. Callers (the edge, job
 * loops) fill one too: mem, request_id, ticket, deadline_ms. */
struct call {
    struct arena *mem;              /* owns every byte that this request allocates */
    struct bus_client *bus;         /* of this thread; for calls to other processes */
    struct uuid request_id;         /* from the edge; in every log line */
    const char *method;             /* of the route; "" in a caller's own call */
    const char *ticket;             /* for tenant_tx_begin; "" where no user acts */
    const char *traceparent;        /* W3C, as it came; calls carry the thread's own (obs/trace.h) */
    enum peer peer;                 /* who sent it, by its CURVE key */
    unsigned attempt;               /* from 1 */
    int64_t received_ms;            /* clock_mono_ms() when it was taken; 0 in a caller's own call */
    int64_t deadline_ms;            /* clock_mono_ms(); past it the answer is ST_TIMEOUT */
    struct incoming *incoming;      /* the stream half of a call being served; NULL in a caller's own */
    struct why why;                 /* detail for the log line, if the call fails */
};

/* ---- calling ---- */

/* A client for the calling thread. Never NULL. Destroy it on the same thread, before bus_stop. */
struct bus_client *bus_client_new(struct bus *bus);
void bus_client_destroy(struct bus_client **client_p);

/* Send req as `method` ("audit.Append") with call's ticket, request id and remaining budget, and wait
 * for the reply until call->deadline_ms. *ret_reply is of descriptor `want` and lives in call->mem.
 * A peer's failure comes back as ours, with its public code and retry advice. ST_UNAVAILABLE: no
 * replica, busy, or the outcome is unknown; ST_TIMEOUT: no reply in time. */
enum status bus_ask(struct call *call, const char *method, const ProtobufCMessage *req,
                    const ProtobufCMessageDescriptor *want, ProtobufCMessage **ret_reply) MUST_USE;

/* A call with a stream: parts up (DATA) or parts down (PART), bound to one replica, never repeated. */
struct bus_stream;

/* As bus_ask, but returns once the call is on its way. */
enum status bus_stream_open(struct call *call, const char *method, const ProtobufCMessage *req,
                            struct bus_stream **ret_stream) MUST_USE;
/* Send one part of 0 to BUS_PART_MAX_BYTES; waits for credit until call->deadline_ms. ticket: NULL, or
 * a fresh one that replaces the call's at the callee. After is_end nothing more may be written. An early
 * REPLY (the callee refused) makes it return ST_OK and drop the part: bus_stream_finish tells why. */
enum status bus_stream_write(struct bus_stream *s, const void *data, size_t len, bool is_end,
                             const char *ticket) MUST_USE;
/* True once the REPLY is here: nobody reads what is still written, so the caller may stop early. */
bool bus_stream_is_answered(const struct bus_stream *s);
/* Next part of a streamed reply. *ret_len 0 and *ret_data NULL: no more, call bus_stream_finish. The
 * bytes live until the next read. */
enum status bus_stream_read(struct bus_stream *s, const void **ret_data, size_t *ret_len) MUST_USE;
/* The same, but waits no longer than deadline_ms: ST_TIMEOUT then, and the stream goes on. When the call is one that is
 * being served, its end by its own caller ends the wait at once: ST_UNAVAILABLE. */
enum status bus_stream_read_until(struct bus_stream *s, int64_t deadline_ms, const void **ret_data, size_t *ret_len) MUST_USE;
/* Would bus_stream_write go out without waiting? Reading learns of room. */
bool bus_stream_has_room(const struct bus_stream *s);
/* Wait for the REPLY. */
enum status bus_stream_finish(struct bus_stream *s, const ProtobufCMessageDescriptor *want,
                              ProtobufCMessage **ret_reply) MUST_USE;
/* Cancels the call at the callee unless it was finished. */
void bus_stream_destroy(struct bus_stream **stream_p);

/* True when at least one replica of the peer is connected and not draining. Any thread. */
bool bus_peer_is_up(struct bus *bus, enum peer peer);

/* ---- serving: the stream half of a call, for handlers ---- */

/* Next DATA part of the upload being served; the bytes live until the next call. *ret_end is set with
 * the last part (which may be empty). Updates call->ticket when the caller sent a fresh one.
 * ST_TIMEOUT: nothing came before call->deadline_ms; ST_UNAVAILABLE: the caller cancelled or is gone. */
enum status call_read(struct call *call, const void **ret_data, size_t *ret_len, bool *ret_end) MUST_USE;
/* Send one PART of at most BUS_PART_MAX_BYTES; waits for credit. Failures as call_read. */
enum status call_write(struct call *call, const void *data, size_t len) MUST_USE;
/* True once the caller cancelled or vanished; long handlers ask now and then. */
bool call_is_cancelled(struct call *call);
/* Wait until deadline_ms, or until something comes for the call; false: the caller cancelled or is gone. */
bool call_wait(struct call *call, int64_t deadline_ms) MUST_USE;
/* Did the caller open it as a stream, so that call_write can be used? */
bool call_is_stream(const struct call *call);
/* For handlers whose caller streams nothing but fresh tickets: take those that came, without waiting. */
void call_take_tickets(struct call *call);

#endif
