#include "oci/cdi/yaml.h"

#include <yaml-cpp/yaml.h>

#include <optional>

#include "base/strings.h"
#include "oci/json_reader.h"

namespace fluyt::oci::cdi::internal {

namespace {

using nlohmann::json;

constexpr size_t kMaxNodes = 100'000;

std::optional<json> integer_of(std::string_view text) {
  const bool minus = text.starts_with('-');
  std::string_view digits = minus || text.starts_with('+') ? text.substr(1) : text;
  int base = 10;
  if (digits.starts_with("0x")) {
    base = 16;
    digits.remove_prefix(2);
  } else if (digits.starts_with("0o")) {
    base = 8;
    digits.remove_prefix(2);
  } else if (digits.size() > 1 && digits.front() == '0') {
    base = 8;
  }
  const auto number = parse_number<int64_t>(digits, base);
  if (!number || digits.empty() || digits.front() == '-' || digits.front() == '+')
    return std::nullopt;
  if (minus) return json(-*number);
  return json(static_cast<uint64_t>(*number));
}

json scalar_of(const YAML::Node& node) {
  const std::string text = node.Scalar();
  if (node.Tag() != "?") return text;  // quoted, or said to be a string
  if (text == "true" || text == "True") return true;
  if (text == "false" || text == "False") return false;
  if (auto number = integer_of(text)) return *std::move(number);
  return text;
}

class Translator {
 public:
  Result<json> value(const YAML::Node& node, size_t depth) {
    if (++nodes_ > kMaxNodes) return wrong(node, cat("more than ", kMaxNodes, " values"));
    if (depth > oci::json::kMaxDepth)
      return wrong(node, cat("nested deeper than ", oci::json::kMaxDepth));
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return scalar_of(node);
      case YAML::NodeType::Sequence: {
        json out = json::array();
        for (const YAML::Node& item : node) out.push_back(FLUYT_TRY(value(item, depth + 1)));
        return out;
      }
      case YAML::NodeType::Map: {
        json out = json::object();
        for (const auto& entry : node) {
          const YAML::Node& key = entry.first;
          if (!key.IsScalar()) return wrong(key, "expected a word as the key");
          const std::string name = key.Scalar();
          if (out.contains(name)) return wrong(key, cat("the key ", quote(name), " stands twice"));
          out[name] = FLUYT_TRY(value(entry.second, depth + 1));
        }
        return out;
      }
      case YAML::NodeType::Null:
      case YAML::NodeType::Undefined:
        break;
    }
    return json(nullptr);
  }

 private:
  static Error wrong(const YAML::Node& at, std::string_view why) {
    return {Code::kInvalidArgument, cat("YAML line ", at.Mark().line + 1, ": ", why)};
  }
  size_t nodes_ = 0;
};

}  // namespace

Result<json> json_of_yaml(std::string_view text) {
  try {
    return Translator().value(YAML::Load(std::string(text)), 0);
  } catch (const YAML::Exception& error) {
    return Error(Code::kInvalidArgument, cat("YAML: ", quote(error.what())));
  }
}

}  // namespace fluyt::oci::cdi::internal
