#include "streaming/status.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/strings.h"

namespace fluyt::streaming {
namespace {

using nlohmann::json;

constexpr size_t kMaxSizeText = 256;

std::string sentence(const Outcome& outcome) {
  if (outcome.kind == Outcome::Kind::kExitCode) {
    return cat("command terminated with non-zero exit code: exit status ", outcome.exit_code);
  }
  return "Internal error occurred: " + outcome.message;
}

std::optional<uint16_t> dimension(const json& size, const char* name) {
  const auto found = size.find(name);
  if (found == size.end() || !found->is_number_integer()) return std::nullopt;
  const auto value = found->get<int64_t>();
  if (value < 0 || value > UINT16_MAX) return std::nullopt;
  return static_cast<uint16_t>(value);
}

std::optional<TerminalSize> parse_size(std::string_view text) {
  const json size = json::parse(text, nullptr, false);
  if (!size.is_object()) return std::nullopt;
  const auto width = dimension(size, "Width");
  const auto height = dimension(size, "Height");
  if (!width || !height) return std::nullopt;
  return TerminalSize{*width, *height};
}

}  // namespace

Outcome exited(int32_t code) {
  if (code == 0) return {};
  return {.kind = Outcome::Kind::kExitCode, .exit_code = code, .message = {}};
}

Outcome failed(std::string message) {
  return {.kind = Outcome::Kind::kError, .exit_code = 0, .message = std::move(message)};
}

std::string outcome_text(const Outcome& outcome, Version version) {
  const bool is_json = version == Version::kV4 || version == Version::kV5;
  json status = {{"metadata", json::object()}};
  if (outcome.kind == Outcome::Kind::kSuccess) {
    status["status"] = "Success";
    return is_json ? status.dump() : std::string();
  }
  if (!is_json) return sentence(outcome);
  status["status"] = "Failure";
  status["message"] = sentence(outcome);
  if (outcome.kind == Outcome::Kind::kExitCode) {
    status["reason"] = "NonZeroExitCode";
    status["details"]["causes"] = {
        {{"reason", "ExitCode"}, {"message", std::to_string(outcome.exit_code)}}};
  } else {
    status["reason"] = "InternalError";
    status["details"]["causes"] = {{{"message", outcome.message}}};
    status["code"] = 500;
  }
  // What a container said may not be UTF-8.
  return status.dump(-1, ' ', false, json::error_handler_t::replace);
}

void SizeReader::feed(std::string_view bytes, const std::function<void(TerminalSize)>& found) {
  for (const char c : bytes) {
    if (pending_.size() >= kMaxSizeText) pending_.clear();
    if (pending_.empty() && c != '{') continue;
    pending_ += c;
    if (c != '}') continue;
    if (const auto size = parse_size(pending_)) found(*size);
    pending_.clear();
  }
}

}  // namespace fluyt::streaming
