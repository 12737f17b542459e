#pragma once

#include <spdlog/sinks/sink.h>

#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::daemon {

/// Lines as entries of systemd's journal, by its native protocol
/// (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram each, with PRIORITY as syslog(3) has it. The
/// socket is connected to anew when journald was started again. kUnavailable where none listens.
Result<spdlog::sink_ptr> make_journal_sink(const std::string& socket);

/// The datagram of one entry. `priority` is 0 to 7.
std::string journal_entry(int priority, std::string_view message);

}  // namespace fluyt::daemon
