#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/auth/auth_file.h"
#include "image/auth/credential_helper.h"

// Any text is parsed, or refused with an error that names the file and shows no secret.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = fluyt::image::parse_auth_file(text, "config.json");
  if (!parsed.ok()) {
    if (!parsed.error().message().starts_with("config.json")) __builtin_trap();
  } else {
    for (const auto& [host, helper] : parsed->helpers) {
      if (!fluyt::image::is_helper_name(helper)) __builtin_trap();
    }
    const auto* found = parsed->auths.find("registry.example", "team/app");
    if (found != nullptr && found->empty()) __builtin_trap();
  }
  fluyt::image::parse_helper_answer(text).ignore("only that it ends well");
  return 0;
}
