#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fluyt::engine {

/// The handler that is always there: the runtime that the monitor links.
inline constexpr std::string_view kLinkedHandler = "runf";
/// The one whose containers run on a guest kernel: rung, by its command line.
inline constexpr std::string_view kGuestHandler = "guest";

/// A runtime that a RuntimeClass can choose: a program with runc's command line.
struct RuntimeHandler {
  std::string name;
  std::string path;                  // of the program
  std::vector<std::string> options;  // global ones of its own, in front of the command
  /// The folder of its states; empty: one in each sandbox's own folder.
  std::string root;
  /// A privileged container gets no device of the host but those it asks for.
  bool privileged_without_host_devices = false;
  /// Annotations of pods and containers that go into its specifications: names, or starts of names
  /// with a '*' behind. A program may do what an annotation says, so that none is passed unasked.
  std::vector<std::string> annotations;
  /// Its pods have a container of their own, by annotations the sandbox of the others. Nothing:
  /// where the program's features say so (oci::kSandboxContainerFeature).
  std::optional<bool> sandbox_container;
  bool operator==(const RuntimeHandler&) const = default;
};

/// A handler's name as Kubernetes has them: a DNS label, which "runf" is and which is not taken.
Result<> check_handler_name(std::string_view name);
/// Absolute paths, options that are not ours to give, names of annotations: what can be said
/// without looking at the disk. Errors name the field.
Result<> check_handler(const RuntimeHandler& handler);
bool passes_annotation(const RuntimeHandler& handler, std::string_view name);

}  // namespace fluyt::engine
