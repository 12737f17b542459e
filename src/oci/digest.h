#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::oci {

/// A content digest such as "sha256:0a…" (image-spec descriptor.md, "Digests"). Only sha256 and
/// sha512 can be made: other registered algorithms are kInvalidArgument, by name.
class Digest {
 public:
  static Result<Digest> parse(std::string_view text);
  /// "sha256" over lower-case `hex` that the caller has computed.
  static Digest from_sha256_hex(std::string_view hex);

  std::string_view algorithm() const;
  std::string_view hex() const;
  const std::string& text() const { return text_; }
  auto operator<=>(const Digest&) const = default;

 private:
  explicit Digest(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace fluyt::oci
