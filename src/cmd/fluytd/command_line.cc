#include "command_line.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "base/strings.h"

namespace fluyt::daemon {
namespace {

/// A flag that stands for a key with a string.
struct KeyFlag {
  const char* flag;
  const char* key;
  const char* help;
  const char* type;
};
constexpr KeyFlag kKeyFlags[] = {
    {"--root", "root", "Images and records [/var/lib/fluyt]", "DIR"},
    {"--state", "state", "What ends with the boot [/run/fluyt]", "DIR"},
    {"--listen", "listen", "Where to serve [unix:/run/fluyt/fluyt.sock]", "unix:PATH"},
    {"--certs-dir", "image.certs_dir", "hosts.toml files [/etc/fluyt/certs.d]", "DIR"},
    {"--cni-conf-dir", "cni.conf_dir", "CNI configurations [/etc/cni/net.d]", "DIR"},
    {"--log-level", "log_level", "trace, debug, info, warn or error [info]", "LEVEL"},
};
constexpr const char* kBinDirFlag = "--cni-bin-dir";

/// As a file would say it, with the flag as its place.
void say(Value& flags, std::string_view key, const char* flag, Value value) {
  const Place place{.file = flag, .line = 0};
  value.place = place;
  if (Value::List* list = value.list()) {
    for (Value& item : *list) item.place = place;
  }
  Value* at = &flags;
  const auto words = split(key, '.');
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    at = &at->table()
              ->try_emplace(std::string(words[i]), Value{.data = Value::Table{}, .place = place})
              .first->second;
  }
  at->table()->insert_or_assign(std::string(words.back()), std::move(value));
}

using Verb = CommandLine::Verb;

/// `fluytd config VERB`; its options are the daemon's.
void add_config_verbs(CLI::App& app, Verb& verb) {
  CLI::App* config = app.add_subcommand("config", "Show or check the configuration");
  config->require_subcommand(1)->fallthrough();
  for (const auto& [name, help, chosen] :
       {std::tuple{"default", "Print every key with its default and what it is about",
                   Verb::kConfigDefault},
        {"check", "Say everything that is wrong with the configuration", Verb::kConfigCheck},
        {"dump", "Print what is in force, and where each value comes from", Verb::kConfigDump}}) {
    config->add_subcommand(name, help)->fallthrough()->callback([&verb, chosen] { verb = chosen; });
  }
}

}  // namespace

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine out;
  CLI::App app(
      "fluytd: the container engine's daemon. It serves the Kubernetes CRI and fluyt's own\n"
      "interface on one unix socket.");
  app.name("fluytd");
  app.set_version_flag("--version", "fluytd " FLUYT_VERSION);
  app.add_option("--config", out.invocation.config_file,
                 cat("Configuration (TOML), with conf.d/*.toml beside it; flags win over it [",
                     kDefaultConfigFile, "]"))
      ->type_name("FILE");
  std::map<const KeyFlag*, std::string> given;
  for (const KeyFlag& flag : kKeyFlags) {
    app.add_option(flag.flag, given[&flag], flag.help)->type_name(flag.type);
  }
  std::vector<std::string> bin_dirs;
  app.add_option(kBinDirFlag, bin_dirs, "CNI plugins; may be repeated [/opt/cni/bin /usr/lib/cni]")
      ->type_name("DIR")
      ->delimiter(':')
      ->take_all();
  add_config_verbs(app, out.verb);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    out.verb = app.exit(e, std::cout, std::cerr) == 0 ? Verb::kDone : Verb::kUsage;
    return out;
  }
  Value& flags = out.invocation.flags;
  for (const KeyFlag& flag : kKeyFlags) {
    if (app.count(flag.flag) == 0) continue;
    say(flags, flag.key, flag.flag, {.data = given[&flag], .place = {}});
  }
  if (!bin_dirs.empty()) {
    Value::List list;
    for (const std::string& dir : bin_dirs) list.push_back({.data = dir, .place = {}});
    say(flags, "cni.bin_dirs", kBinDirFlag, {.data = std::move(list), .place = {}});
  }
  return out;
}

}  // namespace fluyt::daemon
