#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace fluyt::monitor {

/// How much of a program's log is read, from its end.
inline constexpr size_t kMaxLogTailBytes = 64UL << 10U;
inline constexpr size_t kMaxLogWordsBytes = 4UL << 10U;

/// Why a program failed, in its own words: the message of the last object of its log ("level" and
/// "msg", on one line or over several) that is an error, else the last line whatever it is. Empty
/// when it has said nothing. At most kMaxLogWordsBytes, without control characters: a program
/// repeats what a container's image says.
std::string last_words(std::string_view log);

}  // namespace fluyt::monitor
