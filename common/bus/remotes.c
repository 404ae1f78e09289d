#include "bus/remotes.h"

#include <stdlib.h>

#include "core/arena.h"

struct remote *remotes_find(struct remotes *r, const struct route_id *id) {
    for (struct remote *remote = r->first; remote; remote = remote->next)
        if (!remote->is_gone && route_id_equal(&remote->id, id))
            return remote;
    return NULL;
}

struct remote *remotes_meet(struct remotes *r, const struct route_id *id, enum peer peer) {
    struct remote *remote = remotes_find(r, id);
    if (remote || r->count >= REMOTES_MAX)
        return remote;
    remote = xalloc(sizeof *remote);
    *remote = (struct remote){ .next = r->first, .id = *id, .peer = peer };
    r->first = remote;
    r->count++;
    return remote;
}

void remotes_sweep(struct remotes *r) {
    for (struct remote **place = &r->first, *remote; (remote = *place);)
        if (remote->is_gone && remote->call_count == 0) {
            *place = remote->next;
            free(remote);
            r->count--;
        } else {
            place = &remote->next;
        }
}

void remotes_end(struct remotes *r) {
    for (struct remote *remote = r->first; remote; remote = remote->next) {
        remote->is_gone = true;
        remote->call_count = 0;
    }
    remotes_sweep(r);
}
