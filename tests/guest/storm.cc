// A hostile guest. usage: storm calls | doors | race N | scribble | threads | buffers N | crowd N |
// busy SECONDS
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

uint64_t state = 88172645463325252U;
uint64_t next() {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

/// Runs `body` in a child that is ended after a while; its status.
template <class Body>
int bounded(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    setsid();
    body();
    _exit(0);
  }
  int status = 0;
  for (int tries = 0; child > 0; ++tries) {
    const pid_t got = waitpid(child, &status, WNOHANG);
    if (got == child) return status;
    if (got < 0) return -1;
    // Its own group, with whatever it has forked.
    if (tries == 200) {
      kill(-child, SIGKILL);
      kill(child, SIGKILL);
    }
    if (tries > 5000) break;
    usleep(tries < 20 ? 200 : 5000);
  }
  return -1;
}

uint64_t argument(char* memory) {
  switch (next() % 7) {
    case 0:
      return 0;
    case 1:
      return next() % 16;
    case 2:
      return reinterpret_cast<uint64_t>(memory + next() % 4096);
    case 3:
      return reinterpret_cast<uint64_t>(memory + 4090);  // the next page is not there
    case 4:
      return ~uint64_t{0} - next() % 64;
    case 5:
      return uint64_t{1} << (next() % 64);
    default:
      return next();
  }
}

/// Every number with arguments from nowhere.
int calls() {
  auto* memory = static_cast<char*>(
      mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  munmap(memory + 4096, 4096);
  int ended = 0;
  for (long number = 0; number <= 600; ++number) {
    const int status = bounded([&] {
      // What makes processes is called once: twenty times would be a million of them.
      const bool makes =
          number == SYS_clone || number == SYS_fork || number == SYS_vfork || number == SYS_clone3;
      for (int i = 0; i < (makes ? 1 : 20); ++i)
        syscall(number, argument(memory), argument(memory), argument(memory), argument(memory),
                argument(memory), argument(memory));
    });
    if (status == -1) return 1;
    if (status != 0) ++ended;
  }
  std::printf("survived, %s\n", ended < 200 ? "most children too" : "few children did");
  return 0;
}

int by_gate(int number) {
  int result = number;
  __asm__ volatile("int $0x80" : "+a"(result) : "b"(0), "c"(0), "d"(0) : "memory");
  return result;
}

/// The other ways into a kernel.
int doors() {
  for (int number = 0; number <= 600; ++number) {
    if (by_gate(number) != -ENOSYS) return 1;
    if (syscall(0x40000000L | number, 0, 0, 0) != -1 || errno != ENOSYS) return 2;
  }
  for (long number : {-1L, -2L, 0x7e01L, 0x7e02L, 0x7e03L, 0x7fffffffL, 0x80000000L, 0xffffffffL,
                      0x100000000L | SYS_getpid}) {
    // The kernel looks at the low half alone.
    const long expected = static_cast<int>(number) == SYS_getpid ? getpid() : -1;
    if (syscall(number, 0, 0, 0, 0, 0, 0) != expected) return 7;
  }
  // The page that old programs call for the time: by its three doors, and by none.
  for (uint64_t page = 0xffffffffff600000; page <= 0xffffffffff600800; page += 0x400) {
    const int status = bounded([&] {
      long long result = 0;
      unsigned char room[64] = {};
      __asm__ volatile("call *%1"
                       : "=a"(result)
                       : "r"(page), "D"(room), "S"(nullptr), "d"(nullptr)
                       : "rcx", "r11", "memory");
      _exit(result >= 0 ? 0 : 1);
    });
    const bool refused = WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;  // vsyscall=none
    if (status != 0 && !refused) return 8;
  }
  if (const int status = bounded([] { reinterpret_cast<void (*)()>(0xffffffffff600123)(); });
      !WIFSIGNALED(status))
    return 9;
  // sysenter from 64-bit code faults or is an unknown call; either way we are still here.
  bounded([] {
    __asm__ volatile("mov $20, %%eax\n sysenter" : : : "rax", "rcx", "rdx", "memory");
  });
  // Into the stub's own text at every byte of it, with registers that would do harm.
  for (uint64_t address = 0x7fff00000000; address < 0x7fff00000600; ++address)
    bounded([&] {
      __asm__ volatile("mov %1, %%eax\n mov $2, %%edi\n mov %%rsp, %%rsi\n mov $1, %%edx\n jmp *%0"
                       :
                       : "r"(address), "r"(static_cast<int>(address % 3 == 0 ? 1 : next() % 600))
                       : "rax", "rdi", "rsi", "rdx", "memory");
    });
  // And to each call instruction in it, with every number.
  const auto* text = reinterpret_cast<const unsigned char*>(0x7fff00000000);
  for (int at = 0; at < 0x5ff; ++at) {
    if (text[at] != 0x0f || text[at + 1] != 0x05) continue;
    for (int number = 0; number <= 600; number += 1 + static_cast<int>(next() % 40))
      bounded([&] {
        __asm__ volatile(
            "xor %%edi, %%edi\n xor %%esi, %%esi\n xor %%edx, %%edx\n xor %%r10d, %%r10d\n"
            "jmp *%0"
            :
            : "r"(text + at), "a"(number)
            : "rdi", "rsi", "rdx", "r10", "rcx", "r11", "memory");
      });
  }
  for (uint64_t address :
       {uint64_t{0x7fff00000000}, uint64_t{0x7fff00010000}, uint64_t{0x7fff00011000}}) {
    const int status = bounded([&] { *reinterpret_cast<volatile char*>(address) = 1; });
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) return 3;
    if (mmap(reinterpret_cast<void*>(address), 4096, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
      return 4;
    if (munmap(reinterpret_cast<void*>(address), 4096) == 0) return 5;
    if (mprotect(reinterpret_cast<void*>(address), 4096, PROT_READ | PROT_WRITE) == 0) return 6;
  }
  std::puts("survived");
  return 0;
}

sigjmp_buf escape;
void on_fault(int) { siglongjmp(escape, 1); }

/// Two threads race munmap against mmap of one range: what is touched is what the map says.
int race(long times) {
  auto* at = static_cast<char*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done) munmap(at, 4096);
  });
  signal(SIGSEGV, on_fault);
  volatile long faults = 0;
  for (long i = 0; i < times; ++i) {
    void* got =
        mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (got != at) return 1;
    if (sigsetjmp(escape, 1) == 0)
      *static_cast<volatile char*>(at) = 1;
    else
      faults = faults + 1;
  }
  done = true;
  other.join();
  // In the end the two agree: mapped here means mapped there.
  if (mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
    return 2;
  if (sigsetjmp(escape, 1) != 0) return 3;
  if (*static_cast<volatile char*>(at) != 0) return 4;
  munmap(at, 4096);
  if (sigsetjmp(escape, 1) == 0) {
    *static_cast<volatile char*>(at) = 1;
    return 5;
  }
  std::puts("agreed");
  return 0;
}

/// Writes over everything of the stub that can be written, while signals come.
int scribble() {
  const int status = bounded([] {
    signal(SIGUSR1, [](int) {});
    std::thread writer([] {
      for (int round = 0; round < 2000; ++round)
        for (uint64_t at = 0x7fff10000000; at < 0x7fff10000000 + 0x8000; at += 64)
          *reinterpret_cast<volatile uint64_t*>(at) = next();
    });
    for (int i = 0; i < 2000; ++i) {
      kill(getpid(), SIGUSR1);
      if (fork() == 0) _exit(0);
      while (waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
    writer.join();
  });
  if (status == -1) return 1;
  // Whatever became of that one, the next is well.
  if (bounded([] { _exit(7); }) != 7 << 8) return 2;
  std::puts("survived");
  return 0;
}

int threads() {
  std::atomic<int> sum{0};
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> some;
    for (int i = 0; i < 16; ++i) some.emplace_back([&] { sum += 1; });
    for (std::thread& each : some) each.join();
  }
  std::printf("%d\n", sum.load());
  return 0;
}

/// Threads that change the arguments of calls while the kernel reads them.
int buffers(long times) {
  struct Shared {
    char path[64];
    iovec vector[4];
    uint64_t clone[11];
    uint64_t action[4];
    int64_t time[4];
    uint64_t words[8];
    char* arguments[4];
  };
  constexpr size_t kSize = 3 * 4096;
  auto* memory = static_cast<char*>(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* shared = reinterpret_cast<Shared*>(memory + 4096 - 96);  // across the edge of a page
  const int status = bounded([&] {
    signal(SIGSEGV, [](int) { _exit(0); });  // its own writer takes pages away
    std::atomic<bool> done{false};
    std::thread writer([&] {
      uint64_t seed = 0x9e3779b97f4a7c15;
      while (!done) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        const uint64_t value = seed >> 33;
        std::memset(shared->path, static_cast<int>(value & 1 ? '/' : 'a'), sizeof shared->path - 1);
        if ((value & 2) != 0) std::memcpy(shared->path, "/proc/self/maps", 16);
        for (iovec& each : shared->vector)
          each = {value & 4 ? memory : reinterpret_cast<void*>(seed), value & 8 ? 100 : seed};
        shared->clone[0] = value & 16 ? 0x50f00 : seed;
        shared->clone[5] = value & 32 ? 0 : reinterpret_cast<uint64_t>(memory);
        for (uint64_t& each : shared->action) each = value & 64 ? 0 : seed;
        for (int64_t& each : shared->time) each = value & 128 ? 0 : static_cast<int64_t>(seed);
        for (uint64_t& each : shared->words) each = value & 256 ? 0 : seed;
        shared->arguments[0] = value & 512 ? shared->path : reinterpret_cast<char*>(seed);
      }
    });
    int ends[2];
    if (pipe2(ends, O_NONBLOCK) != 0) _exit(3);
    for (long i = 0; i < times; ++i) {
      const int fd = open(shared->path, O_RDONLY | O_NONBLOCK);
      if (fd >= 0) close(fd);
      struct {
        char room[256];
      } room;
      syscall(SYS_newfstatat, AT_FDCWD, shared->path, &room, 0);
      syscall(SYS_writev, ends[1], shared->vector, 4);
      syscall(SYS_readv, ends[0], shared->vector, 4);
      syscall(SYS_rt_sigaction, SIGUSR2, shared->action, nullptr, 8);
      syscall(SYS_clock_settime, CLOCK_REALTIME, shared->time);
      syscall(SYS_utimensat, AT_FDCWD, shared->path, shared->time, 0);
      syscall(SYS_poll, shared->words, 8, 0);
      syscall(SYS_rt_sigprocmask, SIG_BLOCK, shared->words, nullptr, 8);
      syscall(SYS_setgroups, 4, shared->words);
      syscall(SYS_prlimit64, 0, 5, shared->words, nullptr);
      syscall(SYS_execve, shared->path, shared->arguments, shared->arguments);
      syscall(SYS_futex, shared->words, 4, 1, 1, shared->words + 1, 0);
      syscall(SYS_capset, shared->words, shared->words + 1);
      syscall(SYS_seccomp, 1, 0, shared->words);
      if (i % 64 == 0)
        mprotect(memory + 8192, 4096, i % 128 == 0 ? PROT_READ : PROT_READ | PROT_WRITE);
    }
    done = true;
    writer.join();
  });
  if (status == -1) return 1;
  if (bounded([] { _exit(7); }) != 7 << 8) return 2;
  std::puts("survived");
  return 0;
}

/// Many processes that end at once.
int crowd(long count) {
  for (int round = 0; round < 2; ++round) {
    std::vector<pid_t> children;
    for (long i = 0; i < count; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        for (;;) pause();
      }
      if (child < 0) return 1;
      children.push_back(child);
    }
    if (kill(-1, SIGKILL) != 0) return 2;
    for (pid_t child : children) {
      int status = 0;
      if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status)) return 3;
    }
  }
  std::puts("ended");
  return 0;
}

/// Does everything that makes and ends processes and threads, while somebody outside kills stubs.
int busy(long seconds) {
  sleep(1);  // until then there are none but ours
  const timespec began = [] {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now;
  }();
  long made = 0;
  long lost = 0;
  for (;;) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - began.tv_sec >= seconds) break;
    std::vector<pid_t> children;
    for (int i = 0; i < 6; ++i) {
      const pid_t child = fork();
      if (child < 0) continue;
      if (child == 0) {
        for (int n = 0; n < 5; ++n) {
          std::thread([] {
            munmap(
                mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                1 << 16);
          }).join();
          if (n == 2 && i % 2 == 0) {
            char name[] = "storm";
            char how[] = "nothing";
            char* words[] = {name, how, nullptr};
            execv("/proc/self/exe", words);
          }
        }
        _exit(0);
      }
      children.push_back(child);
      ++made;
    }
    for (pid_t child : children) {
      int status = 0;
      if (waitpid(child, &status, 0) != child) return 1;
      if (status != 0) ++lost;
    }
  }
  std::printf("survived: %s, %s\n", made > 0 ? "made some" : "made none",
              lost > 0 ? "lost some" : "lost none");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (std::strcmp(what, "calls") == 0) return calls();
  if (std::strcmp(what, "doors") == 0) return doors();
  if (std::strcmp(what, "race") == 0) return race(argc > 2 ? std::atol(argv[2]) : 1000);
  if (std::strcmp(what, "scribble") == 0) return scribble();
  if (std::strcmp(what, "threads") == 0) return threads();
  const long number = argc > 2 ? std::atol(argv[2]) : 100;
  if (std::strcmp(what, "buffers") == 0) return buffers(number);
  if (std::strcmp(what, "crowd") == 0) return crowd(number);
  if (std::strcmp(what, "busy") == 0) return busy(number);
  if (std::strcmp(what, "nothing") == 0) return 0;
  std::fprintf(stderr,
               "usage: storm calls | doors | race N | scribble | threads | buffers N | crowd N | "
               "busy SECONDS\n");
  return 2;
}
