#pragma once

#include "cmd/runtime/commands.h"

namespace fluyt::rung {

/// Containers on a guest kernel: each is a container of the runtime library's that runs the guest
/// kernel, which holds its files, runs its program and lets in those that are executed later.
class Rung final : public commands::Launcher {
 public:
  std::string_view name() const override { return "rung"; }
  // No program of the container sees a process of ours.
  bool shows_itself() const override { return false; }
  bool reaches_host_sockets() const override { return false; }
  std::span<const commands::Command> commands() const override;
  std::vector<commands::Option> options() override;
  Result<> check(const oci::Spec& spec) const override;
  // A member's programs descend from a process of its sandbox's.
  bool ends_with_init(const oci::Spec& /*spec*/) const override { return false; }
  Result<runtime::Created> create(runtime::CreateRequest& request,
                                  const std::string& folder) const override;
  Result<runtime::Executed> exec(runtime::ExecRequest& request,
                                 const std::string& folder) const override;
  Result<> update(oci::Resources& resources, const std::string& folder) const override;
  Result<> pause(const commands::Folder& folder,
                 const runtime::CgroupRecord& cgroup) const override;
  Result<> resume(const commands::Folder& folder,
                  const runtime::CgroupRecord& cgroup) const override;
  Result<bool> signal_all(const commands::Folder& folder, int signal) const override;
  Result<std::optional<std::string>> show_processes(
      const commands::Folder& folder, const std::vector<std::string>& options) const override;
  void describe(nlohmann::ordered_json& features) const override;

 private:
  std::string strace_;
  std::string unsupported_;
};

}  // namespace fluyt::rung
