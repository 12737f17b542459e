#include <fcntl.h>
#include <sys/mman.h>

#include <csetjmp>
#include <csignal>

#include "calls.h"

namespace calls {
namespace {

sigjmp_buf escape;
volatile int fault_code;
void on_fault(int signal, siginfo_t* info, void*) {
  fault_code = info->si_code;
  siglongjmp(escape, signal);
}
/// What touching it does: "fine", or the signal.
std::string touch(volatile char* at, bool store) {
  const int signal = sigsetjmp(escape, 1);
  if (signal != 0)
    return std::string("SIG") + sigabbrev_np(signal) + " " + std::to_string(fault_code);
  if (store)
    *at = 1;
  else
    static_cast<void>(*at);
  return "fine";
}
char* map(void* at, size_t length, int protection, int flags, int fd = -1, off_t offset = 0) {
  return static_cast<char*>(mmap(at, length, protection, flags, fd, offset));
}
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int kBoth = PROT_READ | PROT_WRITE;

}  // namespace

void memory() {
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);

  begin("mmap");
  const auto fails = [](const char* what, const char* at) {
    line(what, at == MAP_FAILED ? result_of(-1) : "ok");
  };
  fails("no length", map(nullptr, 0, kBoth, kAnonymous));
  fails("no kind", map(nullptr, 4096, kBoth, MAP_ANONYMOUS));
  fails("bad descriptor", map(nullptr, 4096, kBoth, MAP_PRIVATE, 999));
  fails("bad offset", map(nullptr, 4096, kBoth, kAnonymous, -1, 17));
  fails("fixed at an odd place",
        map(reinterpret_cast<void*>(0x10001), 4096, kBoth, kAnonymous | MAP_FIXED));
  fails("too long", map(nullptr, size_t{1} << 60, kBoth, kAnonymous));
  char* below = map(nullptr, 4096, kBoth, kAnonymous | MAP_32BIT);
  truth("MAP_32BIT", reinterpret_cast<uintptr_t>(below) < uintptr_t{1} << 31);
  munmap(below, 4096);
  fails("more than lies there", map(nullptr, size_t{2} << 30, PROT_NONE, kAnonymous | MAP_32BIT));
  const int shared_file = open("validated", O_CREAT | O_RDWR, 0600);
  value("length", ftruncate(shared_file, 4096));
  fails("validated", map(nullptr, 4096, kBoth, MAP_SHARED_VALIDATE, shared_file));
  fails("validated, unknown",
        map(nullptr, 4096, kBoth, MAP_SHARED_VALIDATE | 0x1000000, shared_file));
  fails("validated, synchronous",
        map(nullptr, 4096, kBoth, MAP_SHARED_VALIDATE | MAP_SYNC, shared_file));
  fails("validated, anonymous", map(nullptr, 4096, kBoth, MAP_SHARED_VALIDATE | MAP_ANONYMOUS));
  close(shared_file);
  unlink("validated");
  char* at = map(nullptr, 3 * 4096, kBoth, kAnonymous);
  truth("zeros", at[0] == 0 && at[8191] == 0);
  fails("no replace", map(at, 4096, kBoth, kAnonymous | MAP_FIXED_NOREPLACE));
  line("store", touch(at, true));
  begin("mprotect");
  value("read-only", mprotect(at + 4096, 4096, PROT_READ));
  line("store", touch(at + 4096, true));
  line("load", touch(at + 4096, false));
  line("neighbour", touch(at + 8192, true));
  value("none", mprotect(at, 4096, PROT_NONE));
  line("load", touch(at, false));
  value("odd", mprotect(at + 1, 4096, PROT_READ));
  value("nothing", mprotect(at, 0, PROT_READ));
  begin("munmap");
  value("middle", munmap(at + 4096, 4096));
  line("load", touch(at + 4096, false));
  value("protect over the hole", mprotect(at, 3 * 4096, kBoth));
  value("odd", munmap(at + 1, 4096));
  value("no length", munmap(at, 0));
  value("nothing there", munmap(at + 4096, 4096));
  begin("mremap");
  char* grown = map(nullptr, 4096, kBoth, kAnonymous);
  grown[0] = 'k';
  char* moved = static_cast<char*>(mremap(grown, 4096, 1 << 20, MREMAP_MAYMOVE));
  truth("kept", moved != MAP_FAILED && moved[0] == 'k' && moved[(1 << 20) - 1] == 0);
  line("shrink", mremap(moved, 1 << 20, 4096, 0) == moved ? "same place" : result_of(-1));
  line("tail", touch(moved + 4096, false));
  fails("fixed without maymove", static_cast<char*>(mremap(moved, 4096, 4096, MREMAP_FIXED, at)));
  fails("odd", static_cast<char*>(mremap(moved + 1, 4096, 8192, MREMAP_MAYMOVE)));
  fails("unmapped",
        static_cast<char*>(mremap(reinterpret_cast<void*>(0x10000), 4096, 8192, MREMAP_MAYMOVE)));
  begin("file mapping");
  const int fd = open("mapped", O_CREAT | O_RDWR | O_TRUNC, 0600);
  ok("write", write(fd, "file contents", 13));
  char* shared = map(nullptr, 8192, kBoth, MAP_SHARED, fd);
  char* copy = map(nullptr, 4096, kBoth, MAP_PRIVATE, fd);
  line("contents", std::string(shared, 13));
  shared[0] = 'F';
  copy[1] = 'X';
  char text[14] = {};
  ok("pread", pread(fd, text, 13, 0));
  line("file has", text);
  line("copy has", std::string(copy, 13));
  line("behind the end", touch(shared + 4096, false));
  const int read_only = open("mapped", O_RDONLY);
  fails("shared writable of read-only", map(nullptr, 4096, kBoth, MAP_SHARED, read_only));
  fails("private writable of read-only", map(nullptr, 4096, kBoth, MAP_PRIVATE, read_only));
  const int write_only = open("mapped", O_WRONLY);
  fails("of write-only", map(nullptr, 4096, PROT_READ, MAP_PRIVATE, write_only));
  char* locked = map(nullptr, 4096, PROT_READ, MAP_SHARED, read_only);
  value("made writable", mprotect(locked, 4096, kBoth));
  value("msync", msync(shared, 4096, MS_SYNC));
  value("msync odd", msync(shared + 1, 4096, MS_SYNC));
  value("msync flags", msync(shared, 4096, MS_SYNC | MS_ASYNC));
  begin("shared memory");
  char* between = map(nullptr, 4096, kBoth, MAP_SHARED | MAP_ANONYMOUS);
  char* own = map(nullptr, 4096, kBoth, kAnonymous);
  line("child", in_child([&] {
         between[0] = own[0] = 's';
         return 0;
       }));
  truth("shared is seen", between[0] == 's');
  truth("private is not", own[0] == 0);
  begin("madvise");
  own[0] = 'o';
  value("dontneed", madvise(own, 4096, MADV_DONTNEED));
  truth("zero again", own[0] == 0);
  value("odd", madvise(own + 1, 4096, MADV_DONTNEED));
  value("unknown", madvise(own, 4096, 9999));
  munmap(own, 4096);
  value("unmapped", madvise(own, 4096, MADV_NORMAL));
  begin("brk");
  char* start = static_cast<char*>(sbrk(0));
  truth("grows", sbrk(100000) != reinterpret_cast<void*>(-1));
  line("store", touch(start + 90000, true));
  truth("shrinks", brk(start) == 0 && sbrk(0) == start);
  truth("not below", syscall(SYS_brk, 4096) == reinterpret_cast<long>(start));
  begin("mlock");
  value("mapped", mlock(between, 4096));
  value("unmapped", mlock(own, 4096));
  value("munlock", munlock(between, 4096));
  begin("memfd");
  const int memory_fd = memfd_create("name", MFD_CLOEXEC);
  ok("made", memory_fd);
  value("cut to size", ftruncate(memory_fd, 4096));
  char* a = map(nullptr, 4096, kBoth, MAP_SHARED, memory_fd);
  char* b = map(nullptr, 4096, kBoth, MAP_SHARED, memory_fd);
  a[5] = 'm';
  truth("both see it", b[5] == 'm');
  value("bad flags", memfd_create("x", 1U << 30));
  begin("fault");
  line("null", touch(nullptr, false));
  line("far away", touch(reinterpret_cast<volatile char*>(0x7f1234567000), true));
  line("not canonical", touch(reinterpret_cast<volatile char*>(0x8000000000000000), true));
  signal(SIGSEGV, SIG_DFL);
  line("unhandled", in_child([] {
         volatile uintptr_t low = 16;  // unknown to the compiler
         *reinterpret_cast<volatile char*>(low) = 1;
         return 0;
       }));
  line("execute data", in_child([&] {
         reinterpret_cast<void (*)()>(between)();
         return 0;
       }));
  for (int each : {fd, read_only, write_only, memory_fd}) close(each);
}

}  // namespace calls
