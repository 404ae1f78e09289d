#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "patience.h"

/* A connection over loopback, from that port of the client's unless it is 0; *ret_server is our end, the vigil knows the
 * client's address. */
static int connect_from(uint16_t port, int *ret_server, struct vigil *v) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, from = at;
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    from.sin_port = htons(port);
    cr_assert_eq(setsockopt(client, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one), 0);
    cr_assert_eq(bind(client, (struct sockaddr *)&from, len), 0);
    cr_assert_eq(bind(listener, (struct sockaddr *)&at, len), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &len), 0);
    cr_assert_eq(connect(client, (struct sockaddr *)&at, len), 0);
    *ret_server = accept(listener, NULL, NULL);
    cr_assert_eq(getsockname(client, (struct sockaddr *)&from, &len), 0);
    close(listener);
    *v = (struct vigil){ .address = "127.0.0.1", .port = ntohs(from.sin_port), .server_port = ntohs(at.sin_port) };
    return client;
}

static int connect_pair(int *ret_server, struct vigil *v) {
    return connect_from(0, ret_server, v);
}

Test(edge_patience, a_read_that_takes_too_long_is_cut_and_can_be_answered, .timeout = 10) {
    struct patience *p = patience_new();
    struct vigil v;
    int server;
    int client = connect_pair(&server, &v);
    char byte = 'x';
    int64_t began_ms = clock_mono_ms();
    patience_begin(p, &v, began_ms + 100);
    cr_expect_eq(recv(server, &byte, 1, 0), 0);
    cr_expect(patience_end(p, &v));
    cr_expect_lt(clock_mono_ms() - began_ms, 5000);
    cr_expect_eq(send(server, "late", 4, MSG_NOSIGNAL), 4);
    cr_expect_eq(recv(client, &byte, 1, 0), 1);
    cr_expect_eq(byte, 'l');
    patience_destroy(&p);
    close(client);
    close(server);
}

Test(edge_patience, who_is_in_time_is_left_alone, .timeout = 10) {
    struct patience *p = patience_new();
    struct vigil v, w;
    int server, other;
    int client = connect_pair(&server, &v), second = connect_pair(&other, &w);
    char byte;
    patience_begin(p, &v, clock_mono_ms() + 60000);
    patience_begin(p, &w, clock_mono_ms() + 50);
    cr_expect_eq(recv(other, &byte, 1, 0), 0);
    cr_expect_eq(send(client, "y", 1, 0), 1);
    cr_expect_eq(recv(server, &byte, 1, 0), 1);
    cr_expect_not(patience_end(p, &v));
    cr_expect(patience_end(p, &w));
    patience_destroy(&p);
    close(client);
    close(second);
    close(server);
    close(other);
}

Test(edge_patience, all_that_are_late_are_cut_in_one_pass_and_each_in_its_way, .timeout = 10) {
    struct vigil v[3];
    int server[3], client[3];
    struct patience_cut cuts[2];
    char byte = 'z';
    for (int i = 0; i < 3; i++)
        client[i] = connect_pair(&server[i], &v[i]);
    for (int i = 0; i < 2; i++)
        cr_assert(patience_cut_init(&cuts[i], v[2 - i].address, v[2 - i].port));       /* the last first */
    cuts[0].is_writing = false;
    patience_cut_all(cuts, 2);
    cr_expect_eq(recv(server[2], &byte, 1, 0), 0);
    cr_expect_eq(send(server[2], "a", 1, MSG_NOSIGNAL), 1, "a read that is cut can still be answered");
    cr_expect_eq(recv(client[1], &byte, 1, 0), 0, "both ways");
    cr_expect_eq(send(client[0], "b", 1, 0), 1);
    cr_expect_eq(recv(server[0], &byte, 1, 0), 1, "who is in time is left alone");
    for (int i = 0; i < 3; i++) {
        close(client[i]);
        close(server[i]);
    }
}

Test(edge_patience, another_connection_from_the_same_port_saves_nobody, .timeout = 10) {
    struct vigil v, late;
    struct patience_cut cut;
    int server[2];
    char byte;
    int first = connect_pair(&server[0], &v), second = connect_from((uint16_t)v.port, &server[1], &late);
    cr_assert_eq(late.port, v.port);
    cr_expect_eq(patience_socket(&v), server[0]);
    cr_expect_eq(patience_socket(&late), server[1], "whatever else the client has at that port");
    cr_assert(patience_cut_init(&cut, late.address, late.port));
    patience_cut_all(&cut, 1);
    cr_expect_eq(recv(server[1], &byte, 1, MSG_DONTWAIT), 0);
    close(first);
    close(second);
    close(server[0]);
    close(server[1]);
}
