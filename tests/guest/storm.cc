// A hostile guest. usage: storm calls | doors | race N | scribble | threads
#include <sys/mman.h>
#include <sys/syscall.h>
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

/// The other ways into a kernel.
int doors() {
  for (int number = 0; number < 450; ++number) {
    const int status = bounded([&] {
      int result = number;
      __asm__ volatile("int $0x80" : "+a"(result) : "b"(0), "c"(0), "d"(0) : "memory");
      _exit(result == -38 ? 0 : 1);
    });
    if (status != 0) return 1;
    if (syscall(0x40000000L | number, 0, 0, 0) != -1 || errno != ENOSYS) return 2;
  }
  // sysenter from 64-bit code faults or is an unknown call; either way we are still here.
  bounded([] {
    __asm__ volatile("mov $20, %%eax\n sysenter" : : : "rax", "rcx", "rdx", "memory");
  });
  // Into the stub's own text, and into memory that it guards.
  for (uint64_t address = 0x7fff00000000; address < 0x7fff00000600; address += 3)
    bounded([&] {
      __asm__ volatile("mov $1, %%eax\n mov $2, %%edi\n mov %%rsp, %%rsi\n mov $1, %%edx\n jmp *%0"
                       :
                       : "r"(address)
                       : "rax", "rdi", "rsi", "rdx", "memory");
    });
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

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (std::strcmp(what, "calls") == 0) return calls();
  if (std::strcmp(what, "doors") == 0) return doors();
  if (std::strcmp(what, "race") == 0) return race(argc > 2 ? std::atol(argv[2]) : 1000);
  if (std::strcmp(what, "scribble") == 0) return scribble();
  if (std::strcmp(what, "threads") == 0) return threads();
  std::fprintf(stderr, "usage: storm calls | doors | race N | scribble | threads\n");
  return 2;
}
