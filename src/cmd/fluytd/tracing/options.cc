#include "cmd/fluytd/tracing/options.h"

#include "base/strings.h"

namespace fluyt::daemon {

namespace {

constexpr size_t kMaxEndpoint = 2048;

}  // namespace

bool is_endpoint(const std::string& text) {
  const bool is_http = text.starts_with("http://");
  if (!is_http && !text.starts_with("https://")) return false;
  if (text.size() > kMaxEndpoint || has_control_characters(text)) return false;
  if (text.find_first_of(" ?#\"<>\\") != std::string::npos) return false;
  // A host, and not just a port.
  const char first = text[is_http ? 7 : 8];
  return first != '\0' && first != '/' && first != ':';
}

}  // namespace fluyt::daemon
