// usage: guest_calls DIRECTORY: an empty directory to work in.
#include <sys/wait.h>

#include "calls.h"

namespace calls {
namespace {
std::string current;
}

void begin(const char* call) { current = call; }

void line(const std::string& what, const std::string& result) {
  const std::string text = current + ": " + what + ": " + result + "\n";
  if (write(1, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(9);
}

std::string in_child(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return "no child";
  if (WIFSIGNALED(status)) {
    const char* name = sigabbrev_np(WTERMSIG(status));
    return name != nullptr ? std::string("killed by SIG") + name
                           : "killed by " + std::to_string(WTERMSIG(status));
  }
  return "exit " + std::to_string(WEXITSTATUS(status));
}

}  // namespace calls

namespace {

/// What this program does when it is executed by one of its cases; -1: it is not.
int as_told(const std::string& word) {
  if (word == "--capabilities") return calls::effective_capabilities();
  if (word == "--whose") {
    calls::line("executed", std::to_string(geteuid()) + " " + std::to_string(getegid()));
    return 5;
  }
  if (word == "--leave") return 3;
  if (word == "--deep") return calls::go_deep();
  if (word == "--stack") return calls::look_at_stack();
  if (word == "--stay") {
    if (write(1, "x", 1) != 1) return 1;
    pause();
    return 1;
  }
  if (word == "--where") {
    char path[256];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    calls::line("executed",
                length < 0 ? calls::result_of(-1) : std::string(path, static_cast<size_t>(length)));
    return 4;
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 2)
    if (const int status = as_told(argv[1]); status >= 0) return status;
  if (argc != 2 || chdir(argv[1]) != 0) {
    std::fprintf(stderr, "usage: guest_calls DIRECTORY\n");
    return 2;
  }
  calls::by_number();
  calls::epolls();
  calls::extended_attributes();
  calls::files();
  calls::futexes();
  calls::guards();
  calls::inotify();
  calls::ip_packets();
  calls::tmpfs_limits();
  calls::locks();
  calls::memory();
  calls::message_queues();
  calls::namespaces();
  calls::opening_ways();
  calls::processes();
  calls::restartable_sequences();
  calls::seccomp();
  calls::signals();
  calls::sockets();
  calls::splicing();
  calls::sysv();
  calls::tasks();
  calls::terminals();
  calls::times();
  calls::users();
  return 0;
}
