#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "calls.h"

// A sequence that never comes to its end by itself: 1 when it was restarted. rdi: where the area
// says what is under way, rsi: what that is.
__asm__(
    ".text\n"
    ".globl sequence_spin, sequence_start, sequence_end, sequence_abort\n"
    "sequence_spin:\n"
    "  mov %rsi, (%rdi)\n"
    "sequence_start:\n"
    "1: jmp 1b\n"
    "sequence_end:\n"
    "  xor %eax, %eax\n"
    "  ret\n"
    "  .long 0x53053053\n"
    "sequence_abort:\n"
    "  mov $1, %eax\n"
    "  ret\n");
extern "C" int sequence_spin(uint64_t* under_way, const void* what);
extern "C" const char sequence_start[], sequence_end[], sequence_abort[];

namespace calls {
namespace {

constexpr uint32_t kSignature = 0x53053053;
constexpr int kUnregister = 1;
constexpr uint32_t kLength = 32;

struct alignas(64) Area {
  uint32_t processor_start = 0;
  uint32_t processor = ~0U;
  uint64_t under_way = 0;
  uint32_t rest[4] = {};
};

struct alignas(32) Sequence {
  uint32_t version = 0;
  uint32_t flags = 0;
  uint64_t start = 0;
  uint64_t length = 0;
  uint64_t abort = 0;
};

long rseq(void* area, uint32_t length, int flags, uint32_t signature = kSignature) {
  return syscall(SYS_rseq, area, length, flags, signature);
}
long barrier(int command, unsigned flags = 0, int processor = 0) {
  return syscall(SYS_membarrier, command, flags, processor);
}

void* library_area() { return static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset; }
/// The C library registered one; its length is not the one that it tells.
bool drop_library_area() {
  for (uint32_t length = kLength; length <= 1024; length += 32)
    if (rseq(library_area(), length, kUnregister) == 0) return true;
  return false;
}
bool names_processor(const volatile Area& area) {
  return area.processor < static_cast<uint32_t>(get_nprocs_conf()) &&
         area.processor == area.processor_start;
}

const Sequence& endless() {
  static Sequence sequence;
  sequence.start = reinterpret_cast<uint64_t>(sequence_start);
  sequence.length = static_cast<uint64_t>(sequence_end - sequence_start);
  sequence.abort = reinterpret_cast<uint64_t>(sequence_abort);
  return sequence;
}

int registering() {
  static Area area;
  static Area other;
  truth("the library's is a fork's too", drop_library_area());
  value("unknown flags", rseq(&area, kLength, 2));
  value("nothing to unregister", rseq(&area, kLength, kUnregister));
  value("misaligned", rseq(reinterpret_cast<char*>(&area) + 8, kLength, 0));
  value("too short", rseq(&area, 16, 0));
  value("out of reach", rseq(reinterpret_cast<void*>(~uint64_t{0xfff}), kLength, 0));
  value("registered", rseq(&area, kLength, 0));
  truth("it names the processor", names_processor(area));
  value("again", rseq(&area, kLength, 0));
  value("at another place", rseq(&other, kLength, 0));
  value("with another signature", rseq(&area, kLength, 0, kSignature + 1));
  value("unregistered elsewhere", rseq(&other, kLength, kUnregister));
  value("of another length", rseq(&area, 64, kUnregister));
  value("by another signature", rseq(&area, kLength, kUnregister, kSignature + 1));
  line("a fork has it", in_child([] {
         sched_yield();
         const bool names = names_processor(area);
         const int again = rseq(&area, kLength, 0) == -1 ? errno : 0;
         if (!names || again != EBUSY) return 1;
         return rseq(&area, kLength, kUnregister) == 0 && area.processor == ~0U ? 7 : 2;
       }));
  static int of_vfork = 0;
  const pid_t child = vfork();
  if (child == 0) {
    of_vfork = rseq(&area, kLength, kUnregister) == -1 ? errno : 0;
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  truth("who shares the memory has none", of_vfork == EINVAL);
  truth("the maker's is as it was", rseq(&area, kLength, 0) == -1 && errno == EBUSY);
  value("unregistered", rseq(&area, kLength, kUnregister));
  truth("it names none any more", area.processor == ~0U && area.processor_start == 0);
  return 0;
}

int restarting() {
  static Area area;
  drop_library_area();
  if (rseq(&area, kLength, 0) != 0) return 1;
  signal(SIGALRM, [](int) {});
  const itimerval soon{{0, 5000}, {0, 5000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  for (int i = 0; i < 20; ++i)
    if (sequence_spin(&area.under_way, &endless()) != 1 || area.under_way != 0) return 2;
  return 7;
}

/// Memory of threads is gone as soon as they are joined, and they are used again.
int short_lives() {
  constexpr size_t kStack = 256 << 10;
  for (int i = 0; i < 200; ++i) {
    void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, kStack);
    pthread_t thread{};
    if (pthread_create(
            &thread, &attributes,
            [](void*) -> void* { return rseq(library_area(), kLength, 0) == 0 ? nullptr : &errno; },
            nullptr) != 0)
      return 1;
    void* has = nullptr;
    pthread_join(thread, &has);
    if (has == nullptr || munmap(stack, kStack) != 0) return 2;
  }
  return 7;
}

int restarting_others() {
  struct Spinner {
    Area area;
    std::atomic<bool> ready{false};
    std::atomic<int> restarted{0};
  };
  static Spinner spinner;
  value("unregistered", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ));
  value("registers", barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ));
  value("registrations", barrier(512 /* MEMBARRIER_CMD_GET_REGISTRATIONS */));
  value("flags of registering", barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, 1));
  value("unknown flags", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 2));
  value("of one processor", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, 1, 0));
  pthread_t thread{};
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        drop_library_area();
        if (rseq(&spinner.area, kLength, 0) != 0) return nullptr;
        spinner.ready.store(true);
        for (int i = 0; i < 100; ++i)
          spinner.restarted += sequence_spin(&spinner.area.under_way, &endless());
        rseq(&spinner.area, kLength, kUnregister);
        return nullptr;
      },
      nullptr);
  while (!spinner.ready.load()) sched_yield();
  while (spinner.restarted.load() < 100)
    if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) != 0) return 1;
  pthread_join(thread, nullptr);
  return 7;
}

}  // namespace

void restartable_sequences() {
  begin("rseq");
  line("registering", in_child(registering));
  line("a signal restarts", in_child(restarting));
  line("threads come and go", in_child(short_lives));
  begin("membarrier, more");
  line("restarts others", in_child(restarting_others));
  line("the cores' own", in_child([] {
         value("unregistered", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE));
         value("registers", barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE));
         value("flags", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 1));
         value("registered", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE));
         value("registrations", barrier(512));
         return 0;
       }));
}

}  // namespace calls
