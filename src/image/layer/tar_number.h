#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fluyt::image {

/// A number field of a tar header: octal with spaces or NULs around it, or base-256 when the top
/// bit of the first byte is set (GNU; two's complement). Empty is 0. Nothing when it is neither, or
/// does not fit.
std::optional<int64_t> parse_tar_number(std::string_view field);

/// The text of a header field: up to its first NUL.
std::string_view tar_text(std::string_view field);

struct TarTime {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;  // always forward from `seconds`
};
/// A PAX time: decimal seconds with a sign and a fraction, cut to nanoseconds.
std::optional<TarTime> parse_pax_time(std::string_view text);

}  // namespace fluyt::image
