#include "oci/digest.h"

#include <algorithm>

#include "base/strings.h"

namespace fluyt::oci {
namespace {

struct Algorithm {
  std::string_view name;
  size_t hex_digits;
};
constexpr Algorithm kAlgorithms[] = {{"sha256", 64}, {"sha512", 128}};

bool is_lower_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

Error wrong(std::string_view text, std::string_view expected) {
  return {Code::kInvalidArgument, cat("digest ", quote(text), ": expected ", expected)};
}

}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return wrong(text, "<algorithm>:<hex digits>");
  }
  const std::string_view name = text.substr(0, colon);
  const std::string_view hex = text.substr(colon + 1);
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name != name) {
      continue;
    }
    if (hex.size() != algorithm.hex_digits || !is_lower_hex(hex)) {
      return wrong(text, cat(algorithm.hex_digits, " lower-case hexadecimal digits after ", name));
    }
    return Digest(std::string(text));
  }
  return wrong(text, cat("the algorithm sha256 or sha512, not ", quote(name)));
}

Digest Digest::from_sha256_hex(std::string_view hex) { return Digest(cat("sha256:", hex)); }

std::string_view Digest::algorithm() const {
  return std::string_view(text_).substr(0, text_.find(':'));
}

std::string_view Digest::hex() const { return std::string_view(text_).substr(text_.find(':') + 1); }

}  // namespace fluyt::oci
