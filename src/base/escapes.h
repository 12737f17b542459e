#pragma once

#include <string>
#include <string_view>

namespace fluyt {

/// Three octal digits behind a backslash are a byte, as in the fields of mountinfo, where "\040" is
/// a space (proc_pid_mountinfo(5)). What is none stays as it is.
std::string undo_octal_escapes(std::string_view text);

}  // namespace fluyt
