#include "network/builtin/result_form.h"

#include <array>
#include <charconv>
#include <cstdio>

#include "base/strings.h"

namespace fluyt::network {

namespace {

// Whether ips[i] belongs to another device than `device` in the sandbox.
bool is_foreign(const Json& ip, const Json& result, std::string_view device) {
  const auto index = ip.find("interface");
  if (index == ip.end() || !index->is_number_integer()) return false;
  const auto at = index->get<int64_t>();
  const auto interfaces = result.find("interfaces");
  if (interfaces == result.end() || !interfaces->is_array() || at < 0 ||
      static_cast<size_t>(at) >= interfaces->size()) {
    return false;
  }
  const Json& interface = (*interfaces)[static_cast<size_t>(at)];
  return interface.value("name", "") != device || interface.value("sandbox", "").empty();
}

}  // namespace

Json in_form_of(Json result, const std::string& version) {
  result["cniVersion"] = version;
  if (!result.contains("dns")) result["dns"] = Json::object();
  const bool names_family = version.starts_with("0.");
  if (const auto ips = result.find("ips"); ips != result.end() && ips->is_array()) {
    for (Json& ip : *ips) {
      if (names_family) {
        const auto prefix = find_prefix(ip.value("address", ""));
        ip["version"] = prefix && !prefix->address.v4() ? "6" : "4";
      } else {
        ip.erase("version");
      }
    }
  }
  return result;
}

Result<std::vector<Prefix>> addresses_of(const Json& result, std::string_view device) {
  std::vector<Prefix> out;
  const auto ips = result.find("ips");
  if (ips == result.end() || !ips->is_array()) return out;
  for (size_t i = 0; i < ips->size(); ++i) {
    const Json& ip = (*ips)[i];
    if (is_foreign(ip, result, device)) continue;
    auto prefix = find_prefix(ip.value("address", ""));
    if (!prefix) {
      return wrong_field(cat("prevResult.ips[", i, "].address"), ip.value("address", Json()),
                         "an address with a prefix length");
    }
    out.push_back(std::move(*prefix));
  }
  return out;
}

Result<std::string> mac_of(const Json& object, const char* field) {
  const std::string text = FLUYT_TRY(text_of(object, field));
  if (text.empty()) return std::string();
  const auto parts = split(text, ':');
  std::string bytes;
  for (const std::string_view part : parts) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value, 16);
    const bool good = error == std::errc() && end == part.data() + part.size() && part.size() == 2;
    if (!good) break;
    bytes.push_back(static_cast<char>(value));
  }
  if (parts.size() != 6 || bytes.size() != 6) {
    return wrong_field(field, Json(text), "a MAC address of six bytes");
  }
  return bytes;
}

std::string mac_text(std::string_view bytes) {
  std::array<char, 18> text{};
  if (bytes.size() != 6) return "";
  auto at = [&](size_t i) { return static_cast<unsigned>(static_cast<uint8_t>(bytes[i])); };
  std::snprintf(text.data(), text.size(), "%02x:%02x:%02x:%02x:%02x:%02x", at(0), at(1), at(2),
                at(3), at(4), at(5));
  return text.data();
}

}  // namespace fluyt::network
