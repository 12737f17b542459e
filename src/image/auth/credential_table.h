#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/auth/credentials.h"

namespace fluyt::image {

/// Credentials by where they are for: "host[:port][/repository prefix]", or "*.domain" for the
/// hosts below it. A prefix ends at a '/': "team" is not for "team-two".
class CredentialTable {
 public:
  /// `key` may be a URL or one of Docker Hub's many names. A key twice is kInvalidArgument.
  Result<> add(std::string_view key, Credentials credentials);
  /// Those with the longest key that fits; null when there are none.
  const Credentials* find(std::string_view registry, std::string_view repository) const;
  size_t size() const { return entries_.size(); }

 private:
  std::map<std::string, Credentials> entries_;
};

}  // namespace fluyt::image
