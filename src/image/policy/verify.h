#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "image/policy/options.h"
#include "image/policy/policy.h"
#include "image/policy/signatures.h"

namespace fluyt::image::policy {

/// An image that is about to be had: fetched, or stood on.
struct Question {
  const oci::Reference& reference;
  oci::Descriptor target;             // what the name points at: manifest or index
  std::optional<oci::Digest> chosen;  // the manifest in that index
  std::string kubernetes_namespace;   // empty: none
};

/// The rules for one name in one Kubernetes namespace, read whole from their files, keys too: what
/// is asked, and what is remembered of the answer, are about the same bytes.
struct Rules {
  std::string file;   // policy.json; empty: there is none
  std::string place;  // in it: Scope::place
  std::vector<Requirement> requirements;
  std::vector<std::string> programs;  // names in VerifierPrograms::folder
  /// Whether an answer takes more than these rules: signatures that are to be fetched, or programs
  /// that are to be run.
  bool wants_proof = false;
  /// SHA-256 of what an image has to prove, not of where that is written: another scope of the same
  /// file, or a file with the same requirements for another namespace, make no difference. Of
  /// programs their names, sizes and times count.
  std::string digest;
};
Result<Rules> read_rules(const VerifyOptions& options, const oci::Reference& reference,
                         const std::string& kubernetes_namespace);

/// What costs nothing: the pins, and rules that refuse everything. Where no proof is wanted this is
/// the whole answer.
Result<> check_at_once(const VerifyOptions& options, const Rules& rules, const Question& question);

/// The requirements and the programs of `rules`, in turn, with signatures from `session`.
/// kPermissionDenied names the file and the rule that refused, and why; trouble on the way to
/// signatures is its own error, and refuses too: of a server that does not let us have them
/// kUnavailable. Programs run until `deadline` (kDeadlineExceeded); for requests it is the
/// session's flag that ends them.
Result<> check_rules(const VerifyOptions& options, const Rules& rules, const Question& question,
                     registry::Session& session, Deadline deadline = Deadline::never());

/// All of the above.
Result<> check_image(const VerifyOptions& options, const Question& question,
                     registry::Session& session, Deadline deadline = Deadline::never());

}  // namespace fluyt::image::policy
