/* clients — bus clients, lent for the time of a connection. There are as many as connections ever asked at once, not one for
 * each thread of the listener: a client has a socket with queues of its own, some 40 KB. Who comes next gets the one
 * that came back last. Any thread; a client is one thread's while it is lent. */
#ifndef CORDON_EDGE_CLIENTS_H
#define CORDON_EDGE_CLIENTS_H

#include <pthread.h>
#include <stddef.h>

#include "bus/bus.h"

struct clients {
    struct bus *bus;
    pthread_mutex_t lock;           /* guards idle and count */
    struct bus_client **idle;
    size_t count, room;
};

/* In place. room: how many may be lent at once. bus: must outlive them. */
void clients_open(struct clients *clients, struct bus *bus, size_t room);
void clients_close(struct clients *clients);        /* all are back; may run twice */

struct bus_client *clients_borrow(struct clients *clients);
void clients_give_back(struct clients *clients, struct bus_client **client_p);     /* NULL: nothing was lent */

#endif
