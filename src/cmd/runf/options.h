#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace fluyt::runf {

/// One option of a command, as a row of its table: where its value goes says what kind it is.
struct Option {
  std::string_view name;  // without dashes
  char letter = 0;        // 0: none
  std::variant<bool*, std::string*, int*, std::optional<std::string>*, std::vector<std::string>*>
      target;
  std::string_view help;
};

/// Reads options up to the first word that is none, or up to "--". "--name value", "--name=value",
/// "-n value" and, as runc's parser has it, "-name value". Returns the words behind them.
Result<std::vector<std::string>> parse_options(const std::vector<Option>& table,
                                               const std::vector<std::string>& words);
std::string describe_options(const std::vector<Option>& table);

}  // namespace fluyt::runf
