#include "cmd/fluytd/tracing/tracing.h"

#include <sys/random.h>
#include <sys/utsname.h>

#include <utility>

namespace fluyt::daemon {

namespace {

constexpr int64_t kHandOverMs = 1'000;

// Not all zero, which would be no id.
std::string random_id(size_t bytes) {
  std::string id(bytes, '\0');
  while (true) {
    if (::getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) continue;
    if (id.find_first_not_of('\0') != std::string::npos) return id;
  }
}

std::string host_name() {
  utsname name{};
  return ::uname(&name) == 0 ? name.nodename : "";
}

}  // namespace

Tracing::Tracing(const TracingOptions& options, Logger& logger) : logger_(logger) {
  *open_.lock() = {.options = options, .exporter = make(options)};
  on_ = !options.endpoint.empty();
}

std::shared_ptr<Exporter> Tracing::make(const TracingOptions& options) {
  if (options.endpoint.empty()) return nullptr;
  const SpanSource source{.service_name = options.service_name,
                          .service_version = FLUYT_VERSION,
                          .host_name = host_name()};
  return std::make_shared<Exporter>(options, source, random_id, counts_, logger_);
}

void Tracing::add(TracedCall call) {
  const std::shared_ptr<Exporter> exporter = open_.lock()->exporter;
  if (exporter) exporter->add(std::move(call));
}

std::function<void()> Tracing::prepare(const TracingOptions& options) {
  if (open_.lock()->options == options) return [] {};
  return [this, options, next = make(options)] {
    // The one before ends with this scope, not under the lock.
    const Open before = std::exchange(*open_.lock(), Open{.options = options, .exporter = next});
    on_ = next != nullptr;
    if (before.exporter) before.exporter->stop(Deadline::after_ms(kHandOverMs));
  };
}

void Tracing::stop(Deadline deadline) {
  on_ = false;
  const Open last = std::exchange(*open_.lock(), {});
  if (last.exporter) last.exporter->stop(deadline);
}

}  // namespace fluyt::daemon
