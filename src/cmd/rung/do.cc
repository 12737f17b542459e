#include <sys/wait.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "cmd/rung/rung.h"
#include "guest/sandbox/sandbox.h"

namespace fluyt::rung {

namespace {

constexpr int kFailed = 125;
constexpr const char* kUsage =
    "usage: rung do [OPTION...] [--] PROGRAM [ARGUMENT...]\n\n"
    "do runs a program under the guest kernel. Options:\n"
    "  --root DIR       the program's root, writable (default: / of the host, read-only)\n"
    "  --read-only      keep it read-only\n"
    "  --cwd DIR        where it starts (default /)\n"
    "  --env NAME=VALUE a variable; may be repeated (default: PATH, HOME, TERM alone)\n"
    "  --hostname NAME  (default guest)\n"
    "  --network WHAT   none: loopback alone (default); host: what the host reaches as well\n"
    "  --pids N         threads that it may have (default 4096)\n"
    "  --log FILE       name every system call that is not supported, once\n"
    "  --strace         print every system call to standard error\n";

int complain(const std::string& complaint) {
  std::fprintf(stderr, "rung: %s\n%s", complaint.c_str(), kUsage);
  return kFailed;
}

}  // namespace

int run_do(const std::vector<std::string_view>& words) {
  using Kind = guest::SandboxMount::Kind;
  guest::SandboxRequest request;
  request.read_only = true;
  request.host_name = "guest";
  request.domain_name = "(none)";
  request.mounts = {{.kind = Kind::kProc, .path = "/proc"},
                    {.kind = Kind::kSysfs, .path = "/sys"},
                    {.kind = Kind::kDev, .path = "/dev"},
                    {.kind = Kind::kDevPts, .path = "/dev/pts"},
                    {.kind = Kind::kTmpfs, .path = "/dev/shm", .mode = 01777},
                    {.kind = Kind::kTmpfs, .path = "/tmp", .mode = 01777}};
  bool root_given = false;
  std::string pids;
  std::string network;
  bool keep_read_only = false;
  size_t at = 0;
  for (; at < words.size(); ++at) {
    const std::string_view word = words[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word.empty() || word[0] != '-') break;
    if (word == "--help" || word == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    }
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
      value = &request.program.working_directory;
    } else if (word == "--hostname") {
      value = &request.host_name;
    } else if (word == "--pids") {
      value = &pids;
    } else if (word == "--network") {
      value = &network;
    } else if (word == "--log") {
      value = &request.log;
    } else if (word == "--env") {
      value = &request.program.environment.emplace_back();
    } else {
      return complain("do: '" + std::string(word) + "': no such option");
    }
    if (at + 1 == words.size())
      return complain("do: " + std::string(word) + ": expected a value behind it");
    *value = words[++at];
    if (word == "--env" && value->find('=') == std::string::npos)
      return complain("do: --env '" + *value + "': expected NAME=VALUE");
    if (word == "--pids") {
      const auto [end, error] =
          std::from_chars(pids.data(), pids.data() + pids.size(), request.max_tasks);
      if (error != std::errc() || end != pids.data() + pids.size() || request.max_tasks == 0 ||
          request.max_tasks > 30000)
        return complain("do: --pids '" + pids + "': expected 1 to 30000");
    }
    if (word == "--network") {
      if (network != "none" && network != "host")
        return complain("do: --network '" + network + "': expected none or host");
      request.network =
          network == "host" ? guest::SandboxNetwork::kHost : guest::SandboxNetwork::kNone;
    }
    if (word == "--hostname" && (value->empty() || value->size() > 64))
      return complain("do: --hostname '" + *value + "': expected 1 to 64 characters");
  }
  request.program.arguments.assign(
      words.begin() + static_cast<ptrdiff_t>(std::min(at, words.size())), words.end());
  if (request.program.arguments.empty()) return complain("do: no program: expected its path");
  request.read_only = keep_read_only || !root_given;
  if (request.program.environment.empty()) {
    const char* terminal = std::getenv("TERM");
    request.program.environment = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
        std::string("TERM=") + (terminal ? terminal : "dumb")};
  }
  const auto done = guest::run_sandbox(request);
  if (!done.ok()) {
    std::fprintf(stderr, "rung: %s\n", done.error().message().c_str());
    return kFailed;
  }
  const int status = done.value();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace fluyt::rung
