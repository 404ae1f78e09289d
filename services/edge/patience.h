/* patience — an end to waiting for a client. Civetweb's reads and writes go on as long as single bytes
 * trickle, so a thread of ours watches them: a vigil names a connection and the time by which its present
 * read or write must be done, and when that time has passed the connection's socket is shut down, which
 * makes the call return. Any thread may keep vigils; each vigil belongs to one. */
#ifndef CORDON_EDGE_PATIENCE_H
#define CORDON_EDGE_PATIENCE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct patience;

struct patience *patience_new(void);
void patience_destroy(struct patience **p_p);       /* no vigil may be open */

struct vigil {
    struct vigil *next, *previous;
    const char *address;            /* of the client, IPv4 text; with the port it finds the socket */
    int port;
    int server_port;                /* ours, for patience_socket */
    int64_t begun_ms, deadline_ms;  /* clock_mono_ms() */
    bool is_writing;                /* cut both ways; a read that is cut can still be answered */
    bool is_open, is_cut;
};

/* For others who cut: the other end of a connection that cannot be closed meanwhile, to be shut both ways. */
struct patience_cut { struct in_addr address; int port; bool is_writing; };
bool patience_cut_init(struct patience_cut *cut, const char *address, int port);        /* false: no IPv4 address */
void patience_cut_all(const struct patience_cut *cuts, unsigned count);

/* Begin to watch: v->address and v->port are set and live until patience_end. */
void patience_begin(struct patience *p, struct vigil *v, int64_t deadline_ms);
/* So many connections are open that slow ones are given less time: HURRY_MS for each read or write. */
void patience_hurry(struct patience *p, bool is_crowded);
/* The socket of the connection, which the caller knows to be open; -1: none was found. Any vigil that has address and both ports. */
int patience_socket(const struct vigil *v);
/* Stop watching, before the connection can be closed. True when it was cut. */
bool patience_end(struct patience *p, struct vigil *v);

#endif
