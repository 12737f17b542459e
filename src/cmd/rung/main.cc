#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "guest/sandbox/sandbox.h"
#include "guest/sys/table.h"

// rung: the guest kernel's command line. `do` runs one program, as runsc's does.

namespace {

constexpr const char* kUsage =
    "usage: rung do [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
    "       rung syscalls\n"
    "       rung --version\n\n"
    "do runs a program under the guest kernel. Options:\n"
    "  --root DIR       the program's root, writable (default: / of the host, read-only)\n"
    "  --read-only      keep it read-only\n"
    "  --cwd DIR        where it starts (default /)\n"
    "  --env NAME=VALUE a variable; may be repeated (default: PATH, HOME, TERM alone)\n"
    "  --hostname NAME  (default guest)\n"
    "  --pids N         threads that it may have (default 4096)\n"
    "  --log FILE       name every system call that is not supported, once\n"
    "  --strace         print every system call to standard error\n";

int usage(const std::string& complaint) {
  std::fprintf(stderr, "rung: %s\n%s", complaint.c_str(), kUsage);
  return 125;
}

int run_do(const std::vector<std::string_view>& words) {
  fluyt::guest::SandboxRequest request;
  request.read_only = true;
  bool root_given = false;
  std::string pids;
  bool keep_read_only = false;
  size_t at = 0;
  for (; at < words.size(); ++at) {
    const std::string_view word = words[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word.empty() || word[0] != '-') break;
    if (word == "--strace") {
      request.strace = true;
      continue;
    }
    if (word == "--read-only") {
      keep_read_only = true;
      continue;
    }
    std::string* value = nullptr;
    if (word == "--root") {
      value = &request.root;
      root_given = true;
    } else if (word == "--cwd") {
      value = &request.working_directory;
    } else if (word == "--hostname") {
      value = &request.host_name;
    } else if (word == "--pids") {
      value = &pids;
    } else if (word == "--log") {
      value = &request.log;
    } else if (word == "--env") {
      value = &request.environment.emplace_back();
    } else {
      return usage("do: '" + std::string(word) + "': no such option");
    }
    if (at + 1 == words.size())
      return usage("do: " + std::string(word) + ": expected a value behind it");
    *value = words[++at];
    if (word == "--env" && value->find('=') == std::string::npos)
      return usage("do: --env '" + *value + "': expected NAME=VALUE");
    if (word == "--pids") {
      const auto [end, error] =
          std::from_chars(pids.data(), pids.data() + pids.size(), request.max_tasks);
      if (error != std::errc() || end != pids.data() + pids.size() || request.max_tasks == 0 ||
          request.max_tasks > 30000)
        return usage("do: --pids '" + pids + "': expected 1 to 30000");
    }
    if (word == "--hostname" && (value->empty() || value->size() > 64))
      return usage("do: --hostname '" + *value + "': expected 1 to 64 characters");
  }
  request.arguments.assign(words.begin() + static_cast<ptrdiff_t>(std::min(at, words.size())),
                           words.end());
  if (request.arguments.empty()) return usage("do: no program: expected its path");
  request.read_only = keep_read_only || !root_given;
  if (request.environment.empty()) {
    const char* terminal = std::getenv("TERM");
    request.environment = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                           "HOME=/root", std::string("TERM=") + (terminal ? terminal : "dumb")};
  }
  const auto done = fluyt::guest::run_sandbox(request);
  if (!done.ok()) {
    std::fprintf(stderr, "rung: %s\n", done.error().message().c_str());
    return 125;
  }
  const int status = done.value();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  if (words.empty()) return usage("no command");
  if (words[0] == "--version") {
    std::printf("rung %s\n", FLUYT_VERSION);
    return 0;
  }
  if (words[0] == "--help" || words[0] == "-h") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  if (words[0] == "syscalls") {
    std::fputs(fluyt::guest::describe_calls().c_str(), stdout);
    return 0;
  }
  if (words[0] != "do") return usage("'" + std::string(words[0]) + "': no such command");
  const int code = run_do({words.begin() + 1, words.end()});
  std::fflush(nullptr);
  _exit(code);  // the sandbox's threads end with us
}
