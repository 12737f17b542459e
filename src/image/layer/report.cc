#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "image/layer/unpack.h"

namespace fluyt::image {

namespace {

using nlohmann::json;

constexpr size_t kMaxReportedErrorBytes = 8192;

Code code_of(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(Code::kInternal); ++i) {
    if (code_name(static_cast<Code>(i)) == name) return static_cast<Code>(i);
  }
  return Code::kInternal;
}

}  // namespace

std::string to_report(const Result<LayerInfo>& outcome) {
  if (outcome.ok()) return to_json(*outcome);
  const json out = {
      {"error",
       {{"code", code_name(outcome.error().code())}, {"message", outcome.error().message()}}}};
  return out.dump(-1, ' ', true, json::error_handler_t::replace);
}

// The worker had the hostile bytes in its hands: what it reports is checked like anything from
// outside.
Result<LayerInfo> parse_report(std::string_view report) {
  const json parsed = json::parse(report, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return Error(Code::kInternal, "the unpacker's report is not JSON");
  const json* error = nullptr;
  if (parsed.is_object() && parsed.contains("error")) error = &parsed["error"];
  if (error == nullptr) return parse_layer_info(report);
  const bool proper = error->is_object() && error->contains("code") && error->contains("message") &&
                      (*error)["code"].is_string() && (*error)["message"].is_string();
  if (!proper) return Error(Code::kInternal, "the unpacker reports an error without saying which");
  const auto& message = (*error)["message"].get_ref<const std::string&>();
  return Error(code_of((*error)["code"].get_ref<const std::string&>()),
               message.substr(0, kMaxReportedErrorBytes));
}

}  // namespace fluyt::image
