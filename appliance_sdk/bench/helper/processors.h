/* Clocks; and processor time: of processes by theirs, of cores by /proc/stat (in steps of 10 ms). */
static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t wall_ns(void) { /* the clock of the kernel's time stamps */
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum { WATCHED = 64 };

struct processors {
  int pids[WATCHED], cores[WATCHED], processes, watched_cores;
  double process_s, busy_s, softirq_s; /* after processors_end: what was used in between */
};

static void processors_watch_process(struct processors *p, int pid) { if (p->processes < WATCHED) p->pids[p->processes++] = pid; }

static void processors_watch_core(struct processors *p, int core) { if (p->watched_cores < WATCHED) p->cores[p->watched_cores++] = core; }

static double processors_of(int pid) {
  struct timespec t;
  clockid_t clock = (clockid_t)(~(unsigned)pid << 3 | 2); /* clock_getcpuclockid(3) */
  return clock_gettime(clock, &t) ? 0 : (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Busy is what was not idle and not taken by the hypervisor, which is exact where ticks are not. */
static void processors_read(const struct processors *p, double *process, double *idle, double *softirq) {
  *process = *idle = *softirq = 0;
  for (int i = 0; i < p->processes; i++) *process += processors_of(p->pids[i]);
  char line[512];
  double tick = (double)sysconf(_SC_CLK_TCK);
  FILE *file = fopen("/proc/stat", "r");
  while (file && fgets(line, sizeof line, file)) {
    int core;
    unsigned long user, nice, system, resting, waiting, interrupts, soft, stolen;
    if (sscanf(line, "cpu%d %lu %lu %lu %lu %lu %lu %lu %lu", &core, &user, &nice, &system, &resting, &waiting, &interrupts, &soft, &stolen) != 9) continue;
    for (int i = 0; i < p->watched_cores; i++) if (p->cores[i] == core) {
      *idle += (double)(resting + waiting + stolen) / tick;
      *softirq += (double)soft / tick;
    }
  }
  if (file) fclose(file);
}

static void processors_begin(struct processors *p) {
  double idle;
  processors_read(p, &p->process_s, &idle, &p->softirq_s);
  p->busy_s = now_s() - idle / (p->watched_cores ? p->watched_cores : 1);
}

static void processors_end(struct processors *p) {
  double process, idle, softirq, cores = p->watched_cores ? p->watched_cores : 1;
  processors_read(p, &process, &idle, &softirq);
  p->process_s = process - p->process_s;
  p->softirq_s = softirq - p->softirq_s;
  p->busy_s = p->watched_cores ? (now_s() - idle / cores - p->busy_s) * cores : 0;
}
