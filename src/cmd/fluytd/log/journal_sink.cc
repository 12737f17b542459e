#include "cmd/fluytd/log/journal_sink.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/socket.h>
#include <syslog.h>

#include <array>
#include <cerrno>
#include <mutex>

#include "base/strings.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

/// Well below what a datagram may have (net.core.wmem_default): the rest of a longer line is cut.
constexpr size_t kMaxMessage = 48UL << 10U;

int priority_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return LOG_DEBUG;
    case spdlog::level::info:
      return LOG_INFO;
    case spdlog::level::warn:
      return LOG_WARNING;
    default:
      return LOG_ERR;
  }
}

class JournalSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  JournalSink(std::string path, sys::Fd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view text(message.payload.data(), message.payload.size());
    const std::string entry = journal_entry(priority_of(message.level), text);
    if (send(entry)) return;
    // journald was started again, most likely: its socket has another address behind the name.
    auto again = sys::connect_unix(path_, SOCK_DGRAM);
    if (again.ok()) {
      socket_ = std::move(*again);
      if (send(entry)) return;
    }
    throw spdlog::spdlog_ex("journald does not take it");
  }
  void flush_() override {}

 private:
  /// A journal that is full or stopped must not stop us.
  bool send(const std::string& entry) {
    return ::send(socket_.raw(), entry.data(), entry.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }

  const std::string path_;
  sys::Fd socket_;
};

/// NAME=VALUE, or where the value has several lines its length in front.
void add_field(std::string& entry, std::string_view name, std::string_view value) {
  if (value.find('\n') == std::string_view::npos) {
    entry += cat(name, "=", value, "\n");
    return;
  }
  entry += cat(name, "\n");
  for (size_t i = 0; i < sizeof(uint64_t); ++i) {
    entry += static_cast<char>((uint64_t{value.size()} >> (8 * i)) & 0xffU);
  }
  entry += cat(value, "\n");
}

}  // namespace

std::string journal_entry(int priority, std::string_view message) {
  std::string entry;
  add_field(entry, "PRIORITY", std::to_string(priority));
  add_field(entry, "SYSLOG_IDENTIFIER", "fluytd");
  add_field(entry, "FLUYT_VERSION", FLUYT_VERSION);
  add_field(entry, "MESSAGE", message.substr(0, kMaxMessage));
  return entry;
}

Result<spdlog::sink_ptr> make_journal_sink(const std::string& socket) {
  auto connected = FLUYT_TRY(sys::connect_unix(socket, SOCK_DGRAM));
  return spdlog::sink_ptr(std::make_shared<JournalSink>(socket, std::move(connected)));
}

}  // namespace fluyt::daemon
