#include "streaming/farewell.h"

#include "sys/file.h"

namespace fluyt::streaming {
namespace {
constexpr int64_t kMomentMs = 2'000;
}

void Farewells::add(std::unique_ptr<engine::ExecSession> session) {
  auto made = std::make_unique<Leaving>();
  Leaving* const leaving = made.get();
  leaving->session = std::move(session);
  leaving_.push_back(std::move(made));
  const auto exit_fd = leaving->session->exit_fd();
  if (exit_fd.ok()) {
    auto copy = sys::duplicate(*exit_fd);
    if (copy.ok()) {
      auto watch = loop_.watch(std::move(*copy));
      if (watch.ok()) leaving->exit = std::move(*watch);
    }
  }
  if (!leaving->exit) return end(leaving);
  leaving->exit->when_readable([this, leaving] { end(leaving); });
  leaving->late = loop_.after(kMomentMs, [this, leaving] { end(leaving); });
}

void Farewells::end_all() {
  while (!leaving_.empty()) end(leaving_.front().get());
}

void Farewells::end(Leaving* leaving) {
  // The session's end kills what still runs.
  workers_.post([session = std::move(leaving->session)]() mutable { session.reset(); });
  leaving_.remove_if([leaving](const auto& entry) { return entry.get() == leaving; });
}

}  // namespace fluyt::streaming
