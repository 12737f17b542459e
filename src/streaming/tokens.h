#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>

#include "base/result.h"
#include "streaming/urls.h"

namespace fluyt::streaming {

using Call = std::variant<ExecCall, AttachCall, PortForwardCall>;
/// The word in the address: exec, attach or portforward.
std::string_view verb_of(const Call& call);

/// What may be asked for, by a secret of 128 random bits that is good for one request. Not
/// thread-safe. Times are boot time in nanoseconds, given by the caller.
class Tokens {
 public:
  static constexpr size_t kMost = 1000;
  static constexpr int64_t kLifeNs = 60'000'000'000;

  /// kResourceExhausted when kMost are waiting.
  Result<std::string> insert(Call call, int64_t now_ns);
  /// Nothing for a token that is unknown, used, too old or of another verb: the four look the same.
  std::optional<Call> take(std::string_view verb, const std::string& token, int64_t now_ns);
  size_t size() const { return waiting_.size(); }

 private:
  struct Waiting {
    Call call;
    int64_t until_ns;
  };
  std::unordered_map<std::string, Waiting> waiting_;
};

}  // namespace fluyt::streaming
