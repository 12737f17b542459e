#include "cmd/fluytd/config/toml_file.h"

#include <sstream>

// toml++ without exceptions, which its shared library is not built for: whole, and in this file.
#define TOML_HEADER_ONLY 1
// The library asserts what its own error handling behind it takes care of.
#define TOML_ASSERT(expression) static_cast<void>(0)
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxConfigBytes = 1UL << 20U;

/// The library's own reading of bytes outside ASCII and of control characters is not sound; no
/// value of ours needs them. In a comment they do no harm.
Result<std::string> plain_text(std::string_view bytes, const std::string& name) {
  std::string text;
  size_t number = 0;
  for (const std::string_view line : split(bytes, '\n')) {
    ++number;
    const bool is_comment = trim(line).starts_with('#');
    for (const char c : line) {
      const bool is_plain = (c >= ' ' && c <= '~') || c == '\t' || c == '\r';
      if (!is_plain && !is_comment) {
        return Error(Code::kInvalidArgument,
                     cat(name, ":", number, ": expected plain ASCII text outside comments' lines"));
      }
      text += is_plain ? c : '?';
    }
    text += '\n';
  }
  return text;
}

Place place_of(const toml::source_region& source, const std::string& name) {
  return {.file = name, .line = source.begin.line};
}

Value to_value(const toml::node& node, Place place) {
  const std::string name = place.file;
  Value out{.data = Value::Other{}, .place = std::move(place)};
  if (const toml::table* table = node.as_table()) {
    Value::Table members;
    for (const auto& [key, member] : *table) {
      members.emplace(std::string(key.str()), to_value(member, place_of(key.source(), name)));
    }
    out.data = std::move(members);
  } else if (const toml::array* list = node.as_array()) {
    Value::List items;
    for (const toml::node& item : *list) {
      items.push_back(to_value(item, place_of(item.source(), name)));
    }
    out.data = std::move(items);
  } else if (const auto text = node.value_exact<std::string>()) {
    out.data = *text;
  } else if (const auto number = node.value_exact<int64_t>()) {
    out.data = *number;
  } else if (const auto real = node.value_exact<double>()) {
    out.data = *real;
  } else if (const auto flag = node.value_exact<bool>()) {
    out.data = *flag;
  } else {
    std::ostringstream shown;
    node.visit([&shown](const auto& other) { shown << other; });
    out.data = Value::Other{shown.str()};
  }
  return out;
}

}  // namespace

Result<Value> parse_toml(std::string_view bytes, const std::string& name) {
  const std::string text = FLUYT_TRY(plain_text(bytes, name));
  const toml::parse_result parsed = toml::parse(text, name);
  if (!parsed) {
    return Error(Code::kInvalidArgument, cat(place_of(parsed.error().source(), name).text(), ": ",
                                             parsed.error().description()));
  }
  return to_value(parsed.table(), {.file = name, .line = 1});
}

Result<Value> read_toml(const std::string& path) {
  return parse_toml(FLUYT_TRY(sys::read_file(path, kMaxConfigBytes)), path);
}

}  // namespace fluyt::daemon
