#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fluyt::image::registry {

/// One challenge of a WWW-Authenticate header (RFC 9110 §11.6.1). Names are in lower case.
struct Challenge {
  std::string scheme;                                       // "bearer", "basic", ...
  std::vector<std::pair<std::string, std::string>> params;  // in order, each name once
  std::string token68;  // instead of params, for schemes like that

  /// The value of a parameter, or "" when it is not there.
  std::string_view param(std::string_view name) const;
  bool operator==(const Challenge&) const = default;
};

/// At most this much of one header is read, and so many challenges of it.
inline constexpr size_t kMaxChallengeBytes = 16384;
inline constexpr size_t kMaxChallenges = 16;

/// All challenges of one header value, in order. Commas separate both parameters and challenges; in
/// quoted strings they are text (a registry's scope is "repository:x:pull,push"). A broken header
/// is kInvalidArgument with the position.
Result<std::vector<Challenge>> parse_www_authenticate(std::string_view header);

}  // namespace fluyt::image::registry
