/* zap — who may finish a handshake (RFC 27/ZAP): a CURVE public key that the settings give to a peer
 * which some route of this process names. Everything else, other mechanisms included, is refused. The
 * peer's name becomes the User-Id of its frames. Runs inside the network thread: while nobody answers
 * here, libzmq lets nobody in (ZMQ_ZAP_ENFORCE_DOMAIN). */
#ifndef CORDON_BUS_ZAP_H
#define CORDON_BUS_ZAP_H

#include "bus/options.h"

struct zap;

/* opt is borrowed. One per ZeroMQ context. ST_INVALID: a public key is not Z85, or two peers share one. */
enum status zap_open(void *zmq_context, const struct bus_options *opt, struct zap **ret_zap, struct why *why) MUST_USE;
void zap_close(struct zap **zap_p);

void *zap_socket(const struct zap *zap);        /* to poll */
void zap_turn(struct zap *zap);                 /* answer what is asked, without waiting */

#endif
