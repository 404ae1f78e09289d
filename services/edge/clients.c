#include "clients.h"

#include <assert.h>
#include <stdlib.h>

#include "core/arena.h"

void clients_open(struct clients *clients, struct bus *bus, size_t room) {
    *clients = (struct clients){ .bus = bus, .idle = xalloc(room * sizeof *clients->idle), .room = room };
    if (pthread_mutex_init(&clients->lock, NULL) != 0)
        abort();
}

void clients_close(struct clients *clients) {
    if (!clients->idle)
        return;
    while (clients->count > 0)
        bus_client_destroy(&clients->idle[--clients->count]);
    free(clients->idle);
    clients->idle = NULL;
    (void)pthread_mutex_destroy(&clients->lock);
}

struct bus_client *clients_borrow(struct clients *clients) {
    struct bus_client *client = NULL;
    (void)pthread_mutex_lock(&clients->lock);
    if (clients->count > 0)
        client = clients->idle[--clients->count];
    (void)pthread_mutex_unlock(&clients->lock);
    return client ? client : bus_client_new(clients->bus);
}

void clients_give_back(struct clients *clients, struct bus_client **client_p) {
    if (!*client_p)
        return;
    (void)pthread_mutex_lock(&clients->lock);
    assert(clients->count < clients->room);
    clients->idle[clients->count++] = *client_p;
    (void)pthread_mutex_unlock(&clients->lock);
    *client_p = NULL;
}
