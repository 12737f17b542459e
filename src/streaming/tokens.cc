#include "streaming/tokens.h"

#include <array>

#include "base/id.h"
#include "base/strings.h"

namespace fluyt::streaming {
namespace {
constexpr size_t kTokenDigits = 32;  // of four bits
}

std::string_view verb_of(const Call& call) {
  constexpr std::array<std::string_view, 3> kVerbs = {"exec", "attach", "portforward"};
  return kVerbs.at(call.index());
}

Result<std::string> Tokens::insert(Call call, int64_t now_ns) {
  if (waiting_.size() >= kMost) {
    std::erase_if(waiting_, [&](const auto& entry) { return entry.second.until_ns <= now_ns; });
  }
  if (waiting_.size() >= kMost) {
    return Error(Code::kResourceExhausted,
                 cat("streaming: ", kMost, " requests wait for their clients: try again later"));
  }
  std::string token = make_id().substr(0, kTokenDigits);
  waiting_.emplace(token, Waiting{std::move(call), now_ns + kLifeNs});
  return token;
}

std::optional<Call> Tokens::take(std::string_view verb, const std::string& token, int64_t now_ns) {
  const auto found = waiting_.find(token);
  if (found == waiting_.end()) return std::nullopt;
  Waiting waiting = std::move(found->second);
  waiting_.erase(found);
  if (waiting.until_ns <= now_ns || verb_of(waiting.call) != verb) return std::nullopt;
  return std::move(waiting.call);
}

}  // namespace fluyt::streaming
