// Runs several commands in turn, each once a round, so that they share the machine's moods, and
// prints each run's wall and CPU time and peak memory. Usage: turns ROUNDS WARMUP -- COMMAND... [--
// COMMAND...] Output: a line a run, "INDEX WALL_NS CPU_NS EXIT_STATUS PEAK_KIB"; warm-up rounds are
// not printed. Or: turns once COMMAND..., which is executed.
//
// Called in a chroot whose root is a mount, it makes that the root of a mount namespace: who joins
// a container would else find the host's files and programs in its place, with most runtimes.

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <numeric>
#include <random>
#include <vector>

namespace {

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

int64_t ns_of(const timeval& t) { return t.tv_sec * 1'000'000'000LL + t.tv_usec * 1000LL; }

struct Run {
  int64_t wall_ns;
  int64_t cpu_ns;
  int status;
  long peak_kib;
};

bool run(char** command, const posix_spawn_file_actions_t& actions, Run& result) {
  const int64_t began = now_ns();
  pid_t pid = -1;
  // vfork semantics: what is measured is the command, not the copying of us.
  if (posix_spawn(&pid, command[0], &actions, nullptr, command, environ) != 0) return false;
  int status = 0;
  rusage usage{};
  if (wait4(pid, &status, 0, &usage) != pid) return false;
  result = {now_ns() - began, ns_of(usage.ru_utime) + ns_of(usage.ru_stime),
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), usage.ru_maxrss};
  return true;
}

bool make_root_of_mounts() {
  if (unshare(CLONE_NEWNS) != 0) return false;
  const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  return root >= 0 && mounts >= 0 && setns(mounts, CLONE_NEWNS) == 0 && fchdir(root) == 0 &&
         syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const bool once = argc >= 3 && strcmp(argv[1], "once") == 0;
  if (!once && argc < 5) {
    fputs("usage: turns ROUNDS WARMUP -- COMMAND... [-- COMMAND...] | once COMMAND...\n", stderr);
    return 2;
  }
  if (!make_root_of_mounts()) {
    perror("turns: no root of its own");
    return 1;
  }
  if (once) {
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 127;
  }
  const int rounds = atoi(argv[1]);
  const int warmup = atoi(argv[2]);
  std::vector<char**> commands;
  for (int i = 3; i < argc; ++i) {
    if (strcmp(argv[i], "--") != 0) continue;
    argv[i] = nullptr;  // ends the command before
    if (i + 1 < argc) commands.push_back(argv + i + 1);
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
  std::vector<size_t> order(commands.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::minstd_rand chance(1);
  for (int round = 0; round < rounds + warmup; ++round) {
    // In another order each round: what one leaves to be cleaned up (a network namespace, say) is
    // paid for by the next.
    std::shuffle(order.begin(), order.end(), chance);
    for (const size_t i : order) {
      Run result{};
      if (!run(commands[i], actions, result)) {
        fprintf(stderr, "turns: cannot start %s\n", commands[i][0]);
        return 1;
      }
      if (round < warmup) continue;
      printf("%zu %lld %lld %d %ld\n", i, static_cast<long long>(result.wall_ns),
             static_cast<long long>(result.cpu_ns), result.status, result.peak_kib);
    }
  }
  return 0;
}
