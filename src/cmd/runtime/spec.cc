#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"

namespace fluyt::commands {

namespace {
// A person edits it: one field a line.
std::string pretty(const std::string& json) {
  return nlohmann::ordered_json::parse(json, nullptr, false).dump(1, '\t') + "\n";
}

// On v1 a cgroup namespace hides the container's cgroups from its own tools: there it is left to
// whoever asks for it, as runc does.
void drop_needless(oci::Linux& config) {
  auto host = runtime::cgroup::probe();
  if (!host.ok() || host->legacy.empty()) return;
  std::erase_if(config.namespaces, [](const oci::Namespace& space) {
    return space.type == oci::NamespaceType::kCgroup;
  });
}

}  // namespace

Result<int> spec(Invocation& call) {
  std::string bundle = ".";
  bool rootless = false;
  const auto words =
      FLUYT_TRY(read_words(call,
                           {{"bundle", 'b', &bundle, "folder to write config.json to"},
                            {"rootless", 0, &rootless, "for a caller without privileges"}},
                           "spec [options]", 0, 0));
  if (!words) return 0;
  const std::string path = bundle + "/config.json";
  auto file = sys::open(path, O_WRONLY | O_CREAT | O_EXCL, 0666);
  if (!file.ok() && file.error().code() == Code::kAlreadyExists) {
    return Error(Code::kAlreadyExists, "File config.json exists. Remove it first");
  }
  oci::Spec made = oci::default_spec();
  if (rootless) oci::make_rootless(made, geteuid(), getegid());
  drop_needless(*made.linux_);
  FLUYT_TRY(sys::write_all(FLUYT_TRY(std::move(file)), pretty(oci::to_json(made))));
  return 0;
}

}  // namespace fluyt::commands
