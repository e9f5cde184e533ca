/*
 * What a Gateway Load Balancer would send: frame number n, each a function of its number alone,
 * so that whoever sees a reply can say what every byte of it must be.
 *
 *   Ethernet 14 | IPv4 20 | UDP 8 | GENEVE 8 + 32 | inner IP | TCP or UDP | number 8, time 8, filler
 *
 * With F flows, frame n is that of flow n % F in round n / F; with F = 0 each frame is a new flow.
 * Odd rounds go from server to client. The first rounds of TCP are its handshake, without payload.
 */
#include <stdint.h>
#include <string.h>

enum {
  ETHERNET = 14, OUTER_IP = 14, OUTER_UDP = 34, GENEVE = 42, INNER = 82,
  FIN = 1, SYN = 2, PSH = 8, ACK = 16, TCP = 6, UDP = 17,
  MARK = 16,            /* bytes of payload that hold number and time */
  GENEVE_PORT = 6081,
  FIRST_PORT = 20000, PORTS = 40000,  /* UDP source ports, one for each flow while they last */
  HANDSHAKE = 3,        /* rounds */
};

struct traffic {
  uint8_t appliance_mac[6], node_mac[6];
  uint32_t appliance, node; /* addresses in host order */
  uint64_t flows;
  int size;                 /* bytes of the inner packet */
  int tcp, ipv6, one_way;
  uint32_t epoch;           /* another one: other flows */
  int ip_bytes, transport_bytes, mark_at; /* set by traffic_begin */
  uint32_t filler_sum;
};

static void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { v = __builtin_bswap64(v); memcpy(p, &v, 8); }
static uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }

/* RFC 1071, on bytes that begin at an even place. */
static uint32_t sum_of(const uint8_t *p, int length) {
  uint32_t sum = 0;
  for (; length > 1; length -= 2, p += 2) sum += get16(p);
  return length ? sum + (p[0] << 8) : sum;
}

static uint16_t checksum(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static int traffic_begin(struct traffic *t) {
  t->ip_bytes = t->ipv6 ? 40 : 20;
  t->transport_bytes = t->tcp ? 20 : 8;
  t->mark_at = INNER + t->ip_bytes + t->transport_bytes;
  return t->size >= t->ip_bytes + t->transport_bytes + MARK ? 0 : -1;
}

/* Once for each buffer: the bytes that are the same in all frames. */
static void frame_fill(struct traffic *t, uint8_t *f) {
  memset(f, 0, INNER + t->size);
  int filler = INNER + t->size - t->mark_at - MARK;
  uint8_t *p = f + t->mark_at + MARK;
  for (int i = 0; i < filler; i++) p[i] = (uint8_t)(i * 7 + 3);
  t->filler_sum = sum_of(p, filler);
}

static int is_handshake(const struct traffic *t, uint64_t round) { return t->tcp && round < HANDSHAKE; }

static void put_tcp(const struct traffic *t, uint8_t *p, uint64_t flow, uint64_t round) {
  uint32_t client = 0x10000000u + (uint32_t)flow * 7919u, server = client ^ 0x55aa0000u;
  uint32_t payload = t->size - t->ip_bytes - t->transport_bytes, k = (uint32_t)round;
  uint32_t seq, ack;
  uint8_t flags = PSH | ACK;
  if (round == 0) { seq = client; ack = 0; flags = SYN; }
  else if (round == 1) { seq = server; ack = client + 1; flags = SYN | ACK; }
  else if (round == 2) { seq = client + 1; ack = server + 1; flags = ACK; }
  else if (round & 1) { seq = server + 1 + payload * ((k - 3) / 2); ack = client + 1 + payload * ((k - 3) / 2); }
  else { seq = client + 1 + payload * ((k - 4) / 2); ack = server + 1 + payload * ((k - 2) / 2); }
  put32(p + 4, seq);
  put32(p + 8, ack);
  p[12] = 0x50;
  p[13] = flags;
  put16(p + 14, 65000);
}

static uint32_t put_inner_ip(const struct traffic *t, uint8_t *p, uint64_t flow, int reverse, int length) {
  int protocol = t->tcp ? TCP : UDP;
  uint32_t client = 0x0a000002u + (uint32_t)flow, server = 0xac100001u + ((t->epoch & 0xfff) << 8) + (flow & 7);
  if (t->ipv6) {
    put32(p, 0x60000000u);
    put16(p + 4, (uint16_t)(length - 40));
    p[6] = (uint8_t)protocol;
    p[7] = 63;
    uint8_t *c = p + (reverse ? 24 : 8), *s = p + (reverse ? 8 : 24);
    put64(c, 0xfd00000000000001ull); put64(c + 8, client);
    put64(s, 0xfd00000000000002ull); put64(s + 8, server);
    return sum_of(p + 8, 32) + protocol + length - 40;
  }
  p[0] = 0x45;
  put16(p + 2, (uint16_t)length);
  put16(p + 6, 0x4000); /* don't fragment */
  p[8] = 63;
  p[9] = (uint8_t)protocol;
  put16(p + 10, 0);
  put32(p + (reverse ? 16 : 12), client);
  put32(p + (reverse ? 12 : 16), server);
  put16(p + 10, checksum(sum_of(p, 20)));
  return sum_of(p + 12, 8) + protocol + length - 20;
}

/* Write frame n into a filled buffer: how many bytes it has. */
static int frame(const struct traffic *t, uint8_t *f, uint64_t n, uint64_t time_ns) {
  uint64_t flow = t->flows ? n % t->flows : n, round = t->flows ? n / t->flows : 0;
  int reverse = !t->one_way && (round & 1), marked = !is_handshake(t, round);
  int length = marked ? t->size : t->ip_bytes + t->transport_bytes, outer = length + INNER - OUTER_IP;
  memcpy(f, t->appliance_mac, 6);
  memcpy(f + 6, t->node_mac, 6);
  put16(f + 12, 0x0800);
  uint8_t *p = f + OUTER_IP;
  p[0] = 0x45;
  put16(p + 2, (uint16_t)outer);
  put16(p + 6, 0x4000);
  p[8] = 254;
  p[9] = UDP;
  put16(p + 10, 0);
  put32(p + 12, t->node);
  put32(p + 16, t->appliance);
  put16(p + 10, checksum(sum_of(p, 20)));
  p = f + OUTER_UDP;
  put16(p, (uint16_t)(FIRST_PORT + flow % PORTS));
  put16(p + 2, GENEVE_PORT);
  put16(p + 4, (uint16_t)(outer - 20));
  p = f + GENEVE; /* as AWS sends it: 32 bytes of options, no flags */
  put32(p, t->ipv6 ? 0x080086ddu : 0x08000800u);
  put32(p + 8, 0x01080102u);
  put64(p + 12, 0x0a1b2c3d4e5f6000ull + flow % 4);
  put32(p + 20, 0x01080202u);
  put64(p + 24, 0xa77ac4ed00000001ull);
  put32(p + 32, 0x01080301u);
  put32(p + 36, t->epoch << 26 ^ (uint32_t)flow);
  p = f + INNER;
  uint32_t sum = put_inner_ip(t, p, flow, reverse, length);
  p += t->ip_bytes;
  uint16_t client_port = (uint16_t)(1024 + flow * 7 % 60000);
  put16(p + (reverse ? 2 : 0), client_port);
  put16(p + (reverse ? 0 : 2), 8443);
  uint8_t *check = p + (t->tcp ? 16 : 6);
  if (t->tcp) put_tcp(t, p, flow, round);
  else put16(p + 4, (uint16_t)(length - t->ip_bytes));
  put16(check, 0);
  if (marked) {
    put64(f + t->mark_at, n);
    put64(f + t->mark_at + 8, time_ns);
    sum += sum_of(f + t->mark_at, MARK) + t->filler_sum;
  }
  uint16_t made = checksum(sum + sum_of(p, t->transport_bytes));
  put16(check, made || t->tcp ? made : 0xffff);
  return INNER + length;
}
