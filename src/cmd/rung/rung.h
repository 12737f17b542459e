#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "guest/sandbox/sandbox.h"
#include "oci/runtime_spec.h"

namespace fluyt::rung {

/// `rung do`: one program, as the caller's child and on its terminal. Its exit status.
int run_do(const std::vector<std::string_view>& words);

/// What rung starts in a container: the guest kernel or its member, and who keeps each program that
/// is executed later. Words are descriptors' numbers, as launcher.cc gives them. They do not
/// return.
inline constexpr std::string_view kSentry = "sentry";
inline constexpr std::string_view kKeeper = "keeper";
/// In place of the guest kernel where another container's runs the program.
inline constexpr std::string_view kMember = "member";
[[noreturn]] void run_sentry(const std::vector<std::string_view>& words);
[[noreturn]] void run_keeper(const std::vector<std::string_view>& words);
[[noreturn]] void run_member(const std::vector<std::string_view>& words);

/// A descriptor's number, or -1 for none. What is no number ends the process.
int descriptor_of(std::string_view word);

/// The specification of the container that the guest kernel itself lives in: namespaces, mounts of
/// the host's, cgroup and hooks are as asked; the identity is the guest kernel's, and what the
/// guest has of its own (proc, sysfs, dev, limits, seccomp) is not there.
struct OuterSpec {
  oci::Spec spec;
  std::vector<size_t> mount_places;  // of its mounts in the specification's
};
OuterSpec outer_spec(const oci::Spec& spec);
/// The other half: what the guest kernel does.
Result<guest::SandboxRequest> sandbox_of(const oci::Spec& spec);
/// `filter`: linux.seccomp, for programs too that are executed later.
Result<guest::ProgramRequest> program_of(const oci::Process& process,
                                         const std::optional<oci::Seccomp>& filter);
/// What of the specification is left out, a sentence each.
std::vector<std::string> left_out(const oci::Spec& spec);

/// How many processes the host's cgroup may have where the guest may have `guest_limit`: each of
/// the guest's has a thread of the guest kernel too, and a helper and a spawner.
int64_t host_pids(int64_t guest_limit);

}  // namespace fluyt::rung
