#include "bus/peers.h"

#include <assert.h>
#include <string.h>

#include "core/str.h"

static const struct { enum peer id; const char *name, *package; } PEERS[] = {
#define PEER(id, bit, name, package) [bit] = { id, name, package },
#include "service/peers.def"
#undef PEER
};

unsigned peer_index(enum peer peer) {
    assert(peer != PEER_NONE && (peer & (peer - 1)) == 0);
    return (unsigned)__builtin_ctz(peer);
}

enum peer peer_at(unsigned index) {
    assert(index < PEER_COUNT);
    return PEERS[index].id;
}

const char *peer_name(enum peer peer) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        if (PEERS[i].id == peer)
            return PEERS[i].name;
    return "?";
}

enum peer peer_from_name(const char *name) {
    for (unsigned i = 0; i < PEER_COUNT; i++)
        if (str_equal(name, PEERS[i].name))
            return PEERS[i].id;
    return PEER_NONE;
}

enum peer peer_of_method(const char *method) {
    const char *dot = strchr(method, '.');
    size_t len = dot ? (size_t)(dot - method) : 0;
    for (unsigned i = 0; len && i < PEER_COUNT; i++)
        if (strlen(PEERS[i].package) == len && memcmp(PEERS[i].package, method, len) == 0)
            return PEERS[i].id;
    return PEER_NONE;
}
