/* Names with several addresses, asked of a real name server: the test runs in a network and a mount namespace of
 * its own, where /etc/resolv.conf names a server of a few lines on loopback. */
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "bus_fixture.h"

TestSuite(bus_names, .init = make_keys, .timeout = 120);

enum { PORT = 18113, DNS_HEAD_BYTES = 12, DNS_MAX_BYTES = 512 };
enum mode { ANSWERS, FAILS, IS_SILENT };

/* Answers every A question with 127.0.0.<n> for each bit n of `hosts`, and every other one with nothing. */
struct name_server { int fd; atomic_uint hosts; atomic_int mode; atomic_uint asked; };

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static size_t answer_question(const struct name_server *ns, uint8_t *packet, size_t len) {
    static const uint8_t RECORD[] = { 0xc0, DNS_HEAD_BYTES, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0 };
    size_t end = DNS_HEAD_BYTES;
    while (end < len && packet[end])
        end += packet[end] + 1u;
    end += 5;                                       /* the root label, type, class */
    if (end > len)
        return 0;
    bool is_a = packet[end - 3] == 1;
    unsigned count = 0;
    for (unsigned host = 1; is_a && ns->mode == ANSWERS && host < 8; host++)
        if (ns->hosts >> host & 1) {
            memcpy(packet + end, RECORD, sizeof RECORD);
            packet[end + sizeof RECORD] = (uint8_t)host;
            end += sizeof RECORD + 1;
            count++;
        }
    put16(packet + 2, ns->mode == FAILS ? 0x8182 : 0x8180);
    put16(packet + 6, count);
    put16(packet + 8, 0);
    put16(packet + 10, 0);
    return end;
}

static void *serve_names(void *arg) {
    struct name_server *ns = arg;
    for (;;) {
        uint8_t packet[DNS_MAX_BYTES];
        struct sockaddr_in from;
        socklen_t from_len = sizeof from;
        ssize_t len = recvfrom(ns->fd, packet, sizeof packet / 2, 0, (struct sockaddr *)&from, &from_len);
        ns->asked++;
        size_t out = len > DNS_HEAD_BYTES && ns->mode != IS_SILENT ? answer_question(ns, packet, (size_t)len) : 0;
        if (out)
            (void)sendto(ns->fd, packet, out, 0, (struct sockaddr *)&from, from_len);
    }
    return NULL;
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "we");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
}

static void move_into_namespaces(void) {
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0)
        cr_skip("no namespaces here");
    if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0)
        cr_skip("the root is no mount point, as in a chroot: what is mounted here might be seen outside");
    char path[] = "/tmp/cordon-resolv-XXXXXX";
    int file = mkstemp(path), fd = socket(AF_INET, SOCK_DGRAM, 0);
    write_file(path, "nameserver 127.0.0.1\n");
    cr_assert_eq(fchmod(file, 0644), 0);
    struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
    cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
    cr_assert_eq(mount(path, "/etc/resolv.conf", "none", MS_BIND, NULL), 0);
    close(fd);
    close(file);
    unlink(path);
}

static void name_server_start(struct name_server *ns, unsigned hosts) {
    move_into_namespaces();
    *ns = (struct name_server){ .fd = socket(AF_INET, SOCK_DGRAM, 0), .hosts = hosts };
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    cr_assert_eq(bind(ns->fd, (struct sockaddr *)&at, sizeof at), 0);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, serve_names, ns), 0);
    cr_assert_eq(pthread_detach(thread), 0);
}

static enum status answer(void *ctx, struct call *call, ProtobufCBinaryData body, ProtobufCMessage **ret_reply) {
    (void)body;
    atomic_uint *count = ctx;
    (*count)++;
    *ret_reply = search_reply(call, "here");
    return ST_OK;
}

static void replica_start(struct node *n, unsigned host, atomic_uint *count) {
    callee_init(n, PEER_QUERY, 1, 2, answer, count);
    snprintf(n->listen, sizeof n->listen, "tcp://127.0.0.%u:%u", host, PORT);
    node_start(n);
}

static unsigned up(const struct node *edge) {
    unsigned count = 0;
    for (unsigned i = 0; i < 8; i++) {
        char line[64];
        snprintf(line, sizeof line, "cordon_bus_link_up{peer=\"query\",replica=\"%u\"} ", i);
        count += metric(edge, line) == 1;
    }
    return count;
}

/* Questions without a pause, so that whatever is lost is seen. */
struct load { struct node *edge; pthread_t thread; atomic_bool is_over; atomic_uint ok, failed; };

static void *ask_and_ask(void *arg) {
    struct load *load = arg;
    while (!load->is_over)
        *(ask_once(load->edge, "q", PATIENCE_MS) == ST_OK ? &load->ok : &load->failed) += 1;
    return NULL;
}

Test(bus_names, replicas_come_and_go_with_the_addresses_of_their_name) {
    static struct name_server ns;       /* its thread outlives the test */
    struct node replicas[3], edge;
    atomic_uint counts[3] = { 0 };
    name_server_start(&ns, 1 << 1);
    for (unsigned i = 0; i < 3; i++)
        replica_start(&replicas[i], i + 1, &counts[i]);
    caller_start(&edge, PEER_QUERY, "tcp://query.cordon.internal:18113");
    WAIT_FOR(up(&edge) == 1);
    struct load load = { .edge = &edge };
    cr_assert_eq(pthread_create(&load.thread, NULL, ask_and_ask, &load), 0);
    WAIT_FOR(counts[0] > 10);
    ns.hosts = 1 << 1 | 1 << 2 | 1 << 3;            /* scaled up */
    WAIT_FOR(up(&edge) == 3 && counts[1] > 10 && counts[2] > 10);
    ns.mode = FAILS;                                /* SERVFAIL: the last answer stays good */
    unsigned asked = ns.asked, served = counts[2];
    WAIT_FOR(ns.asked > asked + 4 && counts[2] > served + 10);
    cr_expect_eq(up(&edge), 3);
    ns.mode = ANSWERS;
    ns.hosts = 1 << 2 | 1 << 3;                     /* scaled down: the name first, */
    WAIT_FOR(up(&edge) == 2 && metric(&replicas[0], "cordon_bus_callers ") == 0);
    bus_drain(replicas[1].bus);                     /* or the replica first, as when it is told to stop */
    cr_expect(bus_wait_quiet(replicas[1].bus, clock_mono_ms() + PATIENCE_MS));
    WAIT_FOR(up(&edge) == 1);
    ns.hosts = 1 << 3;
    node_stop(&replicas[1]);
    served = counts[2];
    WAIT_FOR(counts[2] > served + 10);
    load.is_over = true;
    pthread_join(load.thread, NULL);
    cr_expect_eq(load.failed, 0, "%u of %u calls failed", load.failed, load.ok + load.failed);
    node_stop(&edge);
    node_stop(&replicas[0]);
    node_stop(&replicas[2]);
}

Test(bus_names, a_silent_name_server_neither_takes_replicas_away_nor_holds_up_the_end) {
    static struct name_server ns;       /* its thread outlives the test */
    struct node replica, edge;
    atomic_uint count = 0;
    name_server_start(&ns, 1 << 1);
    replica_start(&replica, 1, &count);
    caller_start(&edge, PEER_QUERY, "tcp://query.cordon.internal:18113");
    WAIT_FOR(up(&edge) == 1);
    ns.mode = IS_SILENT;
    unsigned asked = ns.asked;
    WAIT_FOR(ns.asked > asked);                     /* now the resolver is in getaddrinfo, for 5 s at least */
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    int64_t began_ms = clock_mono_ms();
    node_stop(&edge);
    cr_expect_lt(clock_mono_ms() - began_ms, 1500);
    node_stop(&replica);
}

Test(bus_names, a_file_of_endpoints_is_read_again) {
    struct node replicas[2], edge;
    atomic_uint counts[2] = { 0 };
    char path[] = "/tmp/cordon-endpoints-XXXXXX", endpoint[64], fresh[64], text[160];
    close(mkstemp(path));
    snprintf(endpoint, sizeof endpoint, "file://%s", path);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    for (unsigned i = 0; i < 2; i++)
        callee_start(&replicas[i], PEER_QUERY, 0, 1, answer, &counts[i]);
    snprintf(text, sizeof text, "%s\n", replicas[0].listen);
    write_file(path, text);
    caller_start(&edge, PEER_QUERY, endpoint);
    WAIT_FOR(up(&edge) == 1);
    snprintf(text, sizeof text, "%s\n%s\n", replicas[0].listen, replicas[1].listen);
    write_file(fresh, text);
    cr_assert_eq(rename(fresh, path), 0);
    WAIT_FOR(up(&edge) == 2);
    snprintf(text, sizeof text, "%s\nnot an endpoint\n", replicas[1].listen);
    write_file(fresh, text);
    cr_assert_eq(rename(fresh, path), 0);
    cr_assert_eq(unlink(path), 0);                  /* neither half a list nor none takes a replica away */
    usleep(1500000);
    cr_expect_eq(up(&edge), 2);
    snprintf(text, sizeof text, "%s\n", replicas[1].listen);
    write_file(path, text);
    WAIT_FOR(up(&edge) == 1);
    cr_expect_eq(ask_once(&edge, "q", PATIENCE_MS), ST_OK);
    cr_expect_eq(counts[1], 1);
    unlink(path);
    node_stop(&edge);
    for (unsigned i = 0; i < 2; i++)
        node_stop(&replicas[i]);
}
