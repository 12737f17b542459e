#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/strings.h"
#include "image/registry/session.h"
#include "image/registry/token.h"

// A token server's answer is a token that can stand in a header, or refused; a registry's errors
// and URLs are fit to be shown.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fluyt::image::registry;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto token = parse_token(text); token.ok()) {
    if (token->value.empty() || token->lifetime_s <= 0) __builtin_trap();
    if (fluyt::has_control_characters(token->value)) __builtin_trap();
  }
  if (fluyt::has_control_characters(registry_errors(text))) __builtin_trap();
  const auto base = Url::parse("https://registry.example/v2/a/blobs/uploads/1?x=y");
  if (const auto next = base->resolve(text); next.ok()) {
    if (next->scheme != "http" && next->scheme != "https") __builtin_trap();
    if (fluyt::has_control_characters(next->text())) __builtin_trap();
    if (!Url::parse(next->text()).ok()) __builtin_trap();
  }
  return 0;
}
