#pragma once

namespace fluyt::sys {

/// Whether we are root of this machine, or of a container that is like one. Not where a user became
/// root of a user namespace for their own ends: that keeps their USER and XDG_RUNTIME_DIR. Whoever
/// is not has a state folder and a systemd of a user's.
bool is_root_of_machine();

}  // namespace fluyt::sys
