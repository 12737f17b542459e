#include "base/escapes.h"

#include <cstdint>

#include "base/strings.h"

namespace fluyt {

std::string undo_octal_escapes(std::string_view text) {
  constexpr size_t kDigits = 3;
  std::string out;
  for (size_t at = 0; at < text.size(); ++at) {
    const std::string_view digits = text.substr(at + 1, kDigits);
    const auto byte = text[at] == '\\' && digits.size() == kDigits
                          ? parse_number<uint8_t>(digits, 8)
                          : std::nullopt;
    out += byte ? static_cast<char>(*byte) : text[at];
    if (byte) at += kDigits;
  }
  return out;
}

}  // namespace fluyt
