/* Says of each reply whether it is what GWLB must get back for one of the frames that were sent. */
#include <stdlib.h>

struct checker {
  const struct traffic *traffic;
  uint8_t *scratch;
  uint64_t sent;        /* frames 0 to sent - 1 exist */
  uint64_t whole_every; /* compare every so many in full */
  uint64_t answered, wrong, repeated, other, whole, reordered;
  uint64_t *times;      /* when each of those was sent that are compared in full */
  uint64_t *seen, *newest; /* a bit for each frame; the newest round of each flow */
  uint64_t room;
  int wrong_at;         /* in the frame; -1: its length, -2: no such frame was sent */
  uint64_t wrong_frame;
  uint8_t wrong_is, wrong_wanted;
};

static void checker_begin(struct checker *c, const struct traffic *t, uint8_t *scratch, uint64_t whole_every) {
  memset(c, 0, sizeof *c);
  c->traffic = t;
  c->scratch = scratch;
  c->whole_every = whole_every;
  c->newest = calloc(t->flows ? t->flows : 1, sizeof *c->newest);
}

/* A frame is about to be sent. */
static void checker_expect(struct checker *c, uint64_t n, uint64_t time_ns) {
  if (n >= c->room) {
    uint64_t room = n * 2 < 1 << 20 ? 1 << 20 : n * 2;
    c->seen = realloc(c->seen, room / 8 + 8);
    c->times = realloc(c->times, (room / c->whole_every + 2) * sizeof *c->times);
    memset((uint8_t *)c->seen + c->room / 8, 0, (room - c->room) / 8 + 8);
    c->room = room;
  }
  if (n % c->whole_every == 0) c->times[n / c->whole_every] = time_ns;
  c->sent = n + 1;
}

static int is_wrong(struct checker *c, uint64_t n, int at, uint8_t is, uint8_t wanted) {
  if (!c->wrong++) {
    c->wrong_frame = n;
    c->wrong_at = at;
    c->wrong_is = is;
    c->wrong_wanted = wanted;
  }
  return -1;
}

static int differs(const uint8_t *a, const uint8_t *b, int from, int to) {
  if (!memcmp(a + from, b + from, to - from)) return 0;
  while (a[from] == b[from]) from++;
  return from;
}

/* Which frame this answers: by its number, or, in a handshake, by cookie and flags. */
static uint64_t number_of(const struct checker *c, const uint8_t *f, int length) {
  const struct traffic *t = c->traffic;
  if (length >= t->mark_at + MARK) return get64(f + t->mark_at);
  if (!t->tcp || length < INNER + t->ip_bytes + 14) return ~0ull;
  uint64_t flow = (get32(f + GENEVE + 36) ^ t->epoch << 26) & 0x3ffffff;
  int flags = f[INNER + t->ip_bytes + 13];
  return (flags == SYN ? 0 : flags == (SYN | ACK) ? 1 : 2) * t->flows + flow;
}

/* The frame as it must come back: addresses swapped, ports as they were; no word on its TTL. */
static int is_swapped(struct checker *c, const uint8_t *f, uint64_t n, int no_checksum) {
  uint8_t *e = c->scratch, a[4];
  memcpy(a, e + 26, 4);
  memcpy(e + 26, e + 30, 4);
  memcpy(e + 30, a, 4);
  memcpy(e + 18, f + 18, 2);
  e[20] = f[20] & 0x40; /* it may forbid fragments, not be one */
  e[21] = 0;
  e[22] = f[22] ? f[22] : 1;
  put16(e + 24, 0);
  put16(e + 24, checksum(sum_of(e + OUTER_IP, 20)));
  memcpy(e + 40, f + 40, 2);
  int at = differs(f, e, ETHERNET, GENEVE);
  if (at) return is_wrong(c, n, at, f[at], e[at]);
  int length = get16(f + 38);
  if (no_checksum || !get16(f + 40)) return 0;
  if (checksum(sum_of(f + 26, 8) + UDP + length + sum_of(f + OUTER_UDP, length)))
    return is_wrong(c, n, 40, f[40], 0);
  return 0;
}

/* Take a reply: 0 if it is right and new; then *n is its number and *time_ns when it was sent. */
static int check(struct checker *c, const uint8_t *f, int length, int no_checksum, uint64_t *number, uint64_t *time_ns) {
  const struct traffic *t = c->traffic;
  if (length < INNER || f[23] != UDP) { c->other++; return -1; }
  uint64_t n = number_of(c, f, length);
  if (n >= c->sent) return is_wrong(c, n, -2, 0, 0);
  int marked = length >= t->mark_at + MARK;
  *time_ns = marked ? get64(f + t->mark_at + 8) : 0;
  int whole = n % c->whole_every == 0;
  if (whole && marked) *time_ns = c->times[n / c->whole_every];
  int wanted = frame(t, c->scratch, n, *time_ns);
  if (length != wanted) return is_wrong(c, n, -1, 0, 0);
  int at = differs(f, c->scratch, GENEVE, whole ? length : marked ? t->mark_at + MARK : length);
  if (at) return is_wrong(c, n, at, f[at], c->scratch[at]);
  if (is_swapped(c, f, n, no_checksum)) return -1;
  if (c->seen[n / 64] >> n % 64 & 1) { c->repeated++; return -1; }
  c->seen[n / 64] |= 1ull << n % 64;
  c->answered++;
  c->whole += whole;
  if (t->flows) {
    uint64_t *newest = c->newest + n % t->flows;
    if (n < *newest) c->reordered++;
    else *newest = n;
  }
  *number = n;
  return 0;
}
