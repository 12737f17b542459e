// What `./dev bench guest` times, natively and inside: a line an operation, "name p50 p90" in
// nanoseconds.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

template <class Body>
void timed(const char* name, int batches, int per_batch, Body body) {
  std::vector<double> took;
  for (int batch = 0; batch < batches; ++batch) {
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < per_batch; ++i) body();
    const std::chrono::duration<double, std::nano> passed =
        std::chrono::steady_clock::now() - began;
    took.push_back(passed.count() / per_batch);
  }
  std::sort(took.begin(), took.end());
  std::printf("%s %.0f %.0f\n", name, took[took.size() / 2], took[took.size() * 9 / 10]);
  std::fflush(stdout);
}

/// A byte there and a byte back, through two descriptors that read and write either way.
void ping_pong(const char* name, int ours, int theirs) {
  std::thread echo([theirs] {
    char byte = 0;
    while (read(theirs, &byte, 1) == 1)
      if (write(theirs, &byte, 1) != 1) return;
  });
  timed(name, 100, 20, [ours] {
    char byte = 0;
    static_cast<void>(!write(ours, &byte, 1));
    static_cast<void>(!read(ours, &byte, 1));
  });
  close(ours);
  echo.join();
  close(theirs);
}

/// Two ends of a TCP connection over loopback; false: there is none.
bool connect_tcp(int ends[2]) {
  const int on = 1;
  sockaddr_in address{};
  socklen_t length = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, name, length) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, name, &length) != 0 || connect(ends[0], name, length) != 0)
    return false;
  ends[1] = accept(listener, nullptr, nullptr);
  close(listener);
  for (int i = 0; i < 2; ++i) setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return ends[1] >= 0;
}

/// Two threads that wake each other and nothing else.
void futex_ping_pong() {
  static std::atomic<uint32_t> turn{0};
  const auto wait_while = [](uint32_t value) {
    while (turn.load() == value) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, value, nullptr);
  };
  const auto set = [](uint32_t value) {
    turn.store(value);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1);
  };
  std::thread echo([&] {
    for (;;) {
      wait_while(0);
      if (turn.load() == 2) return;
      set(0);
    }
  });
  timed("futex-ping-pong", 100, 20, [&] {
    set(1);
    wait_while(1);
  });
  set(2);
  echo.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "true") == 0) return 0;
  if (argc > 1 && std::strcmp(argv[1], "spin") == 0) {
    volatile unsigned turns = 0;
    for (;;) turns = turns + 1;
  }
  timed("getppid", 400, 100, [] { syscall(SYS_getppid); });
  const int fd = open("/tmp/guest-bench", O_CREAT | O_RDWR, 0600);
  static char buffer[4096];
  if (fd < 0 || write(fd, buffer, sizeof buffer) != sizeof buffer) return 1;
  timed("read-4k", 200, 50, [&] { static_cast<void>(!pread(fd, buffer, sizeof buffer, 0)); });
  timed("open-close", 200, 20, [] { close(open("/tmp/guest-bench", O_RDONLY)); });
  struct stat status;
  timed("stat", 200, 20, [&] { stat("/tmp/guest-bench", &status); });
  timed("stat-host-file", 200, 20, [&] { stat("/bin/guest_ops", &status); });
  int there[2];
  int back[2];
  if (pipe(there) != 0 || pipe(back) != 0) return 1;
  std::thread echo([&] {
    char byte = 0;
    while (read(there[0], &byte, 1) == 1)
      if (write(back[1], &byte, 1) != 1) return;
  });
  timed("pipe-ping-pong", 100, 20, [&] {
    char byte = 0;
    static_cast<void>(!write(there[1], &byte, 1));
    static_cast<void>(!read(back[0], &byte, 1));
  });
  close(there[1]);
  echo.join();
  futex_ping_pong();
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 1;
  ping_pong("unix-ping-pong", ends[0], ends[1]);
  if (!connect_tcp(ends)) return 1;
  ping_pong("tcp-ping-pong", ends[0], ends[1]);
  timed("mmap-touch-munmap", 200, 20, [] {
    auto* page = static_cast<char*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    page[0] = 1;
    munmap(page, 4096);
  });
  timed("fork-exit-wait", 60, 2, [] {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
  });
  timed("vfork-exec-wait", 60, 2, [&] {
    const pid_t child = vfork();  // NOLINT(bugprone-unsafe-functions): is what is timed
    if (child == 0) {
      execl(argv[0], argv[0], "true", static_cast<char*>(nullptr));
      _exit(1);
    }
    waitpid(child, nullptr, 0);
  });
  timed("thread", 60, 5, [] { std::thread([] {}).join(); });
  unlink("/tmp/guest-bench");
  return 0;
}
