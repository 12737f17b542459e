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
  /// The same for the keys of a file of Docker's, which may write one place in several ways: then
  /// that which `docker login` writes for Docker Hub wins, before a key without scheme and path.
  Result<> add_or_prefer(std::string_view key, Credentials credentials);
  /// Those with the longest key that fits; null when there are none.
  const Credentials* find(std::string_view registry, std::string_view repository) const;
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Credentials credentials;
    int rank = 0;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace fluyt::image
