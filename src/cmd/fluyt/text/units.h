#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::cli {

/// Sizes of images and downloads, in powers of 1000 and three digits: "0B", "4.26MB", "219MB".
std::string human_size(uint64_t bytes);
/// Sizes of memory, in powers of 1024: "768KiB", "1.50GiB".
std::string human_memory(uint64_t bytes);
/// "4 minutes ago"; "" for a time that is 0.
std::string ago(int64_t unix_ns, int64_t now_ns);
/// The 12 digits that people read, without "sha256:".
std::string short_id(std::string_view id);

/// "512m", "1g", "64k", "100" (bytes), in powers of 1024, with or without b or iB behind.
Result<uint64_t> parse_size(std::string_view text);
/// "1.5" CPUs as microseconds of each 100 ms.
inline constexpr int64_t kCpuPeriodUs = 100'000;
Result<int64_t> parse_cpus(std::string_view text);
/// "90s", "10m", "1h30m", "2d" in nanoseconds.
Result<int64_t> parse_duration(std::string_view text);
/// A duration back from now, or a time in RFC 3339, as unix nanoseconds.
Result<int64_t> parse_since(std::string_view text, int64_t now_ns);

}  // namespace fluyt::cli
