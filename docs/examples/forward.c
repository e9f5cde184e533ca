/* An appliance behind AWS Gateway Load Balancer that lets everything pass: what GENEVE asks of one, in C.
 *
 *     cc -O2 -Wall -o forward forward.c
 *     ./forward ADDRESS HEALTH_PORT
 *
 * A reply goes back from the UDP port that the packet came from. Here each such port has a socket of its own, which
 * needs no privileges; with CAP_NET_RAW one raw socket does for all of them.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GENEVE = 6081, LARGEST = 65536, MOST_PORTS = 65536, MOST_CHECKS = 64, MTU = 8500 };

static uint16_t be16(const uint8_t *p) { return p[0] << 8 | p[1]; }

/* Whether the inner packet is whole, and of the version that GENEVE says it is. */
static int inner_is_sound(const uint8_t *p, size_t length, unsigned ethertype)
{
    if (ethertype == 0x0800) {
        if (length < 20 || p[0] >> 4 != 4)
            return 0;
        size_t header = (p[0] & 15) * 4, total = be16(p + 2);
        if (header < 20 || total < header || total > length || total > MTU)
            return 0;
        return p[16] >> 4 != 14 && memcmp(p + 16, "\xff\xff\xff\xff", 4); /* no multicast in a VPC */
    }
    if (ethertype == 0x86dd) {
        size_t total = length < 40 ? 0 : 40 + (size_t)be16(p + 4);
        return total && p[0] >> 4 == 6 && total <= length && total <= MTU && p[24] != 0xff;
    }
    return 0;
}

/* Whether a datagram is GENEVE as GWLB sends it (RFC 8926 3.4, 3.5), with a sound packet in it. */
static int is_sound(const uint8_t *p, size_t length)
{
    static const unsigned sizes[] = {0, 8, 8, 4}; /* endpoint, attachment, flow cookie */
    unsigned seen = 0;
    if (length < 8 || p[0] >> 6 != 0)
        return 0;
    size_t end = 8 + (p[0] & 63) * 4, at = 8;
    if (end > length || p[1] & 0x80) /* options beyond the datagram; a control packet */
        return 0;
    while (at < end) {
        if (end - at < 4)
            return 0;
        unsigned class = be16(p + at), type = p[at + 2], size = (p[at + 3] & 31) * 4;
        if (size > end - at - 4 || type & 0x80) /* beyond the options; critical, and not known here */
            return 0;
        if (class == 0x0108 && type >= 1 && type <= 3) {
            if (size != sizes[type] || seen & 1u << type)
                return 0;
            seen |= 1u << type;
        }
        at += 4 + size;
    }
    return seen == 0xe && inner_is_sound(p + end, length - end, be16(p + 2));
}

static int bound(const char *address, unsigned port, int kind)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, sock = socket(AF_INET, kind, 0);
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", address);
        exit(2);
    }
    if (kind == SOCK_STREAM)
        setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(sock, (struct sockaddr *)&name, sizeof name) == 0)
        return sock;
    close(sock);
    return -1;
}

static int checks[MOST_CHECKS], open_checks;

static void close_check(int number)
{
    close(checks[number]);
    checks[number] = checks[--open_checks];
}

/* Answers one health check as soon as its request has come, and closes the connection. */
static void answer(int number)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char request[4096];
    ssize_t got = recv(checks[number], request, sizeof request, MSG_DONTWAIT);
    if (got > 0) {
        send(checks[number], ok, sizeof ok - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(checks[number], SHUT_WR);
    }
    close_check(number);
}

int main(int count, char **words)
{
    static int ports[MOST_PORTS];
    static uint8_t datagram[LARGEST];
    int buffer = 4 << 20;
    if (count != 3) {
        fprintf(stderr, "usage: %s ADDRESS HEALTH_PORT\n", words[0]);
        return 2;
    }
    int geneve = bound(words[1], GENEVE, SOCK_DGRAM), health = bound(words[1], atoi(words[2]), SOCK_STREAM);
    if (geneve < 0 || health < 0 || listen(health, 128) < 0) {
        perror(words[1]);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    setsockopt(geneve, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    ports[GENEVE] = geneve;
    for (;;) {
        struct pollfd ready[MOST_CHECKS + 2] = {{geneve, POLLIN, 0}, {health, POLLIN, 0}};
        for (int i = 0; i < open_checks; i++)
            ready[i + 2] = (struct pollfd){checks[i], POLLIN, 0};
        if (poll(ready, open_checks + 2, -1) < 0)
            continue;
        for (int i = open_checks - 1; i >= 0; i--)
            if (ready[i + 2].revents)
                answer(i);
        if (ready[1].revents) {
            int check = accept(health, 0, 0);
            if (check >= 0 && open_checks == MOST_CHECKS)
                close_check(0); /* idle connections make room */
            if (check >= 0)
                checks[open_checks++] = check;
        }
        for (int i = 0; i < 64 && ready[0].revents; i++) {
            struct sockaddr_in node;
            socklen_t size = sizeof node;
            ssize_t length = recvfrom(geneve, datagram, sizeof datagram, MSG_DONTWAIT, (struct sockaddr *)&node, &size);
            if (length < 0)
                break;
            unsigned port = ntohs(node.sin_port);
            if (!port || !is_sound(datagram, length))
                continue;
            if (!ports[port] && (ports[port] = bound(words[1], port, SOCK_DGRAM)) < 0)
                ports[port] = 0;
            node.sin_port = htons(GENEVE); /* from the port it came from, to GENEVE's: not swapped */
            if (ports[port])
                sendto(ports[port], datagram, length, MSG_DONTWAIT, (struct sockaddr *)&node, sizeof node);
        }
    }
}
