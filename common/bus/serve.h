/* serve — the bus as the skeleton uses it: start and stop, drain, and the workers that take calls. A
 * worker belongs to one thread and has one call at a time; call_read and call_write (bus.h) are its
 * stream. The thread that starts a bus is the one that drains and stops it. */
#ifndef CORDON_BUS_SERVE_H
#define CORDON_BUS_SERVE_H

#include "bus/bus.h"
#include "bus/options.h"

/* opt: borrowed until bus_stop. ST_INVALID: a key, an endpoint or the address is malformed.
 * ST_UNAVAILABLE: the address is taken. */
enum status bus_start(const struct bus_options *opt, struct bus **ret_bus, struct why *why) MUST_USE;

/* GOAWAY to every caller: they finish what runs and send no more. Returns at once. */
void bus_drain(struct bus *bus);
/* After bus_drain: wait until nobody needs us; false at deadline_ms. */
bool bus_wait_quiet(struct bus *bus, int64_t deadline_ms);
/* Cancel the calls that still run, those that this process serves and those it made, and stop the workers. */
void bus_halt(struct bus *bus);
/* End the threads and sockets. Every client and worker was destroyed before. */
void bus_stop(struct bus **bus_p);

struct bus_worker;

/* For the calling thread, with a bus_client of its own. Never NULL. Destroy on the same thread. */
struct bus_worker *bus_worker_new(struct bus *bus);
void bus_worker_destroy(struct bus_worker **worker_p);

/* Wait for a call. Fills *ret_call (its mem is the caller's to destroy after bus_worker_reply) and the
 * method and body, which live in mem. False: the bus stops. */
bool bus_worker_take(struct bus_worker *w, struct call *ret_call, ProtobufCBinaryData *ret_body);
/* End the call that was taken. reply: NULL unless st is ST_OK. Returns what the caller was told, which is
 * ST_INTERNAL (and call->why says so) when the reply is larger than a frame. */
enum status bus_worker_reply(struct bus_worker *w, struct call *call, enum status st, const ProtobufCMessage *reply);

#endif
