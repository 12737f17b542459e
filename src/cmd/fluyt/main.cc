#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "cmd/fluyt/check.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/nearest.h"

namespace fluyt::cli {

namespace {

constexpr std::string_view kDefaultSocket = "/run/fluyt/fluyt.sock";

std::vector<CommandInfo> commands() {
  // In the order in which a person meets them.
  return {pull_command(),    images_command(),     rmi_command(),         tag_command(),
          push_command(),    save_command(),       load_command(),        import_command(),
          history_command(), image_tree_command(), image_prune_command(), image_verify_command(),
          check_command(),   doctor_command(),     gc_command(),          run_command(),
          ps_command(),      pods_command(),       logs_command(),        exec_command(),
          attach_command(),  cp_command(),         stop_command(),        kill_command(),
          start_command(),   restart_command(),    wait_command(),        rm_command(),
          inspect_command(), stats_command(),      top_command(),         trace_command(),
          events_command(),  info_command(),       log_level_command(),   version_command()};
}

std::string list_of(const std::vector<CommandInfo>& all) {
  size_t width = 0;
  for (const CommandInfo& info : all) width = std::max(width, info.name.size());
  std::string out = "\nCommands:\n";
  for (const CommandInfo& info : all) {
    out += cat("  ", info.name, std::string(width + 2 - info.name.size(), ' '), info.summary, "\n");
  }
  return out;
}

std::string main_help() {
  std::string out =
      "Usage: fluyt [--socket PATH] COMMAND [ARGUMENTS]\n\n"
      "Runs containers, together with fluytd.\n";
  out += list_of(commands());
  out +=
      cat("\nOptions:\n"
          "      --socket PATH   where fluytd listens (FLUYT_SOCKET; ",
          kDefaultSocket,
          ")\n"
          "      --version       show the version of this command\n"
          "  -h, --help          show this\n\n"
          "fluyt COMMAND --help says more about a command.\n");
  return out;
}

std::string command_help(const CommandInfo& info, const Options& options) {
  std::string out = cat("Usage: fluyt ", info.name, info.arguments.empty() ? "" : " ",
                        info.arguments, "\n\n", info.summary, "\n");
  if (!info.details.empty()) out += cat("\n", info.details, "\n");
  return out + cat("\nOptions:\n", options.help());
}

/// Of commands of two words with the first one in common.
std::string group_help(std::string_view first, const std::vector<CommandInfo>& commands) {
  return cat("Usage: fluyt ", first, " COMMAND [ARGUMENTS]\n", list_of(commands), "\nfluyt ", first,
             " COMMAND --help says more about a command.\n");
}

int fail(const Error& error, int status) {
  complain(error);
  return status;
}

// What people type who come from docker, and what does it here.
constexpr auto kElsewhere = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"build", "fluyt builds no images: fluyt load and fluyt import take those of other tools"},
    {"container ls", "fluyt ps"},
    {"container rm", "fluyt rm"},
    {"create", "fluyt run -d"},
    {"image ls", "fluyt images"},
    {"image rm", "fluyt rmi"},
    {"login", "fluyt pull -u NAME --password-stdin, or Docker's config.json"},
});

Error no_such_command(const std::string& word, const std::vector<CommandInfo>& all,
                      std::string hint = {}) {
  const auto* known = std::find_if(kElsewhere.begin(), kElsewhere.end(),
                                   [&](const auto& row) { return row.first == word; });
  if (known != kElsewhere.end()) {
    hint = known->second;
  } else {
    std::vector<std::string> names;
    for (const CommandInfo& info : all) names.emplace_back(info.name);
    if (const std::string meant = nearest(word, names); !meant.empty())
      hint = cat("did you mean fluyt ", meant, "?");
  }
  return Error(Code::kInvalidArgument,
               cat("there is no command ", quote(word, 64), hint.empty() ? "" : "; ", hint));
}

// Names and values go to fluytd as text.
Result<> check_text(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (is_utf8(argument)) continue;
    return Error(Code::kInvalidArgument,
                 cat("argument ", quote(argument, 128), ": expected UTF-8"));
  }
  return {};
}

int run_command_line(const CommandInfo& info, const std::vector<std::string>& arguments,
                     std::string socket) {
  if (auto text = check_text(arguments); !text.ok()) return fail(text.error(), info.usage);
  Options options;
  std::string own_socket;
  auto command = info.make();
  command->declare(options);
  options.value("--socket", own_socket, "PATH", "where fluytd listens");
  if (auto parsed = options.parse(arguments); !parsed.ok()) {
    fail(parsed.error(), 0);
    std::fprintf(stderr, "Usage: fluyt %s %s\n", std::string(info.name).c_str(),
                 std::string(info.arguments).c_str());
    return info.usage;
  }
  if (options.wants_help()) {
    print(command_help(info, options));
    return 0;
  }
  Context context(own_socket.empty() ? std::move(socket) : own_socket);
  auto status = command->run(context);
  if (status.ok()) return *status;
  const int failure = context.failure != 0 ? context.failure : info.failure;
  return fail(status.error(), context.is_usage ? info.usage : failure);
}

int run(const std::vector<std::string>& arguments) {
  const char* from_environment = std::getenv("FLUYT_SOCKET");
  std::string socket(from_environment == nullptr || *from_environment == '\0' ? kDefaultSocket
                                                                              : from_environment);
  bool version = false;
  std::vector<std::string> rest;
  Options options;
  options.value("--socket", socket, "PATH", "");
  options.flag("--version", version, "");
  options.rest(rest);
  if (auto parsed = options.parse(arguments); !parsed.ok()) return fail(parsed.error(), kExitUsage);
  if (version) {
    print("fluyt " FLUYT_VERSION "\n");
    return 0;
  }
  if (rest.size() > 1 && rest[0] == "help") {
    std::vector<std::string> asked(rest.begin() + 1, rest.end());
    asked.emplace_back("--help");
    return run(asked);
  }
  if (options.wants_help() || (!rest.empty() && rest[0] == "help")) {
    print(main_help());
    return 0;
  }
  if (rest.empty()) {
    std::fputs(main_help().c_str(), stderr);
    return kExitUsage;
  }
  const std::string two_words = rest.size() > 1 ? cat(rest[0], " ", rest[1]) : rest[0];
  std::vector<CommandInfo> longer;  // commands of two words that begin with this one
  for (const CommandInfo& info : commands()) {
    if (info.name == rest[0]) return run_command_line(info, {rest.begin() + 1, rest.end()}, socket);
    if (rest.size() > 1 && info.name == two_words) {
      return run_command_line(info, {rest.begin() + 2, rest.end()}, socket);
    }
    if (info.name.starts_with(rest[0] + " ")) longer.push_back(info);
  }
  if (!longer.empty()) {
    const bool asked = rest.size() > 1 && (rest[1] == "--help" || rest[1] == "-h");
    if (rest.size() > 1 && !asked) {
      fail(no_such_command(two_words, longer), kExitUsage);
    }
    std::fputs(group_help(rest[0], longer).c_str(), asked ? stdout : stderr);
    return asked ? 0 : kExitUsage;
  }
  const bool known = std::any_of(kElsewhere.begin(), kElsewhere.end(),
                                 [&](const auto& row) { return row.first == two_words; });
  return fail(no_such_command(known ? two_words : rest[0], commands(), "fluyt --help lists them"),
              kExitUsage);
}

}  // namespace
}  // namespace fluyt::cli

int main(int argc, char** argv) {
  // A pager that was closed early is an error of write(2), not the end of us with a raw terminal.
  ::signal(SIGPIPE, SIG_IGN);
  const int status = fluyt::cli::run({argv + 1, argv + argc});
  // Output that did not arrive is a failure, too. A reader that has read enough need not be told.
  if (std::fflush(stdout) == 0) return status;
  if (errno != EPIPE) std::fprintf(stderr, "fluyt: standard output: %s\n", std::strerror(errno));
  return status == 0 ? fluyt::cli::kExitFailed : status;
}
