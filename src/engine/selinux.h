#pragma once

#include <string>

#include "base/result.h"
#include "engine/core.h"
#include "spec/selinux.h"

/// SELinux as this host has it now, and the labels of pods.
namespace fluyt::engine {

struct SelinuxHost {
  bool enabled = false;            // enforcing or permissive, and its policy knows containers
  std::string lacks;               // why there are no labels on a host that has SELinux; else empty
  spec::SelinuxLabels containers;  // what the policy has for them
};
/// Reads it anew: a policy is loaded and another one taken while we run.
SelinuxHost selinux_of(const Options& options);

/// kInvalidArgument when the loaded policy does not know `label`.
Result<> check_selinux_label(const SelinuxPlaces& places, const std::string& label);

/// Gives a pod that is to be made its labels, where the host has such and the options want them:
/// with a level that no other pod has, or what its caller chose. kInvalidArgument names the field.
Result<McsLevels::Hold> label_sandbox(const Options& options, McsLevels& levels, Sandbox& sandbox);
/// The pod's labels as they are on record; none: it has none.
std::optional<spec::SelinuxLabels> labels_of(const Sandbox& sandbox);
/// The level that a recorded pod has.
McsLevels::Hold hold_level(McsLevels& levels, const Sandbox& sandbox);

}  // namespace fluyt::engine
