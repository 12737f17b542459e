// Runs a command one instruction at a time, with the processes that it makes, and writes which of
// its addresses were executed. Usage: steps FILE COMMAND... Output: a line for each 8 bytes: where,
// in hexadecimal, and by whom, the sum of 1 (the command itself), 2 (it, since it has mapped its
// program anew) and 4 (a process that it made). A child is followed until it executes something
// else or the command ends. What is loaded above 32 MiB is not looked at: a program of ours lies
// below, for it is linked statically at a fixed address.

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <set>
#include <vector>

namespace {

constexpr unsigned kGrain = 3;
constexpr unsigned long kTop = 32UL << 20U;
constexpr int kFailed = 255;
enum By : unsigned char { kCommand = 1, kMappedAnew = 2, kChild = 4 };

class Stepper {
 public:
  explicit Stepper(pid_t first) : first_(first), seen_(kTop >> kGrain) {}

  /// The command's exit status.
  int follow() {
    int status = 0;
    pid_t pid = -1;
    while ((pid = waitpid(-1, &status, __WALL)) > 0) {
      if (WIFSTOPPED(status)) {
        stopped(pid, status);
        continue;
      }
      live_.erase(pid);
      if (pid != first_) continue;
      let_go();
      return WIFEXITED(status) ? WEXITSTATUS(status) : kFailed;
    }
    return kFailed;
  }

  bool write(const char* path) const {
    FILE* file = fopen(path, "we");
    if (file == nullptr) return false;
    for (size_t at = 0; at < seen_.size(); ++at) {
      if (seen_[at] != 0) fprintf(file, "%zx %u\n", at << kGrain, unsigned{seen_[at]});
    }
    return fclose(file) == 0;
  }

 private:
  void stopped(pid_t pid, int status) {
    const int event = status >> 16;
    const int signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXEC && pid != first_) {
      detach(pid);
      return;
    }
    live_.insert(pid);
    const bool ours = event != 0 || signal == SIGTRAP;
    user_regs_struct registers{};
    if (event == 0 && ours && ptrace(PTRACE_GETREGS, pid, nullptr, &registers) == 0 &&
        registers.rip < kTop) {
      // It stands before the call, or long behind it with the same registers.
      const bool maps_anew = registers.rax == SYS_prctl && registers.rdi == PR_SET_MM &&
                             registers.rsi == PR_SET_MM_MAP;
      if (maps_anew && pid == first_) own_ = kMappedAnew;
      seen_[registers.rip >> kGrain] |= pid == first_ ? own_ : kChild;
    }
    ptrace(PTRACE_SINGLESTEP, pid, nullptr, ours ? 0 : signal);
  }

  void detach(pid_t pid) {
    ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
    live_.erase(pid);
  }

  // What goes on behind the command: still in steps, the first without us would be its end.
  void let_go() {
    while (!live_.empty()) {
      const pid_t pid = *live_.begin();
      int status = 0;
      if (ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) == 0 &&
          waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
        detach(pid);
      }
      live_.erase(pid);
    }
  }

  pid_t first_;
  std::set<pid_t> live_;
  By own_ = kCommand;
  std::vector<unsigned char> seen_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fputs("usage: steps FILE COMMAND...\n", stderr);
    return 2;
  }
  int go[2];
  if (pipe(go) != 0) return kFailed;
  const pid_t first = fork();
  if (first == 0) {
    char byte = 0;
    if (read(go[0], &byte, 1) == 1 && close(go[0]) == 0 && close(go[1]) == 0)
      execv(argv[2], argv + 2);
    _exit(kFailed);
  }
  constexpr unsigned long kOptions =
      PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;
  if (first < 0 || ptrace(PTRACE_SEIZE, first, nullptr, kOptions) != 0 ||
      ::write(go[1], "g", 1) != 1) {
    perror("steps");
    return kFailed;
  }
  Stepper stepper(first);
  const int exit_status = stepper.follow();
  if (!stepper.write(argv[1])) {
    perror(argv[1]);
    return kFailed;
  }
  return exit_status;
}
