#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdint>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

using Word = std::atomic<uint32_t>;

long barrier(int command, unsigned flags = 0) { return syscall(SYS_membarrier, command, flags, 0); }
uint32_t tid() { return static_cast<uint32_t>(syscall(SYS_gettid)); }
void nap(int milliseconds) {
  const timespec time{0, milliseconds * 1'000'000L};
  nanosleep(&time, nullptr);
}
timespec after(clockid_t clock, int milliseconds) {
  timespec now{};
  clock_gettime(clock, &now);
  now.tv_nsec += milliseconds * 1'000'000L;
  now.tv_sec += now.tv_nsec / 1'000'000'000;
  now.tv_nsec %= 1'000'000'000;
  return now;
}
long futex(Word& word, int op, uint32_t value = 0, const timespec* timeout = nullptr,
           Word* second = nullptr, uint32_t last = 0) {
  return syscall(SYS_futex, &word, op | FUTEX_PRIVATE_FLAG, value, timeout, second, last);
}
/// With a count where others have their timeout.
long requeue(Word& word, int op, uint32_t wake, long move, Word& second, uint32_t expected) {
  return syscall(SYS_futex, &word, op | FUTEX_PRIVATE_FLAG, wake, move, &second, expected);
}
void await(const std::atomic<int>& stage, int wanted) {
  while (stage.load() < wanted) nap(1);
}

struct Litmus {
  std::atomic<int> round{0};
  std::atomic<int> done{0};
  alignas(64) std::atomic<int> x{0};
  alignas(64) std::atomic<int> y{0};
  int seen = 0;
};
constexpr int kRounds = 2000;

/// The cheap side: its store and load are in the order of the program for the compiler alone.
void* cheap_side(void* raw) {
  auto& litmus = *static_cast<Litmus*>(raw);
  for (int round = 1; round <= kRounds; ++round) {
    while (litmus.round.load() != round) sched_yield();
    litmus.x.store(1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    litmus.seen = litmus.y.load(std::memory_order_relaxed);
    litmus.done.store(round);
  }
  return nullptr;
}

void barriers() {
  begin("membarrier");
  constexpr long kAsked = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                          MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED |
                          MEMBARRIER_CMD_PRIVATE_EXPEDITED |
                          MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
  truth("what there is", (barrier(MEMBARRIER_CMD_QUERY) & kAsked) == kAsked);
  value("unknown command", barrier(3));
  value("unknown flags", barrier(MEMBARRIER_CMD_QUERY, 2));
  value("for all", barrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED));
  value("unregistered", barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
  line("registered", in_child([] {
         if (barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0) return 99;
         if (barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0) return 98;
         // A child has what its parent registered.
         const pid_t child = fork();
         if (child == 0) _exit(barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0 ? 7 : errno);
         int status = 0;
         waitpid(child, &status, 0);
         return WEXITSTATUS(status);
       }));
  line("orders the other side too", in_child([] {
         static Litmus litmus;
         barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
         pthread_t thread{};
         pthread_create(&thread, nullptr, cheap_side, &litmus);
         int broken = 0;
         for (int round = 1; round <= kRounds; ++round) {
           litmus.x.store(0);
           litmus.y.store(0);
           litmus.round.store(round);
           litmus.y.store(1, std::memory_order_relaxed);
           barrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
           const int seen = litmus.x.load(std::memory_order_relaxed);
           while (litmus.done.load() != round) sched_yield();
           if (seen == 0 && litmus.seen == 0) ++broken;
         }
         pthread_join(thread, nullptr);
         return broken == 0 ? 1 : 0;
       }));
}

long wait_any(futex_waitv* waiters, unsigned count, const timespec* timeout = nullptr,
              int clock = CLOCK_MONOTONIC, unsigned flags = 0) {
  return syscall(SYS_futex_waitv, waiters, count, flags, timeout, clock);
}

void several() {
  begin("futex_waitv");
  static Word words[3] = {0, 0, 0};
  futex_waitv waiters[3] = {};
  for (int i = 0; i < 3; ++i)
    waiters[i] = {0, reinterpret_cast<uint64_t>(&words[i]), FUTEX_32 | FUTEX_PRIVATE_FLAG, 0};
  const timespec soon = after(CLOCK_MONOTONIC, 20);
  value("none", wait_any(waiters, 0));
  value("too many", wait_any(waiters, 129));
  value("nothing", wait_any(nullptr, 1));
  value("flags", wait_any(waiters, 3, nullptr, CLOCK_MONOTONIC, 1));
  value("other clock", wait_any(waiters, 3, &soon, CLOCK_BOOTTIME));
  value("bad list", wait_any(reinterpret_cast<futex_waitv*>(8), 1));
  value("timeout", wait_any(waiters, 3, &soon));
  waiters[1].val = 5;
  value("other value", wait_any(waiters, 3, &soon));
  waiters[1].val = 0;
  waiters[2].flags = FUTEX_PRIVATE_FLAG | 1;
  value("16 bits", wait_any(waiters, 3, &soon));
  waiters[2].flags = FUTEX_32 | FUTEX_PRIVATE_FLAG;
  waiters[2].__reserved = 1;
  value("junk", wait_any(waiters, 3, &soon));
  waiters[2].__reserved = 0;
  waiters[2].uaddr += 2;
  value("odd address", wait_any(waiters, 3, &soon));
  waiters[2].uaddr -= 2;
  pthread_t thread{};
  pthread_create(
      &thread, nullptr,
      [](void*) -> void* {
        while (futex(words[1], FUTEX_WAKE, 1) != 1) nap(1);
        return nullptr;
      },
      nullptr);
  value("which was woken", wait_any(waiters, 3));
  pthread_join(thread, nullptr);
  value("nobody is left", futex(words[0], FUTEX_WAKE, 9) + futex(words[2], FUTEX_WAKE, 9));
}

Word lock_word{0};
Word other_word{0};
std::atomic<int> stage{0};

pthread_t start(void* (*body)(void*)) {
  pthread_t thread{};
  pthread_create(&thread, nullptr, body, nullptr);
  return thread;
}
/// Takes the lock, says so, and lets it go when stage 2 has come.
void* holder(void*) {
  futex(lock_word, FUTEX_LOCK_PI);
  stage = 1;
  await(stage, 2);
  futex(lock_word, FUTEX_UNLOCK_PI);
  return nullptr;
}

void locks_of_one() {
  begin("futex lock");
  value("free", futex(lock_word, FUTEX_LOCK_PI));
  truth("is ours", lock_word == tid());
  value("again", futex(lock_word, FUTEX_LOCK_PI));
  value("try again", futex(lock_word, FUTEX_TRYLOCK_PI));
  value("let go", futex(lock_word, FUTEX_UNLOCK_PI));
  value("word", lock_word);
  value("let go of what is not ours", futex(lock_word, FUTEX_UNLOCK_PI));
  value("try", futex(lock_word, FUTEX_TRYLOCK_PI));
  futex(lock_word, FUTEX_UNLOCK_PI);
  lock_word = 0xfffffe;
  value("of nobody", futex(lock_word, FUTEX_LOCK_PI));
  value("try one of nobody", futex(lock_word, FUTEX_TRYLOCK_PI));
  lock_word = FUTEX_OWNER_DIED;
  value("of a dead one", futex(lock_word, FUTEX_LOCK_PI));
  truth("tells of it", lock_word == (tid() | FUTEX_OWNER_DIED));
  lock_word = 0;
  value("odd address",
        syscall(SYS_futex, reinterpret_cast<char*>(&lock_word) + 1, FUTEX_LOCK_PI, 0, nullptr));
  value("bad address", syscall(SYS_futex, 8, FUTEX_LOCK_PI, 0, nullptr));
  value("clock of a wake", futex(lock_word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1));
}

void locks_of_two() {
  begin("futex lock of two");
  stage = 0;
  pthread_t thread = start(holder);
  await(stage, 1);
  const timespec real = after(CLOCK_REALTIME, 20);
  const timespec monotonic = after(CLOCK_MONOTONIC, 20);
  value("try", futex(lock_word, FUTEX_TRYLOCK_PI));
  value("timeout", futex(lock_word, FUTEX_LOCK_PI, 0, &real));
  value("other clock", futex(lock_word, FUTEX_LOCK_PI2, 0, &monotonic));
  truth("is waited for", (lock_word & FUTEX_WAITERS) != 0);
  value("let go", futex(lock_word, FUTEX_UNLOCK_PI));
  static std::atomic<int> served{0};
  pthread_t waiter = start([](void*) -> void* {
    served = futex(lock_word, FUTEX_LOCK_PI) == 0 && lock_word == (tid() | FUTEX_WAITERS) ? 1 : 2;
    futex(lock_word, FUTEX_UNLOCK_PI);
    return nullptr;
  });
  // Refused as soon as somebody waits.
  long woken = 0;
  for (int i = 0; i < 10'000 && woken == 0; ++i) {
    nap(1);
    woken = futex(lock_word, FUTEX_WAKE, 1);
  }
  value("wake", woken);
  stage = 2;
  pthread_join(waiter, nullptr);
  pthread_join(thread, nullptr);
  value("handed over", served);
  value("free in the end", lock_word);

  // A handler, though not asked to restart, does not end the wait.
  line("interrupted", in_child([] {
         static std::atomic<int> handled{0};
         struct sigaction action{};
         action.sa_handler = [](int) { ++handled; };
         sigaction(SIGUSR1, &action, nullptr);
         stage = 0;
         pthread_t other = start(holder);
         await(stage, 1);
         static pthread_t self = pthread_self();
         pthread_t waker = start([](void*) -> void* {
           nap(30);
           pthread_kill(self, SIGUSR1);
           nap(30);
           stage = 2;
           return nullptr;
         });
         const long got = futex(lock_word, FUTEX_LOCK_PI);
         pthread_join(other, nullptr);
         pthread_join(waker, nullptr);
         return got == 0 ? handled.load() : 50 + errno;
       }));
  line("its owner ends", in_child([] {
         stage = 0;
         pthread_t other = start([](void*) -> void* {
           futex(lock_word, FUTEX_LOCK_PI);
           stage = 1;
           nap(50);
           return nullptr;
         });
         await(stage, 1);
         const long got = futex(lock_word, FUTEX_LOCK_PI);
         pthread_join(other, nullptr);
         return got == 0 && lock_word == (tid() | FUTEX_WAITERS | FUTEX_OWNER_DIED) ? 1 : 0;
       }));
  line("each waits for the other", in_child([] {
         stage = 0;
         futex(other_word, FUTEX_LOCK_PI);
         pthread_t other = start([](void*) -> void* {
           futex(lock_word, FUTEX_LOCK_PI);
           stage = 1;
           futex(other_word, FUTEX_LOCK_PI);
           futex(other_word, FUTEX_UNLOCK_PI);
           futex(lock_word, FUTEX_UNLOCK_PI);
           return nullptr;
         });
         await(stage, 1);
         nap(30);
         const long got = futex(lock_word, FUTEX_LOCK_PI);
         const int why = errno;
         futex(other_word, FUTEX_UNLOCK_PI);
         pthread_join(other, nullptr);
         return got == -1 ? why : 0;
       }));
  line("across processes", in_child([] {
         auto* shared = static_cast<Word*>(
             mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
         const pid_t child = fork();
         if (child == 0) {
           syscall(SYS_futex, shared, FUTEX_LOCK_PI, 0, nullptr);
           shared[1] = 1;
           nap(50);
           _exit(0);  // with it in its hands
         }
         while (shared[1] == 0) nap(1);
         const long got = syscall(SYS_futex, shared, FUTEX_LOCK_PI, 0, nullptr);
         waitpid(child, nullptr, 0);
         return got == 0 && (*shared & FUTEX_TID_MASK) == tid() ? 1 : 0;
       }));
}

pthread_mutex_t mutex;
int counter = 0;

void mutexes() {
  begin("mutex with priority inheritance");
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  line("counts", in_child([&] {
         pthread_mutex_init(&mutex, &attributes);
         pthread_t threads[4];
         for (pthread_t& thread : threads)
           thread = start([](void*) -> void* {
             for (int i = 0; i < 2000; ++i) {
               pthread_mutex_lock(&mutex);
               ++counter;
               pthread_mutex_unlock(&mutex);
             }
             return nullptr;
           });
         for (pthread_t thread : threads) pthread_join(thread, nullptr);
         return counter == 8000 ? 1 : 0;
       }));
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  line("robust", in_child([&] {
         pthread_mutex_init(&mutex, &attributes);
         stage = 0;
         pthread_t thread = start([](void*) -> void* {
           pthread_mutex_lock(&mutex);
           stage = 1;
           nap(30);
           return nullptr;
         });
         await(stage, 1);
         const int got = pthread_mutex_lock(&mutex);
         pthread_join(thread, nullptr);
         if (pthread_mutex_consistent(&mutex) != 0 || pthread_mutex_unlock(&mutex) != 0) return 99;
         return pthread_mutex_lock(&mutex) == 0 ? got : 98;
       }));
}

Word condition{0};
std::atomic<int> results[3];

/// Waits for the condition, then has the lock.
void* waits(void* raw) {
  auto& result = *static_cast<std::atomic<int>*>(raw);
  ++stage;
  const long got = futex(condition, FUTEX_WAIT_REQUEUE_PI, 0, nullptr, &lock_word);
  result = got == 0 && (lock_word & FUTEX_TID_MASK) == tid() ? 1 : 100 + errno;
  if (got == 0) futex(lock_word, FUTEX_UNLOCK_PI);
  return nullptr;
}

void requeued() {
  begin("futex requeue to a lock");
  lock_word = 0;
  const timespec soon = after(CLOCK_MONOTONIC, 20);
  value("other value", futex(condition, FUTEX_WAIT_REQUEUE_PI, 5, &soon, &lock_word));
  value("the same word", futex(condition, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &condition));
  value("timeout", futex(condition, FUTEX_WAIT_REQUEUE_PI, 0, &soon, &lock_word));
  value("nobody waits", requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 1, lock_word, 0));
  value("wakes two", requeue(condition, FUTEX_CMP_REQUEUE_PI, 2, 1, lock_word, 0));
  value("compares", requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 1, lock_word, 7));
  value("to itself", requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 1, condition, 0));
  stage = 0;
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], nullptr, waits, &results[i]);
  await(stage, 3);
  nap(50);
  value("wake", futex(condition, FUTEX_WAKE, 1));
  value("to another lock", requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 1, other_word, 0));
  value("the first has it, one waits",
        requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 1, lock_word, 0));
  futex(lock_word, FUTEX_LOCK_PI);
  value("the last waits", requeue(condition, FUTEX_CMP_REQUEUE_PI, 1, 100, lock_word, 0));
  futex(lock_word, FUTEX_UNLOCK_PI);
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  value("all had it", results[0] + results[1] + results[2]);
}

}  // namespace

void futexes() {
  barriers();
  several();
  locks_of_one();
  locks_of_two();
  mutexes();
  requeued();
}

}  // namespace calls
