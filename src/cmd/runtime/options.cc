#include "cmd/runtime/options.h"

#include "base/strings.h"

namespace fluyt::commands {

namespace {

const Option* find_option(const std::vector<Option>& table, std::string_view name) {
  for (const Option& option : table) {
    if (option.name == name || (name.size() == 1 && option.letter == name[0])) return &option;
  }
  return nullptr;
}

Error wrong(std::string_view name, std::string_view rest) {
  return Error(Code::kInvalidArgument, cat("option --", name, ": ", rest));
}

Result<> set_flag(const Option& option, bool* target,
                  const std::optional<std::string_view>& value) {
  if (!value || *value == "true" || *value == "1") {
    *target = true;
  } else if (*value == "false" || *value == "0") {
    *target = false;
  } else {
    return wrong(option.name, cat(quote(*value), ": expected true or false"));
  }
  return {};
}

Result<> set_value(const Option& option, std::string_view value) {
  if (auto* const* text = std::get_if<std::string*>(&option.target)) {
    **text = value;
  } else if (auto* const* maybe = std::get_if<std::optional<std::string>*>(&option.target)) {
    **maybe = std::string(value);
  } else if (auto* const* list = std::get_if<std::vector<std::string>*>(&option.target)) {
    (*list)->emplace_back(value);
  } else if (auto* const* number = std::get_if<int*>(&option.target)) {
    const auto parsed = parse_number<int>(value);
    if (!parsed) return wrong(option.name, cat(quote(value), ": expected a number"));
    **number = *parsed;
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> parse_options(const std::vector<Option>& table,
                                               const std::vector<std::string>& words, Place place) {
  std::vector<std::string> rest;
  size_t at = 0;
  for (; at < words.size(); ++at) {
    std::string_view word = words[at];
    if (word == "--") {
      ++at;
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      if (place == Place::kInFront) break;
      rest.push_back(words[at]);
      continue;
    }
    word.remove_prefix(word.starts_with("--") ? 2 : 1);
    const size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    std::optional<std::string_view> value;
    if (equals != std::string_view::npos) value = word.substr(equals + 1);
    const Option* option = find_option(table, name);
    if (option == nullptr) return wrong(name, "unknown");
    if (auto* const* flag = std::get_if<bool*>(&option->target)) {
      FLUYT_TRY(set_flag(*option, *flag, value));
      continue;
    }
    if (!value) {
      if (at + 1 == words.size()) return wrong(name, "expected a value");
      value = words[++at];
    }
    FLUYT_TRY(set_value(*option, *value));
  }
  rest.insert(rest.end(), words.begin() + static_cast<std::ptrdiff_t>(at), words.end());
  return rest;
}

std::string describe_options(const std::vector<Option>& table) {
  std::string out;
  for (const Option& option : table) {
    std::string left = cat("  --", option.name);
    if (option.letter != 0) left += cat(", -", option.letter);
    if (!std::holds_alternative<bool*>(option.target)) left += " VALUE";
    if (left.size() < 32) left.resize(32, ' ');
    out += cat(left, " ", option.help, "\n");
  }
  return out;
}

}  // namespace fluyt::commands
