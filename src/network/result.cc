#include "network/result.h"

#include <arpa/inet.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/strings.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

constexpr size_t kMaxIps = 64;
constexpr size_t kShownBytes = 512;

Error bad(std::string text) { return {Code::kInternal, std::move(text)}; }

// "10.88.0.5/16" or "fd00::5/64": the address, checked.
Result<std::string> address_of(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  std::array<unsigned char, 16> buffer;
  const bool v4 = inet_pton(AF_INET, address.c_str(), buffer.data()) == 1;
  const bool v6 = !v4 && inet_pton(AF_INET6, address.c_str(), buffer.data()) == 1;
  bool good = v4 || v6;
  if (good && slash != std::string::npos) {
    const auto bits = parse_number<unsigned>(std::string_view(text).substr(slash + 1));
    good = bits && *bits <= (v4 ? 32U : 128U);
  }
  if (!good) return bad(cat(quote(text, 64), " is not an address with a prefix length"));
  return address;
}

// Whether ips[i] belongs to the interface that we asked for: no index means it does.
Result<bool> is_ours(const Json& ip, const Json& interfaces, std::string_view interface) {
  const auto index = ip.find("interface");
  if (index == ip.end() || index->is_null()) return true;
  if (!index->is_number_integer()) return bad("interface: a number is expected");
  const auto at = index->get<int64_t>();
  if (at < 0 || !interfaces.is_array() || static_cast<size_t>(at) >= interfaces.size()) {
    return bad(cat("interface: ", at, " is not an index into interfaces"));
  }
  const Json& found = interfaces[static_cast<size_t>(at)];
  if (!found.is_object()) return bad(cat("interfaces[", at, "]: an object is expected"));
  return found.value("name", std::string()) == interface;
}

Result<PluginResult> parse_checked(std::string_view output, std::string_view version,
                                   std::string_view interface) {
  Json json = Json::parse(output, nullptr, false);
  if (!json.is_object()) {
    return bad(cat("its answer is not a JSON object: ", quote(output, kShownBytes)));
  }
  if (json.contains("code") && json.contains("msg") && !json.contains("interfaces")) {
    return parse_failure(0, output, {});
  }
  if (!json.contains("cniVersion")) json["cniVersion"] = version;
  if (!json["cniVersion"].is_string()) return bad("its answer's cniVersion is not text");
  PluginResult result;
  const Json interfaces = json.value("interfaces", Json::array());
  if (const auto ips = json.find("ips"); ips != json.end() && !ips->is_null()) {
    if (!ips->is_array() || ips->size() > kMaxIps) {
      return bad(cat("its answer's ips is not a list of at most ", kMaxIps));
    }
    for (size_t i = 0; i < ips->size(); ++i) {
      const Json& ip = (*ips)[i];
      const std::string where = cat("its answer's ips[", i, "]");
      if (!ip.is_object() || !ip.contains("address") || !ip["address"].is_string()) {
        return bad(cat(where, " has no address"));
      }
      if (!FLUYT_TRY_CONTEXT(is_ours(ip, interfaces, interface), where)) continue;
      result.ips.push_back(FLUYT_TRY_CONTEXT(address_of(ip["address"].get<std::string>()), where));
    }
  }
  result.json = json.dump();
  return result;
}

std::optional<Error> find_error_object(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("msg") || !json["msg"].is_string()) return std::nullopt;
  int64_t code = 0;
  if (const auto found = json.find("code"); found != json.end() && found->is_number_integer()) {
    code = found->get<int64_t>();
  }
  std::string sentence = quote(json["msg"].get_ref<const std::string&>(), kShownBytes);
  if (const auto details = json.find("details"); details != json.end() && details->is_string() &&
                                                 !details->get_ref<const std::string&>().empty()) {
    sentence += cat(": ", quote(details->get_ref<const std::string&>(), kShownBytes));
  }
  return Error(code == 11 ? Code::kUnavailable : Code::kInternal,
               cat(sentence, " (code ", code, ")"));
}

}  // namespace

Result<PluginResult> parse_result(std::string_view output, std::string_view version,
                                  std::string_view interface) {
  if (output.size() >= kMaxPluginOutput) {
    return bad(cat("its answer is longer than ", kMaxPluginOutput, " bytes"));
  }
  try {
    return parse_checked(output, version, interface);
  } catch (const Json::exception& error) {
    return bad(cat("its answer has a wrong type or is not UTF-8: ", quote(error.what(), 128)));
  }
}

Error parse_failure(int shell_code, std::string_view out, std::string_view err) {
  try {
    // The specification's text says standard error once and standard output elsewhere; programs use
    // standard output.
    if (auto error = find_error_object(out)) return *error;
    if (auto error = find_error_object(err)) return *error;
  } catch (
      const Json::exception&) {  // NOLINT(bugprone-empty-catch): then it is shown as text below
  }
  std::string sentence = shell_code > 128 ? cat("ended by signal ", shell_code - 128)
                                          : cat("exit status ", shell_code);
  std::string_view shown = trim(err.empty() ? out : err);
  // The end of a long output says why, the start only what was begun.
  if (shown.size() > kShownBytes) shown.remove_prefix(shown.size() - kShownBytes);
  return bad(shown.empty() ? cat(sentence, ", without a word")
                           : cat(sentence, ": ", quote(shown, kShownBytes)));
}

}  // namespace fluyt::network
