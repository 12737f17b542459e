#include "image/layer/tar_number.h"

#include "base/strings.h"

namespace fluyt::image {

namespace {

std::optional<int64_t> parse_base256(std::string_view field) {
  const bool negative = (static_cast<unsigned char>(field[0]) & 0x40U) != 0;
  const unsigned flip = negative ? 0xFFU : 0;
  uint64_t value = 0;
  for (size_t i = 0; i < field.size(); ++i) {
    unsigned byte = static_cast<unsigned char>(field[i]) ^ flip;
    if (i == 0) byte &= 0x7FU;  // the marker bit is no part of the number
    if (value >> 56U != 0) return std::nullopt;
    value = value << 8U | byte;
  }
  if (value > INT64_MAX) return std::nullopt;
  return negative ? ~static_cast<int64_t>(value) : static_cast<int64_t>(value);
}

bool is_filler(char c) { return c == ' ' || c == '\0'; }

}  // namespace

std::optional<int64_t> parse_tar_number(std::string_view field) {
  if (field.empty()) return 0;
  if ((static_cast<unsigned char>(field[0]) & 0x80U) != 0) return parse_base256(field);
  while (!field.empty() && is_filler(field.front())) field.remove_prefix(1);
  while (!field.empty() && is_filler(field.back())) field.remove_suffix(1);
  field = tar_text(field);
  int64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7' || value > INT64_MAX >> 3U) return std::nullopt;
    value = value << 3U | (c - '0');
  }
  return value;
}

std::string_view tar_text(std::string_view field) { return field.substr(0, field.find('\0')); }

std::optional<TarTime> parse_pax_time(std::string_view text) {
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  const auto seconds = parse_number<int64_t>(whole);
  if (!seconds) return std::nullopt;
  uint32_t nanoseconds = 0;
  if (dot != std::string_view::npos) {
    const std::string_view fraction = text.substr(dot + 1);
    if (fraction.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    for (size_t i = 0; i < 9; ++i) {
      nanoseconds =
          nanoseconds * 10 + (i < fraction.size() ? static_cast<uint32_t>(fraction[i] - '0') : 0);
    }
  }
  // "-1.25" is a quarter of a second before -1: count forward from -2.
  if (whole.starts_with('-') && nanoseconds != 0) {
    if (*seconds == INT64_MIN) return std::nullopt;
    return TarTime{*seconds - 1, 1'000'000'000U - nanoseconds};
  }
  return TarTime{*seconds, nanoseconds};
}

}  // namespace fluyt::image
