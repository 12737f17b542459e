#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "host/check.h"

namespace fluyt::host {

/// Tries something out: what was found, in a few words, or why it does not work.
using Probe = std::function<Result<std::string>()>;

/// Runs `probe` in a child: whatever it does to itself goes with it, and one that crashes or hangs
/// (10 s) is an error like others. Of an error the code and the message come back.
Result<std::string> in_child(const Probe& probe);

/// The abilities of one group while they are being found out.
class Findings {
 public:
  Findings(std::string group, std::vector<Ability>& all) : group_(std::move(group)), all_(all) {}

  /// What an ability is about, before it is known.
  struct About {
    std::string name;
    Need need = Need::kSome;
    std::string loses;
    std::string remedy;
  };
  /// `tried`'s text with kYes, or its error with kNo. A caller without root's rights who was
  /// refused is told that, for it says nothing about the host.
  void add(About about, const Result<std::string>& tried);
  void add(About about, Has has, std::string found);
  /// The same for what is tried in a child.
  void try_out(About about, const Probe& probe) { add(std::move(about), in_child(probe)); }

 private:
  std::string group_;
  std::vector<Ability>& all_;
};

// One file each.
void examine_processes(Findings findings);
void examine_cgroups(const Options& options, Findings findings);
void examine_files(const Options& options, Findings findings);
void examine_security(Findings findings);
void examine_network(const Options& options, Findings findings);
void examine_limits(const Options& options, Findings findings);
void examine_guest(Findings findings);

}  // namespace fluyt::host
