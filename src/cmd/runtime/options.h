#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace fluyt::commands {

/// One option of a command, as a row of its table: where its value goes says what kind it is.
struct Option {
  std::string_view name;  // without dashes
  char letter = 0;        // 0: none
  std::variant<bool*, std::string*, int*, std::optional<std::string>*, std::vector<std::string>*>
      target;
  std::string_view help;
};

/// Where a command takes its options.
enum class Place {
  kInFront,   // the first word that is none ends them: the rest is another program's
  kAnywhere,  // between and behind the words too
};

/// Reads options up to "--" at most. "--name value", "--name=value", "-n value" and, as runc's
/// parser has it, "-name value". Returns the other words.
Result<std::vector<std::string>> parse_options(const std::vector<Option>& table,
                                               const std::vector<std::string>& words, Place place);
std::string describe_options(const std::vector<Option>& table);

}  // namespace fluyt::commands
