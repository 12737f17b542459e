#include "cmd/fluyt/output.h"

#include <google/protobuf/util/json_util.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

using Json = nlohmann::ordered_json;

Json parse(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text, options).ok()) return {};
  Json json = Json::parse(text, nullptr, false);
  // CRI's verbose statuses carry JSON as text.
  if (json.is_object() && json.contains("info") && json["info"].is_object()) {
    for (auto& [key, value] : json["info"].items()) {
      if (!value.is_string()) continue;
      Json inner = Json::parse(value.get_ref<const std::string&>(), nullptr, false);
      if (inner.is_structured()) value = std::move(inner);
    }
  }
  return json;
}

// ASCII alone: control characters and everything else a terminal might act on is escaped.
std::string dump(const Json& json) {
  return json.dump(2, ' ', true, Json::error_handler_t::replace);
}

}  // namespace

Result<Format> parse_format(const std::string& text) {
  if (text == "table") return Format::kTable;
  if (text == "json") return Format::kJson;
  return Error(Code::kInvalidArgument, cat("--format: ", quote(text, 64), " is not table or json"));
}

std::string to_json(const google::protobuf::Message& message) { return dump(parse(message)); }

std::string to_json(const std::vector<const google::protobuf::Message*>& messages) {
  Json list = Json::array();
  for (const auto* message : messages) list.push_back(parse(*message));
  return dump(list);
}

void complain(const Error& error) {
  std::fprintf(stderr, "fluyt: %s\n", printable(error.message()).c_str());
}

void print(const std::string& text) { (void)std::fwrite(text.data(), 1, text.size(), stdout); }

}  // namespace fluyt::cli
