#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "streaming/upgrade.h"

namespace fluyt::streaming {

/// How an exec or attach ended, for its client.
struct Outcome {
  enum class Kind { kSuccess, kExitCode, kError } kind = Kind::kSuccess;
  int32_t exit_code = 0;
  std::string message;  // of kError
};
Outcome exited(int32_t code);
Outcome failed(std::string message);

/// What goes over the error stream: a metav1.Status from v4 on, before that text, and nothing of a
/// success.
std::string outcome_text(const Outcome& outcome, Version version);

struct TerminalSize {
  uint16_t width = 0;
  uint16_t height = 0;
  bool operator==(const TerminalSize&) const = default;
};

/// Finds the sizes, {"Width":80,"Height":24}, in a stream that may be cut anywhere. What is none,
/// or too long for one, is dropped.
class SizeReader {
 public:
  void feed(std::string_view bytes, const std::function<void(TerminalSize)>& found);

 private:
  std::string pending_;
};

}  // namespace fluyt::streaming
