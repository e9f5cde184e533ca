/*
 * Plays a Gateway Load Balancer: sends frames at a rate, or as replies come, and checks every reply.
 *
 *   load --device vgen --node 10.200.0.1 --appliance 10.200.0.2 --appliance-mac 02:00:00:00:00:02 ...
 *
 * Prints one line of JSON. Rounds of --open are sent before anything is measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "frames.h"
#include "checker.h"
#include "latency.h"
#include "processors.h"
#include "ring.h"


enum { BATCH = 64, OPEN_WINDOW = 256, CATCH_UP = 256, SEND_BUFFER = 8 << 20 };
static const double PATIENCE_S = 1.0; /* without any reply: what is under way is lost */

struct settings {
  const char *device;
  double rate, seconds;      /* frames a second; 0: as the window allows */
  uint64_t window, packets;  /* under way at most; frames at most; 0: no limit */
  uint64_t open, burst, whole;
  int polite;                /* give the processor away when there is nothing to do */
};

struct load {
  struct settings s;
  struct traffic t;
  struct checker c;
  struct ring r;
  struct latency l;
  int out;
  uint8_t *frames;
  int stride;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  uint64_t sent, given_up, refused, held; /* held: rounds of the loop in which the window was full */
  double moved; /* when a reply came last */
};

static int die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

static int take_replies(struct load *g) {
  int count = 0;
  struct tpacket2_hdr *head;
  while (count < 4 * BATCH && (head = ring_peek(&g->r))) {
    uint64_t number, sent_ns, came_ns = head->tp_sec * 1000000000ull + head->tp_nsec;
    int length = head->tp_snaplen == head->tp_len ? (int)head->tp_len : 0;
    if (!check(&g->c, (uint8_t *)head + head->tp_mac, length, head->tp_status & TP_STATUS_CSUMNOTREADY, &number, &sent_ns) && sent_ns)
      latency_add(&g->l, came_ns > sent_ns ? came_ns - sent_ns : 0);
    ring_release(&g->r, head);
    count++;
  }
  if (count) g->moved = now_s();
  return count;
}

static void send_frames(struct load *g, int count) {
  for (int i = 0; i < count; i++) {
    uint64_t n = g->sent + i, time_ns = wall_ns();
    checker_expect(&g->c, n, time_ns);
    g->pieces[i].iov_len = frame(&g->t, g->pieces[i].iov_base, n, time_ns);
  }
  int done = 0;
  while (done < count) {
    int took = sendmmsg(g->out, g->messages + done, count - done, 0);
    if (took > 0) done += took;
    else if (errno == ENOBUFS || errno == EAGAIN || errno == EINTR) g->refused++;
    else die("sendmmsg");
  }
  g->sent += count;
}

static uint64_t under_way(struct load *g, double now) {
  uint64_t back = g->c.answered + g->c.wrong, missing = g->sent > back ? g->sent - back : 0;
  if (missing && now - g->moved > PATIENCE_S) {
    g->given_up = missing;
    g->moved = now;
  }
  if (g->given_up > missing) g->given_up = missing; /* some came after all */
  return missing - g->given_up;
}

/* Send until `seconds` are over or `packets` are out; then nothing of it may be under way. */
static double run(struct load *g, double rate, uint64_t window, double seconds, uint64_t packets, uint64_t burst) {
  double begin = now_s(), now, base = begin;
  uint64_t first = g->sent, paced = 0;
  g->moved = begin;
  g->held = 0;
  while ((now = now_s()) - begin < seconds && g->sent - first < packets) {
    int took = take_replies(g);
    uint64_t count = packets - (g->sent - first);
    if (count > BATCH) count = BATCH;
    if (window) {
      uint64_t out = under_way(g, now);
      if (out >= window) { g->held++; count = 0; }
      else if (count > window - out) count = window - out;
    }
    if (rate > 0) {
      double due = rate * (now - base) - (double)paced;
      if (due > CATCH_UP) { /* we were held up ourselves: that is no reason for a flood */
        base += (due - CATCH_UP) / rate;
        due = CATCH_UP;
      }
      if (due < (double)burst) count = 0;
      else if ((double)count > due) count = (uint64_t)due;
    }
    if (count) { send_frames(g, (int)count); paced += count; }
    else if (!took && g->s.polite) usleep(50);
  }
  return now - begin;
}

static void settle(struct load *g) {
  g->moved = now_s();
  g->given_up = 0;
  while (under_way(g, now_s())) if (!take_replies(g) && g->s.polite) usleep(50);
}

static void prepare(struct load *g) {
  int one = 1, bytes = SEND_BUFFER, device = (int)if_nametoindex(g->s.device);
  if (!device) die(g->s.device);
  g->stride = (INNER + g->t.size + 63) & ~63;
  g->frames = aligned_alloc(64, (size_t)g->stride * (BATCH + 1));
  for (int i = 0; i <= BATCH; i++) frame_fill(&g->t, g->frames + (size_t)i * g->stride);
  for (int i = 0; i < BATCH; i++) {
    g->pieces[i].iov_base = g->frames + (size_t)i * g->stride;
    g->messages[i].msg_hdr.msg_iov = &g->pieces[i];
    g->messages[i].msg_hdr.msg_iovlen = 1;
  }
  checker_begin(&g->c, &g->t, g->frames + (size_t)BATCH * g->stride, g->s.whole);
  if (ring_open(&g->r, device, INNER + g->t.size)) die("PACKET_RX_RING");
  g->out = socket(AF_PACKET, SOCK_RAW, 0);
  if (g->out < 0) die("AF_PACKET");
  setsockopt(g->out, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  setsockopt(g->out, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  if (bind_to(g->out, device, 0)) die("bind");
}

static void say(struct load *g, uint64_t opened, uint64_t sent, uint64_t answered, uint64_t in_time, double took, struct processors *used) {
  const struct checker *c = &g->c;
  printf("{\"opened\": %lu, \"sent\": %lu, \"answered\": %lu, \"answered_in_time\": %lu, \"seconds\": %.6f, ",
         opened, sent, answered, in_time, took);
  printf("\"wrong\": %lu, \"repeated\": %lu, \"reordered\": %lu, \"other\": %lu, \"whole\": %lu, \"unread\": %u, ",
         c->wrong, c->repeated, c->reordered, c->other, c->whole, ring_lost(&g->r));
  if (c->wrong)
    printf("\"first_wrong\": {\"frame\": %lu, \"at\": %d, \"is\": %u, \"wanted\": %u}, ", c->wrong_frame, c->wrong_at, c->wrong_is, c->wrong_wanted);
  printf("\"refused\": %lu, \"held\": %lu, \"process_s\": %.6f, \"busy_s\": %.3f, \"softirq_s\": %.3f, ", g->refused, g->held, used->process_s, used->busy_s, used->softirq_s);
  printf("\"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}}\n",
         latency_us(&g->l, 0.5), latency_us(&g->l, 0.99), latency_us(&g->l, 0.999), latency_us(&g->l, 1));
}

static void read_mac(uint8_t *to, const char *text) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) != 6) {
    errno = EINVAL;
    die(text);
  }
}

static void read_arguments(struct load *g, struct processors *p, int count, char **words) {
  static const struct option options[] = {
      {"device", 1, 0, 'd'}, {"node", 1, 0, 'n'}, {"node-mac", 1, 0, 'N'}, {"appliance", 1, 0, 'a'},
      {"appliance-mac", 1, 0, 'A'}, {"flows", 1, 0, 'f'}, {"size", 1, 0, 's'}, {"tcp", 0, 0, 't'},
      {"ipv6", 0, 0, '6'}, {"one-way", 0, 0, '1'}, {"epoch", 1, 0, 'e'}, {"rate", 1, 0, 'r'},
      {"seconds", 1, 0, 'T'}, {"window", 1, 0, 'w'}, {"packets", 1, 0, 'p'}, {"open", 1, 0, 'o'},
      {"burst", 1, 0, 'b'}, {"whole", 1, 0, 'W'}, {"polite", 0, 0, 'P'}, {"pid", 1, 0, 'i'},
      {"cpu", 1, 0, 'c'}, {0}};
  int option;
  while ((option = getopt_long(count, words, "", options, 0)) != -1) switch (option) {
    case 'd': g->s.device = optarg; break;
    case 'n': g->t.node = ntohl(inet_addr(optarg)); break;
    case 'N': read_mac(g->t.node_mac, optarg); break;
    case 'a': g->t.appliance = ntohl(inet_addr(optarg)); break;
    case 'A': read_mac(g->t.appliance_mac, optarg); break;
    case 'f': g->t.flows = strtoull(optarg, 0, 10); break;
    case 's': g->t.size = atoi(optarg); break;
    case 't': g->t.tcp = 1; break;
    case '6': g->t.ipv6 = 1; break;
    case '1': g->t.one_way = 1; break;
    case 'e': g->t.epoch = (uint32_t)strtoul(optarg, 0, 10); break;
    case 'r': g->s.rate = atof(optarg); break;
    case 'T': g->s.seconds = atof(optarg); break;
    case 'w': g->s.window = strtoull(optarg, 0, 10); break;
    case 'p': g->s.packets = strtoull(optarg, 0, 10); break;
    case 'o': g->s.open = strtoull(optarg, 0, 10); break;
    case 'b': g->s.burst = strtoull(optarg, 0, 10); break;
    case 'W': g->s.whole = strtoull(optarg, 0, 10); break;
    case 'P': g->s.polite = 1; break;
    case 'i': processors_watch_process(p, atoi(optarg)); break;
    case 'c': processors_watch_core(p, atoi(optarg)); break;
    default: exit(2);
  }
}

int main(int count, char **words) {
  static struct load g = {.s = {.device = "vgen", .seconds = 1, .burst = 1, .whole = 1000}, .t = {.size = 512}};
  static struct processors before;
  read_arguments(&g, &before, count, words);
  if (traffic_begin(&g.t) || !g.s.whole) {
    fprintf(stderr, "--size %d has no room for the headers, a number and a time\n", g.t.size);
    return 2;
  }
  prepare(&g);
  uint64_t all = g.s.packets ? g.s.packets : ~0ull, opening = g.s.open * g.t.flows;
  if (opening) {
    run(&g, 0, OPEN_WINDOW, 600, opening, 1);
    settle(&g);
  }
  uint64_t opened = g.c.answered, first = g.sent;
  memset(&g.l, 0, sizeof g.l);
  struct processors used = before;
  processors_begin(&used);
  double took = run(&g, g.s.rate, g.s.window, g.s.seconds, all, g.s.burst);
  uint64_t in_time = g.c.answered - opened;
  processors_end(&used);
  settle(&g);
  say(&g, opened, g.sent - first, g.c.answered - opened, in_time, took, &used);
  return 0;
}
