#pragma once

#include <atomic>
#include <thread>

#include "cmd/fluyt/terminal.h"

namespace fluyt::cli {

/// Stands in for the usual effect of INT, TERM, HUP and QUIT while an Input has them blocked and no
/// session listens to it yet: the program ends. From note() on it only notes them, for whoever has
/// something to clean up.
class EarlySignals {
 public:
  explicit EarlySignals(Input& input);
  EarlySignals(const EarlySignals&) = delete;
  EarlySignals& operator=(const EarlySignals&) = delete;
  ~EarlySignals() { stop(); }

  void note() { noting_ = true; }
  /// The signal that came since note(), or 0.
  int noted() const { return noted_; }
  /// The input is somebody else's from here.
  void stop();

 private:
  void run();
  Input& input_;
  std::atomic<bool> noting_ = false;
  std::atomic<int> noted_ = 0;
  std::thread thread_;
};

}  // namespace fluyt::cli
