// Runs a program under ptrace(2) and stops it, and every process that it makes, at each call that
// takes a path or moves a mount. At the stop of the given number two names are exchanged, and what
// was stopped goes on: every window between a check and its use is hit for certain, without a race.
// Processes are let go once they execute a program.
//
//   stops AT BACK ONE TWO REPORT -- PROGRAM [ARGUMENT...]
//
// Exchanges ONE and TWO at stop AT (counted from 1; 0: never), and back again BACK stops later (0:
// never). Writes the number of stops and the name of the call at AT to the file REPORT; ends as the
// program did.

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace {

constexpr unsigned kLimitSeconds = 30;

constexpr auto kCalls = std::to_array<std::pair<uint64_t, const char*>>({
    {SYS_open, "open"},
    {SYS_openat, "openat"},
    {SYS_openat2, "openat2"},
    {SYS_mkdirat, "mkdirat"},
    {SYS_mknodat, "mknodat"},
    {SYS_symlinkat, "symlinkat"},
    {SYS_linkat, "linkat"},
    {SYS_unlinkat, "unlinkat"},
    {SYS_fchownat, "fchownat"},
    {SYS_fchmodat, "fchmodat"},
    {SYS_newfstatat, "newfstatat"},
    {SYS_statx, "statx"},
    {SYS_readlinkat, "readlinkat"},
    {SYS_mount, "mount"},
    {SYS_umount2, "umount2"},
    {SYS_open_tree, "open_tree"},
    {SYS_move_mount, "move_mount"},
    {SYS_fsmount, "fsmount"},
    {SYS_mount_setattr, "mount_setattr"},
    {SYS_pivot_root, "pivot_root"},
    {SYS_chroot, "chroot"},
    {SYS_chdir, "chdir"},
    {SYS_fchdir, "fchdir"},
    {SYS_execve, "execve"},
    {SYS_faccessat2, "faccessat2"},
});

const char* find_call(uint64_t number) {
  for (const auto& [known, name] : kCalls) {
    if (known == number) return name;
  }
  return nullptr;
}

struct Driver {
  uint64_t at = 0;
  uint64_t back = 0;
  const char* one = nullptr;
  const char* two = nullptr;
  pid_t main = 0;
  uint64_t stops = 0;
  std::string hit = "none";
  bool failed = false;

  void exchange() {
    if (renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE) != 0) {
      perror("stops: renameat2");
      failed = true;
    }
  }
  void at_call(uint64_t number) {
    const char* name = find_call(number);
    if (name == nullptr) return;
    ++stops;
    if (stops == at) {
      hit = name;
      exchange();
    } else if (at != 0 && back != 0 && stops == at + back) {
      exchange();
    }
  }
  int run();
};

void on(pid_t pid, int signal) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): ptrace(2) takes the number as one
  ptrace(PTRACE_SYSCALL, pid, nullptr, reinterpret_cast<void*>(static_cast<intptr_t>(signal)));
}

// Until the first program has ended; what it left running was let go at its execve.
int Driver::run() {
  std::map<pid_t, bool> known;
  while (true) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, __WALL);
    if (pid < 0) return errno == ECHILD ? 0 : 125;
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      if (pid == main) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      continue;
    }
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;
    if (signal == (SIGTRAP | 0x80)) {
      __ptrace_syscall_info info{};
      if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 &&
          info.op == PTRACE_SYSCALL_INFO_ENTRY)
        at_call(info.entry.nr);
      on(pid, 0);
    } else if (event == PTRACE_EVENT_EXEC && pid != main) {
      ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
    } else if (event != 0) {
      on(pid, 0);
    } else if (signal == SIGSTOP && !known[pid]) {
      known[pid] = true;  // how a new one begins
      on(pid, 0);
    } else {
      on(pid, signal);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8 || std::string(argv[6]) != "--") {
    fputs("usage: stops AT BACK ONE TWO REPORT -- PROGRAM [ARGUMENT...]\n", stderr);
    return 125;
  }
  Driver driver;
  driver.at = strtoull(argv[1], nullptr, 10);
  driver.back = strtoull(argv[2], nullptr, 10);
  driver.one = argv[3];
  driver.two = argv[4];
  const pid_t pid = fork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    execv(argv[7], argv + 7);
    _exit(126);
  }
  driver.main = pid;
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status)) return 125;
  ptrace(PTRACE_SETOPTIONS, pid, nullptr,
         PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
             PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
  alarm(kLimitSeconds);  // its end is the program's too (EXITKILL)
  on(pid, 0);
  const int code = driver.run();
  FILE* report = fopen(argv[5], "w");
  if (report == nullptr) return 125;
  fprintf(report, "%llu %s\n", static_cast<unsigned long long>(driver.stops), driver.hit.c_str());
  fclose(report);
  return driver.failed ? 125 : code;
}
