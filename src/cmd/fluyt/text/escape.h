#pragma once

#include <string>
#include <string_view>

namespace fluyt::cli {

/// `text` as a terminal may get it: control characters (C0, DEL, C1), direction overrides and bytes
/// that are not UTF-8 become "\x1b" and the like. For names, messages and everything else that
/// somebody else chose.
std::string printable(std::string_view text);

/// The same for a log line, but tabs and colours (ESC [ numbers m) are left.
std::string printable_log(std::string_view text);

/// Columns that printable text takes: one a character. (Wide and combining characters are counted
/// as one: a table may then be a little ragged, never wrong.)
size_t columns_of(std::string_view text);
/// At most `columns` of it, the last one "…" when something was cut.
std::string fit(std::string_view text, size_t columns);

}  // namespace fluyt::cli
