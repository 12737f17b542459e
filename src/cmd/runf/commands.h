#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cmd/runf/log.h"
#include "cmd/runf/options.h"

namespace fluyt::runf {

struct Globals {
  std::string program = "runf";  // what we were called
  std::string root;
  bool root_given = false;
  std::string log;
  std::string log_format = "text";
  std::string rootless = "auto";
  bool debug = false;
  bool systemd_cgroup = false;
  std::string cgroup_manager;  // crun's word: cgroupfs, systemd or disabled; empty: cgroupfs
  bool help = false;
  bool version = false;
};

struct Invocation {
  const Globals& globals;
  Log& log;
  std::vector<std::string> words;       // behind the command's name
  const std::vector<std::string>& all;  // as we were called
};

/// Before anything of ours enters a container: sees to it that nothing in there can write to our
/// program file (sys/self.h). Called once files were read and before anything was changed: where it
/// takes another execve(2), we start again.
Result<> protect_program(const Invocation& call);

/// A command's exit status; an Error is logged and is exit status 1 (255 for exec).
using Function = Result<int> (*)(Invocation&);

Result<int> create(Invocation& call);
Result<int> run(Invocation& call);
Result<int> start(Invocation& call);
Result<int> state(Invocation& call);
Result<int> kill(Invocation& call);
Result<int> remove(Invocation& call);
Result<int> exec(Invocation& call);
Result<int> list(Invocation& call);
Result<int> ps(Invocation& call);
Result<int> spec(Invocation& call);
Result<int> pause(Invocation& call);
Result<int> resume(Invocation& call);
Result<int> update(Invocation& call);
Result<int> events(Invocation& call);
Result<int> checkpoint(Invocation& call);
Result<int> restore(Invocation& call);
Result<int> features(Invocation& call);

/// The command's options and its other words, at least `least` and at most `most`; SIZE_MAX when
/// they are another program's, and options end at the first. Nothing: --help was asked for and
/// answered.
Result<std::optional<std::vector<std::string>>> read_words(Invocation& call,
                                                           std::vector<Option> table,
                                                           std::string_view usage, size_t least,
                                                           size_t most);

}  // namespace fluyt::runf
