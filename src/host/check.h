#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// What this host can do for fluyt, found out by doing it: nothing is concluded from a version.
/// Each probe is a child process with namespaces of its own where it changes anything, so that
/// nothing is left behind.
namespace fluyt::host {

enum class Has { kYes, kPartly, kNo };
std::string_view word_of(Has has);

enum class Need {
  kPods,  // without it no pod runs
  kSome,  // for what not every pod asks for
};

struct Ability {
  std::string group;  // "processes"
  std::string name;   // "clone3"
  Need need = Need::kSome;
  Has has = Has::kNo;
  std::string found;   // what was seen, or the call that was refused and how
  std::string loses;   // what will not work; empty with kYes
  std::string remedy;  // what to do about it; empty where there is nothing, and with kYes
  bool operator==(const Ability&) const = default;
};

/// What of fluytd's configuration bears on it.
struct Options {
  std::string root = "/var/lib/fluyt";
  std::string cni_conf_dir = "/etc/cni/net.d";
  std::vector<std::string> cni_bin_dirs = {"/opt/cni/bin", "/usr/lib/cni"};
  bool network_builtin = true;  // network.builtin
  bool systemd_driver = false;  // cgroup.driver = "systemd"
  bool erofs_layers = false;    // image.layer_form = "erofs"
  bool copied_roots = false;    // image.root_driver = "copy"
  size_t pods = 300;            // that limits are held against
  std::string proc = "/proc";   // where limits are read; another one in tests
};

/// Every ability, group by group, in the order in which a person reads them. For programs of one
/// thread; takes a second at most where nothing hangs. Signals that end a program wait meanwhile.
std::vector<Ability> examine_host(const Options& options);

/// The names of what pods need and is not there.
std::vector<std::string> missing(const std::vector<Ability>& abilities);

}  // namespace fluyt::host
