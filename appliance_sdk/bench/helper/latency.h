/* A histogram of times: 64 steps to each power of two, so a percentile is right within 1.6 %. */
enum { STEPS = 64, OCTAVES = 40 };

struct latency { uint64_t counts[OCTAVES * STEPS], total; };

static unsigned bucket(uint64_t ns) {
  if (ns < STEPS) return (unsigned)ns;
  int octave = 63 - __builtin_clzll(ns) - 6;
  unsigned at = (octave + 1) * STEPS + (unsigned)((ns >> octave) - STEPS);
  return at < OCTAVES * STEPS ? at : OCTAVES * STEPS - 1;
}

static void latency_add(struct latency *l, uint64_t ns) { l->counts[bucket(ns)]++; l->total++; }

/* The time within which this share of the replies came, in microseconds; 0 if none did. */
static double latency_us(const struct latency *l, double share) {
  uint64_t seen = 0;
  for (unsigned at = 0; at < OCTAVES * STEPS; at++) {
    seen += l->counts[at];
    if (!l->total || (double)seen < share * (double)l->total) continue;
    unsigned octave = at / STEPS;
    return octave ? (double)((uint64_t)(STEPS + at % STEPS) << (octave - 1)) / 1e3 : at / 1e3;
  }
  return 0;
}
