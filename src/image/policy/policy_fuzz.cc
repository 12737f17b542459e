#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/policy/lookaside.h"
#include "image/policy/payload.h"
#include "image/policy/policy.h"

// Any text is parsed, or refused with an error that names the file; what was parsed has its keys.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fluyt::image::policy;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = parse_policy(text, "policy.json");
  if (!policy.ok()) {
    if (!policy.error().message().starts_with("policy.json")) __builtin_trap();
  } else {
    const auto reference = fluyt::oci::Reference::parse("registry.example:5000/team/app:v1");
    const Scope scope = scope_for(*policy, *reference);
    if (scope.requirements->empty()) __builtin_trap();
    for (const Requirement& one : *scope.requirements) {
      const bool wants_keys = one.kind == Requirement::Kind::kSignedBy ||
                              one.kind == Requirement::Kind::kSigstoreSigned;
      if (wants_keys && one.key_files.empty() && one.key_data.empty()) __builtin_trap();
      static_cast<void>(identity_matches(one.identity, *reference, text));
    }
  }
  Lookaside lookaside;
  read_lookaside(text, "x.yaml", lookaside).ignore("only that it ends well");
  parse_payload(text, PayloadType::kCosign).ignore("only that it ends well");
  return 0;
}
