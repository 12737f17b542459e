#include <unistd.h>

#include <array>

#include "cmd/runtime/commands.h"
#include "runtime/cgroup/cgroup.h"

namespace fluyt::commands {

Result<int> checkpoint(Invocation& call);
Result<int> restore(Invocation& call);

namespace {

constexpr std::array kMore = std::to_array<Command>({
    {"checkpoint", checkpoint, 1, "write a running container to an archive"},
    {"restore", restore, 1, "make a container from an archive"},
});

/// Containers on the host's kernel.
class Runf final : public Launcher {
 public:
  std::string_view name() const override { return "runf"; }
  bool shows_itself() const override { return true; }
  std::span<const Command> commands() const override { return kMore; }
  Result<> check(const oci::Spec& /*spec*/) const override { return {}; }
  bool ends_with_init(const oci::Spec& spec) const override {
    if (!spec.linux_) return false;
    for (const oci::Namespace& space : spec.linux_->namespaces) {
      if (space.type == oci::NamespaceType::kPid) return space.path.empty();
    }
    return false;
  }
  Result<runtime::Created> create(runtime::CreateRequest& request,
                                  const std::string& /*folder*/) const override {
    return runtime::create(request);
  }
  Result<runtime::Executed> exec(runtime::ExecRequest& request,
                                 const std::string& /*folder*/) const override {
    return runtime::exec(request);
  }
  Result<> update(oci::Resources& /*resources*/, const std::string& /*folder*/) const override {
    return {};
  }
  Result<> pause(const Folder& /*folder*/, const runtime::CgroupRecord& cgroup) const override {
    return runtime::cgroup::freeze(cgroup, Deadline::after_ms(10'000));
  }
  Result<> resume(const Folder& /*folder*/, const runtime::CgroupRecord& cgroup) const override {
    return runtime::cgroup::thaw(cgroup);
  }
  void describe(nlohmann::ordered_json& /*features*/) const override {}
};

}  // namespace
}  // namespace fluyt::commands

int main(int argc, char** argv) {
  // All output was written by write(2); there is nothing to flush, and no need to take apart what
  // the end of the process takes away.
  fluyt::commands::Runf runf;
  _exit(fluyt::commands::run_program(argc, argv, runf));
}
