/* Replies as the kernel puts them into memory that is shared with it (PACKET_RX_RING, packet(7)). */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum { RING_BYTES = 32 << 20, BLOCK_BYTES = 1 << 16, SLOT_HEAD = 160 };

struct ring {
  int descriptor;
  uint8_t *memory;
  unsigned slot_bytes, slots, next;
};

static int bind_to(int descriptor, int device, int protocol) {
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = device, .sll_protocol = htons(protocol)};
  return bind(descriptor, (struct sockaddr *)&address, sizeof address);
}

static int ring_open(struct ring *r, int device, int frame_bytes) {
  int version = TPACKET_V2, one = 1;
  r->descriptor = socket(AF_PACKET, SOCK_RAW, 0);
  if (r->descriptor < 0) return -1;
  for (r->slot_bytes = 512; r->slot_bytes < (unsigned)frame_bytes + SLOT_HEAD;) r->slot_bytes *= 2;
  r->slots = RING_BYTES / r->slot_bytes;
  r->next = 0;
  struct tpacket_req want = {
      .tp_block_size = BLOCK_BYTES, .tp_block_nr = RING_BYTES / BLOCK_BYTES,
      .tp_frame_size = r->slot_bytes, .tp_frame_nr = r->slots};
  if (setsockopt(r->descriptor, SOL_PACKET, PACKET_VERSION, &version, sizeof version)) return -1;
  if (setsockopt(r->descriptor, SOL_PACKET, PACKET_RX_RING, &want, sizeof want)) return -1;
  setsockopt(r->descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
  r->memory = mmap(0, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->descriptor, 0);
  if (r->memory == MAP_FAILED) return -1;
  return bind_to(r->descriptor, device, ETH_P_IP);
}

/* The next frame that waits, 0 if none does. */
static struct tpacket2_hdr *ring_peek(struct ring *r) {
  struct tpacket2_hdr *head = (void *)(r->memory + (size_t)r->next * r->slot_bytes);
  return __atomic_load_n(&head->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER ? head : 0;
}

static void ring_release(struct ring *r, struct tpacket2_hdr *head) {
  __atomic_store_n(&head->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  if (++r->next == r->slots) r->next = 0;
}

/* Frames that found no room since this was last asked. */
static unsigned ring_lost(struct ring *r) {
  struct tpacket_stats stats;
  socklen_t length = sizeof stats;
  return getsockopt(r->descriptor, SOL_PACKET, PACKET_STATISTICS, &stats, &length) ? 0 : stats.tp_drops;
}
