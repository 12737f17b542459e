#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace fluyt {

namespace internal {
inline void append_piece(std::string& out, std::string_view piece) { out += piece; }
inline void append_piece(std::string& out, const char* piece) { out += piece; }
inline void append_piece(std::string& out, const std::string& piece) { out += piece; }
inline void append_piece(std::string& out, char piece) { out += piece; }
template <std::integral T>
void append_piece(std::string& out, T piece) {
  out += std::to_string(piece);
}
}  // namespace internal

/// Joins its arguments (text, characters, integers) into one string.
template <class... Pieces>
std::string cat(const Pieces&... pieces) {
  std::string out;
  (internal::append_piece(out, pieces), ...);
  return out;
}

/// The pieces between separators. "a,,b" gives three; "" gives one empty piece.
std::vector<std::string_view> split(std::string_view text, char separator);
/// The pieces between runs of spaces and tabs; none of them is empty.
std::vector<std::string_view> split_words(std::string_view text);
std::string join(const std::vector<std::string>& pieces, std::string_view separator);
/// Without white space (space, tab, CR, LF) at either end.
std::string_view trim(std::string_view text);
std::string to_lower(std::string_view text);
/// For messages: within double quotes, control characters and bytes that are not UTF-8 escaped, cut
/// after `limit` bytes. What a container or a registry wrote goes through this before it is shown.
std::string quote(std::string_view text, size_t limit = 256);
bool has_control_characters(std::string_view text);
bool is_utf8(std::string_view text);
/// Lower-case hexadecimal.
std::string to_hex(std::string_view bytes);

/// A whole decimal number and nothing else: no sign for unsigned types, no spaces, no leading '+',
/// nothing behind it, within the type's range.
template <std::integral T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    return std::nullopt;
  }
  return value;
}

}  // namespace fluyt
