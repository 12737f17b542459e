#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

namespace fluyt::oci {

/// A normalised image name (Docker's rules, which CRI clients use): a missing registry is
/// docker.io, a bare name there gets "library/", a missing tag and digest give the tag "latest".
/// "busybox" is docker.io/library/busybox:latest. At most 255 characters of host and repository,
/// 128 of tag; anything else is kInvalidArgument naming the part.
struct Reference {
  std::string registry;    // host[:port], such as "docker.io", "127.0.0.1:5000", "[::1]:5000"
  std::string repository;  // path within it, such as "library/busybox"
  std::string tag;         // empty when only a digest was given
  std::optional<Digest> digest;

  static Result<Reference> parse(std::string_view text);
  /// registry/repository, without tag or digest.
  std::string name() const;
  /// registry/repository[:tag][@digest].
  std::string text() const;
  /// What a registry is asked for: the digest when there is one, else the tag.
  std::string target() const;
  /// As Docker shows it: docker.io/library/ left out.
  std::string familiar() const;
  bool operator==(const Reference&) const = default;
};

}  // namespace fluyt::oci
