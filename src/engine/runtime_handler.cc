#include "engine/runtime_handler.h"

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace fluyt::engine {

namespace {

constexpr size_t kMaxName = 63;

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// What we say ourselves, and what would not go with what we say.
constexpr std::array<std::string_view, 5> kOurOptions = {"root", "log", "log-format",
                                                         "systemd-cgroup", "cgroup-manager"};

Error expected(std::string_view field, std::string_view value, std::string_view what) {
  return {Code::kInvalidArgument, cat(field, ": ", quote(value), ": expected ", what)};
}

}  // namespace

Result<> check_handler_name(std::string_view name) {
  const bool is_label = !name.empty() && name.size() <= kMaxName &&
                        is_lower_or_digit(name.front()) && is_lower_or_digit(name.back()) &&
                        std::all_of(name.begin(), name.end(),
                                    [](char c) { return is_lower_or_digit(c) || c == '-'; });
  if (!is_label) {
    return Error(Code::kInvalidArgument,
                 cat(quote(name),
                     ": expected a handler's name: 1 to 63 of [a-z0-9-], with no '-' at "
                     "either end"));
  }
  if (name == kLinkedHandler) {
    return Error(Code::kInvalidArgument, cat(quote(name), ": is built in: expected another name"));
  }
  return {};
}

Result<> check_handler(const RuntimeHandler& handler) {
  FLUYT_TRY(check_handler_name(handler.name));
  if (!handler.path.starts_with('/')) return expected("path", handler.path, "an absolute path");
  if (!handler.root.empty() && !handler.root.starts_with('/'))
    return expected("root", handler.root, "an absolute path");
  for (const std::string& option : handler.options) {
    std::string_view name = std::string_view(option).substr(0, option.find('='));
    name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
    const bool is_option = option.starts_with('-');
    if (is_option && std::find(kOurOptions.begin(), kOurOptions.end(), name) != kOurOptions.end())
      return expected("options", option, "none of those that fluytd gives itself");
    if (has_control_characters(option)) return expected("options", option, "plain text");
  }
  for (const std::string& name : handler.annotations) {
    const size_t star = name.find('*');
    if (name.empty() || has_control_characters(name) ||
        (star != std::string::npos && star + 1 != name.size())) {
      return expected("annotations", name, "a name, or the start of names with a '*' behind");
    }
  }
  return {};
}

bool passes_annotation(const RuntimeHandler& handler, std::string_view name) {
  return std::any_of(handler.annotations.begin(), handler.annotations.end(),
                     [&](std::string_view known) {
                       if (!known.ends_with('*')) return known == name;
                       return name.starts_with(known.substr(0, known.size() - 1));
                     });
}

}  // namespace fluyt::engine
