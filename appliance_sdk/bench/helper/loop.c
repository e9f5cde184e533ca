/*
 * The ceiling: what the naive loop (naive.py) does, compiled, and 64 packets to a system call.
 *
 *   loop ADDRESS
 *
 * recvmmsg from a UDP socket, one look-up in a table of flows, one counter, sendmmsg to a raw
 * socket. It believes every header.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
  BATCH = 64, HEADERS = 28 /* IPv4 and UDP */, LARGEST = 9216, BUFFER = 4 << 20, GENEVE_PORT = 6081,
  KEY_AT = HEADERS + 40 + 12, KEY = 12, /* addresses and ports of the inner packet */
};

struct flow { uint8_t key[KEY]; uint32_t packets; };

static struct flow *flows;
static size_t room = 1 << 12, used;

static int die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

static struct flow *place(const uint8_t *key) {
  uint64_t a;
  uint32_t b;
  memcpy(&a, key, 8);
  memcpy(&b, key + 8, 4);
  size_t at = ((a ^ (uint64_t)b << 21) * 0x9e3779b97f4a7c15ull >> 20) & (room - 1);
  while (flows[at].packets && memcmp(flows[at].key, key, KEY)) at = (at + 1) & (room - 1);
  return flows + at;
}

static void grow(void) {
  struct flow *old = flows;
  size_t count = room;
  room *= 4;
  flows = calloc(room, sizeof *flows);
  if (!flows) die("flows");
  for (size_t i = 0; i < count; i++) if (old[i].packets) *place(old[i].key) = old[i];
  free(old);
}

static void count_packet(const uint8_t *key) {
  struct flow *flow = place(key);
  if (!flow->packets) {
    if (++used * 2 > room) { grow(); flow = place(key); }
    memcpy(flow->key, key, KEY);
  }
  flow->packets++;
}

int main(int count, char **words) {
  static uint8_t memory[BATCH][HEADERS + LARGEST];
  static struct mmsghdr come[BATCH], go[BATCH];
  static struct iovec in[BATCH], out[BATCH];
  static struct sockaddr_in peers[BATCH], to[BATCH];
  struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(GENEVE_PORT)};
  int bytes = BUFFER;
  if (count != 2 || !inet_aton(words[1], &local.sin_addr)) return 2;
  flows = calloc(room, sizeof *flows);
  int listener = socket(AF_INET, SOCK_DGRAM, 0), replies = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
  if (!flows || listener < 0 || replies < 0) die("socket");
  setsockopt(listener, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(replies, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  if (bind(listener, (struct sockaddr *)&local, sizeof local)) die("bind");
  for (int i = 0; i < BATCH; i++) {
    uint8_t *head = memory[i];
    head[0] = 0x45;
    head[8] = 64;
    head[9] = IPPROTO_UDP;
    memcpy(head + 12, &local.sin_addr, 4);
    memcpy(head + 22, &local.sin_port, 2);
    in[i] = (struct iovec){head + HEADERS, LARGEST};
    out[i].iov_base = head;
    to[i].sin_family = AF_INET;
    come[i].msg_hdr = (struct msghdr){.msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &in[i], .msg_iovlen = 1};
    go[i].msg_hdr = (struct msghdr){.msg_name = &to[i], .msg_namelen = sizeof to[i], .msg_iov = &out[i], .msg_iovlen = 1};
  }
  for (;;) {
    int took = recvmmsg(listener, come, BATCH, MSG_WAITFORONE, 0), sent = 0;
    if (took < 0) die("recvmmsg");
    for (int i = 0; i < took; i++) {
      uint8_t *head = memory[i];
      uint16_t length = htons((uint16_t)(come[i].msg_len + 8));
      count_packet(head + KEY_AT);
      memcpy(head + 16, &peers[i].sin_addr, 4);
      memcpy(head + 20, &peers[i].sin_port, 2);
      memcpy(head + 24, &length, 2);
      to[i].sin_addr = peers[i].sin_addr;
      out[i].iov_len = HEADERS + come[i].msg_len;
    }
    while (sent < took) {
      int more = sendmmsg(replies, go + sent, took - sent, 0);
      sent += more > 0 ? more : 1;
    }
  }
}
