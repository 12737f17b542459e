#include "cmd/fluyt/early_signals.h"

#include <unistd.h>

namespace fluyt::cli {

EarlySignals::EarlySignals(Input& input) : input_(input), thread_([this] { run(); }) {}

void EarlySignals::run() {
  while (true) {
    const InputEvent event = input_.next_signal();
    if (event.kind == InputEvent::Kind::kStopped) return;
    if (event.kind != InputEvent::Kind::kSignal) continue;
    // Without a word and without destructors, as the signal itself would do it. The terminal is not
    // raw yet, and fluytd undoes what its caller leaves.
    if (!noting_) ::_exit(128 + event.signal);
    noted_ = event.signal;
  }
}

void EarlySignals::stop() {
  if (!thread_.joinable()) return;
  input_.stop();
  thread_.join();
  input_.resume();
}

}  // namespace fluyt::cli
