// What `./dev bench guest` times, natively and inside: a line an operation, "name p50 p90" in
// nanoseconds.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
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

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "true") == 0) return 0;
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
