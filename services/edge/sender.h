/* sender — whose request is it? The address at the other end of the connection, unless that is a proxy of ours: then the
 * right-most address in the one header that our proxies write which is not a proxy's again. What stands to the left of it
 * came from outside and may be anything; it is not even read. Pure, but for proxies_read. */
#ifndef CORDON_EDGE_SENDER_H
#define CORDON_EDGE_SENDER_H

#include <arpa/inet.h>
#include <civetweb.h>
#include <stdint.h>

#include "core/status.h"

/* IPv4 addresses are held as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2). */
struct address { uint8_t bytes[16]; };

enum { PROXIES_MAX_COUNT = 64 };
struct proxies {
    const char *header;                                 /* the only one that is read; static */
    unsigned count;
    struct { struct address net; unsigned bits; } nets[PROXIES_MAX_COUNT];
};

struct sender {
    struct address address;
    char text[INET6_ADDRSTRLEN];
};

/* list: CIDRs between commas, "" for none; no net may be larger than IPv4's /8 or IPv6's /16. header: x-forwarded-for, x-real-ip or
 * forwarded. ST_INVALID. */
enum status proxies_read(const char *list, const char *header, struct proxies *ret_proxies, struct why *why) MUST_USE;

void sender_find(const struct proxies *proxies, const struct mg_request_info *in, struct sender *ret_sender);

/* What a limit counts as one sender: an IPv4 address, or the /64 that an IPv6 network gives to one site. */
enum { SENDER_SITE_BYTES = 16 };
void sender_site(const struct sender *sender, uint8_t ret_site[SENDER_SITE_BYTES]);

#endif
