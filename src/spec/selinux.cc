#include "spec/selinux.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

constexpr std::string_view kUsualProcess = "system_u:system_r:container_t:s0";
constexpr std::string_view kUsualFile = "system_u:object_r:container_file_t:s0";

constexpr size_t kMaxFileLabel = 255;  // a string that fsconfig(2) takes: context=

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_word(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
           c == '.' || c == '-';
  });
}

/// `letter` and a number of one to four digits.
bool is_numbered(std::string_view text, char letter) {
  return text.size() >= 2 && text.size() <= 5 && text.front() == letter &&
         std::ranges::all_of(text.substr(1), is_digit);
}

/// c5, or a range: c5.c7.
bool is_category(std::string_view text) {
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos) return is_numbered(text, 'c');
  return is_numbered(text.substr(0, dot), 'c') && is_numbered(text.substr(dot + 1), 'c');
}

bool is_one_level(std::string_view text) {
  const size_t colon = text.find(':');
  if (!is_numbered(text.substr(0, colon), 's')) return false;
  return colon == std::string_view::npos ||
         std::ranges::all_of(split(text.substr(colon + 1), ','), is_category);
}

/// Calls `take(name, value)` for each line NAME = VALUE; quotes around a value are not of it.
template <class Take>
void each_setting(std::string_view text, Take&& take) {
  for (const std::string_view whole : split(text, '\n')) {
    const std::string_view line = trim(whole);
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || line.starts_with('#') || line.starts_with(';'))
      continue;
    std::string_view value = trim(line.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    take(trim(line.substr(0, equals)), value);
  }
}

Result<> take_word(std::string_view name, const std::string& asked, std::string& word) {
  if (asked.empty()) return {};
  if (!is_word(asked)) {
    return Error(Code::kInvalidArgument,
                 cat(name, ": ", quote(asked), ": expected letters, digits and _.-"));
  }
  word = asked;
  return {};
}

}  // namespace

std::string SelinuxContext::text() const {
  return cat(user, ":", role, ":", type, level.empty() ? "" : ":", level);
}

Result<SelinuxContext> parse_selinux_context(std::string_view text) {
  const auto words = split(text, ':');
  if (words.size() < 3 || !std::all_of(words.begin(), words.begin() + 3, is_word)) {
    return Error(Code::kInvalidArgument,
                 cat(quote(text), ": expected an SELinux context, user:role:type:level"));
  }
  SelinuxContext context{std::string(words[0]), std::string(words[1]), std::string(words[2]), {}};
  if (words.size() == 3) return context;
  context.level = text.substr(words[0].size() + words[1].size() + words[2].size() + 3);
  if (!is_selinux_level(context.level)) {
    return Error(Code::kInvalidArgument,
                 cat(quote(text), ": expected a level such as s0:c1,c2 at its end"));
  }
  return context;
}

std::string selinux_policy_of(std::string_view config) {
  std::string policy = "targeted";
  each_setting(config, [&](std::string_view name, std::string_view value) {
    if (name == "SELINUXTYPE" && is_word(value)) policy = value;
  });
  return policy;
}

Result<SelinuxLabels> parse_container_contexts(std::string_view text) {
  std::string process(kUsualProcess);
  std::string file(kUsualFile);
  each_setting(text, [&](std::string_view name, std::string_view value) {
    if (name == "process") process = value;
    if (name == "file") file = value;
  });
  SelinuxLabels labels;
  labels.process = FLUYT_TRY_CONTEXT(parse_selinux_context(process), "process");
  labels.file = FLUYT_TRY_CONTEXT(parse_selinux_context(file), "file");
  return labels;
}

bool is_selinux_level(std::string_view text) {
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return is_one_level(text);
  return is_one_level(text.substr(0, dash)) && is_one_level(text.substr(dash + 1));
}

Result<SelinuxLabels> selinux_labels(SelinuxLabels above, const SelinuxOptions& asked) {
  SelinuxLabels labels = std::move(above);
  FLUYT_TRY(take_word("user", asked.user, labels.process.user));
  FLUYT_TRY(take_word("role", asked.role, labels.process.role));
  FLUYT_TRY(take_word("type", asked.type, labels.process.type));
  if (!asked.user.empty()) labels.file.user = asked.user;
  if (!asked.level.empty()) {
    if (!is_selinux_level(asked.level)) {
      return Error(Code::kInvalidArgument,
                   cat("level: ", quote(asked.level), ": expected one such as s0:c1,c2"));
    }
    labels.process.level = labels.file.level = asked.level;
  }
  if (const size_t size = labels.file.text().size(); size > kMaxFileLabel) {
    const bool by_level = asked.level.size() > asked.user.size();
    const std::string& longest = by_level ? asked.level : asked.user;
    return Error(Code::kInvalidArgument,
                 cat(by_level ? "level: " : "user: ", quote(longest), ": the files' label has ",
                     size, " bytes with it, expected at most ", kMaxFileLabel));
  }
  return labels;
}

}  // namespace fluyt::spec
