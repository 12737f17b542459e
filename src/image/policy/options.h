#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

namespace fluyt::image::policy {

/// Programs that decide, in containerd's form: see ask_programs().
struct VerifierPrograms {
  std::string folder;           // empty: none are asked
  int64_t timeout_ms = 10'000;  // of each; then it is killed, and the image refused
  int max_programs = 10;        // the first so many by name; -1: all
};

/// Which digests a name may stand for, by the longest prefix of its repository.
using DigestPins = std::map<std::string, std::vector<oci::Digest>>;
/// One entry of it; `name` is host[:port][/repository], as in a reference.
Result<> add_pin(DigestPins& pins, const std::string& name,
                 const std::vector<std::string>& digests);

/// What a node demands of images. Files are read anew for each pull and each container.
struct VerifyOptions {
  std::string policy_file;    // policy.json; empty: everything is accepted
  std::string policy_folder;  // NAMESPACE.json, in the place of policy_file for that namespace
  std::string lookaside_folder = "/etc/containers/registries.d";
  std::string gpgv_program = "/usr/bin/gpgv";
  VerifierPrograms programs;
  DigestPins pins;
  /// Whether there is anything to ask at all.
  bool is_empty() const {
    return policy_file.empty() && policy_folder.empty() && programs.folder.empty() && pins.empty();
  }
};

}  // namespace fluyt::image::policy
