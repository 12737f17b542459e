#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace fluyt::cli {

/// What a command takes: declared once, parsed by CLI11 (in options.cc alone) and shown by --help.
/// The targets must outlive parse().
class Options {
 public:
  Options();
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  /// `names` as "-q,--quiet".
  void flag(const std::string& names, bool& target, const std::string& help);
  /// An option with one value, shown as `word`.
  void value(const std::string& names, std::string& target, const std::string& word,
             const std::string& help);
  /// An option that may be given again and again.
  void values(const std::string& names, std::vector<std::string>& target, const std::string& word,
              const std::string& help);
  enum class Need { kOptional, kRequired };
  void positional(const std::string& word, std::string& target, Need need);
  void positionals(const std::string& word, std::vector<std::string>& target, Need need);
  /// Everything from the first argument that is no option on, untouched: a command for a container.
  void rest(std::vector<std::string>& target);

  /// Errors are about usage. "-h, --help" is known to every command.
  Result<> parse(const std::vector<std::string>& arguments);
  bool wants_help() const;
  /// The options as aligned lines.
  std::string help() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fluyt::cli
