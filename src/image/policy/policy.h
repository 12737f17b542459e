#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/reference.h"

/// Which images may be had: containers' policy.json (containers-policy.json(5)) as a value.
namespace fluyt::image::policy {

/// What name a signature must speak of, compared with the one that was asked for.
struct SignedIdentity {
  enum class Kind {
    kMatchExact,
    kMatchRepoDigestOrExact,  // by tag the same name; by digest the same repository
    kMatchRepository,
    kExactReference,   // the name given here
    kExactRepository,  // the repository given here
    kRemapIdentity,    // `prefix` of the name replaced, then as kMatchRepoDigestOrExact
  } kind = Kind::kMatchRepoDigestOrExact;
  std::string name;           // of the two kExact…
  std::string prefix;         // of kRemapIdentity
  std::string signed_prefix;  // of kRemapIdentity
};

/// One condition. All those of a scope have to hold.
struct Requirement {
  enum class Kind { kAccept, kReject, kSignedBy, kSigstoreSigned } kind = Kind::kReject;
  std::vector<std::string> key_files;  // of the two that want signatures: files, or
  std::vector<std::string> key_data;   // the keys themselves
  SignedIdentity identity;
};
/// As policy.json calls it.
std::string_view name_of(Requirement::Kind kind);

struct Policy {
  std::vector<Requirement> fallback;                       // "default"
  std::map<std::string, std::vector<Requirement>> docker;  // transports.docker, by scope
};

inline constexpr size_t kMaxPolicyBytes = 1UL << 20U;

/// Parses a policy.json. `file` names it in errors. What is not known, a type, a field or a value,
/// is kInvalidArgument by name: a condition that is passed over lets everything in. Scopes of other
/// transports are checked and dropped, since nothing of ours is pulled by them.
Result<Policy> parse_policy(std::string_view text, const std::string& file);

/// What holds for one name: the most specific scope there is, of the tag or digest, the repository,
/// the namespaces above it, the host, "*." and a domain above it, "" and the default.
struct Scope {
  std::string place;  // "default" or transports.docker["…"]
  const std::vector<Requirement>* requirements = nullptr;
};
Scope scope_for(const Policy& policy, const oci::Reference& reference);

/// Whether a signature that says it is for `signed_name` may stand for `asked`.
bool identity_matches(const SignedIdentity& rule, const oci::Reference& asked,
                      std::string_view signed_name);

}  // namespace fluyt::image::policy
