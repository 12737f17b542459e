#include "host/check.h"

#include <signal.h>

#include "host/probe.h"

namespace fluyt::host {

namespace {

// A folder of ours on the disk, or a cgroup, is removed before a signal ends us.
class SignalsWait {
 public:
  SignalsWait() {
    sigset_t ending;
    sigemptyset(&ending);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&ending, signal);
    ::sigprocmask(SIG_BLOCK, &ending, &before_);
  }
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;
  ~SignalsWait() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

}  // namespace

std::string_view word_of(Has has) {
  switch (has) {
    case Has::kYes:
      return "yes";
    case Has::kPartly:
      return "partly";
    case Has::kNo:
      break;
  }
  return "no";
}

std::vector<Ability> examine_host(const Options& options) {
  const SignalsWait until_done;
  std::vector<Ability> all;
  examine_processes({"processes", all});
  examine_cgroups(options, {"cgroups", all});
  examine_files(options, {"files", all});
  examine_security({"security", all});
  examine_network(options, {"network", all});
  examine_limits(options, {"limits", all});
  examine_guest({"rung", all});
  return all;
}

std::vector<std::string> missing(const std::vector<Ability>& abilities) {
  std::vector<std::string> names;
  for (const Ability& ability : abilities) {
    if (ability.need == Need::kPods && ability.has == Has::kNo) names.push_back(ability.name);
  }
  return names;
}

}  // namespace fluyt::host
