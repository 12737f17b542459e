#include "cmd/fluyt/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/strings.h"

namespace fluyt::cli {

struct Options::State {
  CLI::App app;
  bool help = false;
  std::vector<std::string>* rest = nullptr;
  std::vector<std::pair<std::string, std::string>> lines;  // what is typed, what it does
};

namespace {

// "-q,--quiet" as it is shown: "-q, --quiet"; a long one alone is indented to stand under others.
std::string shown(const std::string& names) {
  const size_t comma = names.find(',');
  if (comma == std::string::npos) return names.starts_with("--") ? "    " + names : names;
  return names.substr(0, comma) + ", " + names.substr(comma + 1);
}

}  // namespace

Options::Options() : state_(std::make_unique<State>()) {
  state_->app.set_help_flag();
  state_->app.add_flag("-h,--help", state_->help);
}

Options::~Options() = default;

void Options::flag(const std::string& names, bool& target, const std::string& help) {
  state_->app.add_flag(names, target);
  state_->lines.emplace_back(shown(names), help);
}

void Options::value(const std::string& names, std::string& target, const std::string& word,
                    const std::string& help) {
  state_->app.add_option(names, target)->take_last();
  state_->lines.emplace_back(cat(shown(names), " ", word), help);
}

void Options::values(const std::string& names, std::vector<std::string>& target,
                     const std::string& word, const std::string& help) {
  // One value each time: "-e A=1 image" must not take the image.
  state_->app.add_option(names, target)->allow_extra_args(false);
  state_->lines.emplace_back(cat(shown(names), " ", word), help);
}

void Options::positional(const std::string& word, std::string& target, Need need) {
  state_->app.add_option(word, target)->required(need == Need::kRequired);
}

void Options::positionals(const std::string& word, std::vector<std::string>& target, Need need) {
  state_->app.add_option(word, target)->required(need == Need::kRequired);
}

void Options::rest(std::vector<std::string>& target) {
  state_->rest = &target;
  state_->app.prefix_command();
}

Result<> Options::parse(const std::vector<std::string>& arguments) {
  try {
    // CLI11 takes them in reverse.
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    state_->app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    if (state_->help) return {};
    return Error(Code::kInvalidArgument, error.what());
  }
  if (state_->rest == nullptr || state_->help) return {};
  std::vector<std::string> rest = state_->app.remaining();
  if (!rest.empty() && rest[0] == "--") {
    rest.erase(rest.begin());
  } else if (!rest.empty() && rest[0].size() > 1 && rest[0][0] == '-') {
    return Error(Code::kInvalidArgument, cat("unknown option ", quote(rest[0])));
  }
  *state_->rest = std::move(rest);
  return {};
}

bool Options::wants_help() const { return state_->help; }

std::string Options::help() const {
  auto lines = state_->lines;
  lines.emplace_back("-h, --help", "show this");
  size_t width = 0;
  for (const auto& [typed, does] : lines) width = std::max(width, typed.size());
  std::string out;
  for (const auto& [typed, does] : lines) {
    out += cat("  ", typed, std::string(width - typed.size() + 3, ' '), does, "\n");
  }
  return out;
}

}  // namespace fluyt::cli
