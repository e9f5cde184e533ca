/* An appliance that reads its network device, as one on XDP or DPDK does, and gives every GENEVE
 * packet back by turning the frame round:
 *
 *     ./packet_echo DEVICE HEALTH_PORT
 *
 * Needs CAP_NET_RAW, and a device that nobody else uses.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GENEVE = 6081, ETHER = 14 };

static void need(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void swap(uint8_t *one, uint8_t *other, size_t size)
{
    uint8_t kept[8];
    memcpy(kept, one, size);
    memcpy(one, other, size);
    memcpy(other, kept, size);
}

static int listen_on(int kind, uint16_t port)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    int sock = socket(AF_INET, kind, 0), yes = 1;
    need(setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), "SO_REUSEADDR");
    need(bind(sock, (struct sockaddr *)&any, sizeof any), "bind");
    if (kind == SOCK_STREAM)
        need(listen(sock, 64), "listen");
    return sock;
}

static void answer_health(int listener) /* in a child: a probe may be silent for long */
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char request[1024];
    int probe = accept(listener, NULL, NULL);
    if (probe < 0)
        return;
    if (fork() != 0) {
        close(probe);
        return;
    }
    if (recv(probe, request, sizeof request, 0) > 0)
        send(probe, answer, sizeof answer - 1, MSG_NOSIGNAL);
    _exit(0);
}

int main(int argc, char **argv)
{
    static uint8_t frame[65536];
    if (argc != 3) {
        fprintf(stderr, "usage: packet_echo DEVICE HEALTH_PORT\n");
        return 2;
    }
    signal(SIGCHLD, SIG_IGN);
    int health = listen_on(SOCK_STREAM, (uint16_t)atoi(argv[2]));
    listen_on(SOCK_DGRAM, GENEVE); /* never read: the kernel shall not answer that nobody is here */
    int device = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP)), bytes = 8 << 20;
    need(device, "AF_PACKET");
    struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
    here.sll_ifindex = (int)if_nametoindex(argv[1]);
    need(here.sll_ifindex ? 0 : -1, argv[1]);
    need(bind(device, (struct sockaddr *)&here, sizeof here), argv[1]);
    setsockopt(device, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    for (;;) {
        struct pollfd ready[] = {{.fd = device, .events = POLLIN}, {.fd = health, .events = POLLIN}};
        need(poll(ready, 2, -1), "poll");
        if (ready[1].revents)
            answer_health(health);
        if (!ready[0].revents)
            continue;
        struct sockaddr_ll from;
        socklen_t room = sizeof from;
        ssize_t size = recvfrom(device, frame, sizeof frame, 0, (struct sockaddr *)&from, &room);
        uint8_t *ip = frame + ETHER;
        if (size < ETHER + 28 || from.sll_pkttype != PACKET_HOST || ip[0] != 0x45 || ip[9] != 17)
            continue;
        if (ip[22] << 8 != (GENEVE & 0xff00) || ip[23] != (GENEVE & 0xff))
            continue;
        swap(frame, frame + 6, 6);    /* Ethernet addresses */
        swap(ip + 12, ip + 16, 4);    /* IP addresses; UDP ports and all else stay as they are */
        send(device, frame, (size_t)size, 0);
    }
}
