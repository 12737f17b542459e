#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::cli {

inline constexpr const char* kDetachKeys = "ctrl-p,ctrl-q";

/// The keys that leave a container's terminal to itself, looked for in what is typed.
class DetachKeys {
 public:
  /// A list such as "ctrl-p,ctrl-q": single characters, or "ctrl-" with a letter or one of @ [ \ ]
  /// ^ _. Empty: there are none.
  static Result<DetachKeys> parse(std::string_view text);

  struct Passed {
    std::string typed;      // what is not part of the keys, to be passed on
    bool detached = false;  // all of them were pressed; what was typed behind them is dropped
  };
  /// The beginning of the keys is held back until it is known what follows.
  Passed pass(std::string_view typed);

 private:
  std::string keys_;
  size_t pressed_ = 0;  // so many of them, one after the other
};

}  // namespace fluyt::cli
