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
/// Reads it anew: a policy is loaded and another one taken while we run. What cannot be read, and
/// contexts that are none, are an error: that a host should have no labels is for its policy to
/// say.
Result<SelinuxHost> selinux_of(const Options& options);

/// `label` as the kernel writes it, and as files have it: "s0:c2,c1" is "s0:c1,c2".
/// kInvalidArgument when the loaded policy does not know it.
Result<std::string> canonical_label(const SelinuxPlaces& places, const std::string& label);

/// Gives a pod that is to be made its labels, where the host has such and the options want them:
/// with a level that no other pod has, or what its caller chose. kInvalidArgument names the field.
/// A policy that knows no containers is told to `logger`, a pod at a time.
Result<McsLevels::Hold> label_sandbox(const Options& options, McsLevels& levels, Logger& logger,
                                      Sandbox& sandbox);
/// The pod's labels as they are on record; none: it has none.
std::optional<spec::SelinuxLabels> labels_of(const Sandbox& sandbox);
/// The level of the files of a pod or a container, from its label; without one: of nobody.
McsLevels::Hold hold_level(McsLevels& levels, const std::string& file_label);

}  // namespace fluyt::engine
