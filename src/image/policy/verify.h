#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/policy/options.h"
#include "image/policy/policy.h"
#include "image/policy/signatures.h"

namespace fluyt::image::policy {

/// A pull that is about to go on from its manifest.
struct Question {
  const oci::Reference& reference;
  oci::Descriptor target;             // what the name points at: manifest or index
  std::optional<oci::Digest> chosen;  // the manifest in that index
  std::string kubernetes_namespace;   // empty: none
};

/// Asks in turn the pins, the policy and the programs. kPermissionDenied names the file and the
/// rule that refused, and why; trouble on the way to signatures is its own error, and refuses too.
Result<> check_image(const VerifyOptions& options, const Question& question,
                     registry::Session& session);

/// The policy alone, with signatures from wherever: for tests.
Result<> check_policy(const VerifyOptions& options, const Question& question,
                      Signatures& signatures);

}  // namespace fluyt::image::policy
