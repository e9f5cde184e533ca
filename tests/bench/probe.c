/* Lets a test see what helper/*.h make: frames as hex, what the checker says, percentiles. */
#include <stdio.h>
#include "frames.h"
#include "checker.h"
#include "latency.h"

static int read_hex(uint8_t *to) {
  int count = 0;
  unsigned byte;
  while (scanf("%2x", &byte) == 1) {
    to[count++] = (uint8_t)byte;
    int next = getchar();
    if (next == '\n' || next == EOF) break;
    ungetc(next, stdin);
  }
  return count;
}

int main(int count, char **words) {
  static uint8_t f[65536], scratch[65536];
  static struct latency l;
  struct traffic t = {.appliance_mac = {2, 0, 0, 0, 0, 2}, .node_mac = {2, 0, 0, 0, 0, 0xaa},
                      .node = 0x0ac80001, .appliance = 0x0ac80101};
  if (count < 7) return 2;
  t.flows = strtoull(words[2], 0, 10);
  t.size = atoi(words[3]);
  t.tcp = atoi(words[4]);
  t.ipv6 = atoi(words[5]);
  t.epoch = (uint32_t)atoi(words[6]);
  if (words[1][0] == 'l') {
    uint64_t ns;
    while (scanf("%lu", &ns) == 1) latency_add(&l, ns);
    printf("%.4f %.4f %.4f\n", latency_us(&l, 0.5), latency_us(&l, 0.99), latency_us(&l, 1));
    return 0;
  }
  if (traffic_begin(&t)) return 3;
  frame_fill(&t, f);
  if (words[1][0] == 'f') {
    for (int i = 7; i < count; i++) {
      int length = frame(&t, f, strtoull(words[i], 0, 10), 77);
      for (int k = 0; k < length; k++) printf("%02x", f[k]);
      printf("\n");
    }
    return 0;
  }
  struct checker c;
  frame_fill(&t, scratch);
  checker_begin(&c, &t, scratch, strtoull(words[7], 0, 10));
  for (uint64_t n = 0; n < strtoull(words[8], 0, 10); n++) checker_expect(&c, n, 77);
  int length;
  while ((length = read_hex(f)) > 0) {
    uint64_t n = 0, time_ns = 0, before = c.wrong;
    int said = check(&c, f, length, 0, &n, &time_ns);
    if (!said) printf("right %lu\n", n);
    else if (c.wrong == before) printf("%s\n", c.other ? "other" : "again");
    else printf("wrong %d\n", c.wrong_at);
    c.wrong = c.other = 0;
  }
  return 0;
}
