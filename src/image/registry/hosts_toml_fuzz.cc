#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/registry/hosts_toml.h"

// Any text is parsed or refused with an error that names the file.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto parsed = fluyt::image::registry::parse_hosts_toml(text, "hosts.toml", "/certs");
  if (!parsed.ok()) {
    if (parsed.error().message().find("hosts.toml") == std::string::npos) __builtin_trap();
    return 0;
  }
  for (const auto& host : parsed->hosts) {
    if (host.url.empty()) __builtin_trap();
  }
  return 0;
}
