#include "answer.h"
#include "edge.pb-c.h"
#include "exchange.h"

enum status serve_live(struct exchange *x) {
    Edge__LiveReply reply = EDGE__LIVE_REPLY__INIT;
    reply.status = "live";
    return answer_message(x, 200, &reply.base);
}

static enum status serve_state(struct exchange *x, bool tells_by_status) {
    static const enum peer PEERS[] = { PEER_AUTH, PEER_INGEST_WORKER, PEER_QUERY };
    enum { PEER_COUNT = sizeof PEERS / sizeof *PEERS };
    Edge__PeerHealth rows[PEER_COUNT], *pointers[PEER_COUNT];
    Edge__HealthReply reply = EDGE__HEALTH_REPLY__INIT;
    bool is_ready = true;
    for (int i = 0; i < PEER_COUNT; i++) {
        edge__peer_health__init(&rows[i]);
        rows[i].name = (char *)peer_name(PEERS[i]);
        rows[i].is_up = bus_peer_is_up(x->edge->rt->bus, PEERS[i]);
        pointers[i] = &rows[i];
        is_ready = is_ready && rows[i].is_up;
    }
    bool is_draining = atomic_load(&x->edge->is_draining);
    reply.status = is_draining ? "draining" : is_ready ? "ready" : "degraded";
    reply.version = CORDON_VERSION;
    reply.peers = pointers;
    reply.n_peers = PEER_COUNT;
    return answer_message(x, tells_by_status && (is_draining || !is_ready) ? 503 : 200, &reply.base);
}

enum status serve_ready(struct exchange *x) {
    return serve_state(x, true);
}

enum status serve_health(struct exchange *x) {
    return serve_state(x, false);
}
