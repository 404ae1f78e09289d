/* peers — small integers for peers, so that tables can be arrays. Pure. */
#ifndef CORDON_BUS_PEERS_H
#define CORDON_BUS_PEERS_H

#include "bus/bus.h"

enum peer_index {
#define PEER(id, bit, name, package) INDEX_OF_##id = (bit),
#include "service/peers.def"
#undef PEER
    PEER_COUNT
};

/* Of a single peer, not of a mask. */
unsigned peer_index(enum peer peer);
enum peer peer_at(unsigned index);

#endif
