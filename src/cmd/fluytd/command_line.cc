#include <CLI/CLI.hpp>
#include <iostream>

#include "base/strings.h"
#include "settings.h"

namespace fluyt::daemon {

Result<LogLevel> parse_log_level(const std::string& text) {
  if (text == "trace") return LogLevel::kTrace;
  if (text == "debug") return LogLevel::kDebug;
  if (text == "info") return LogLevel::kInfo;
  if (text == "warn") return LogLevel::kWarn;
  if (text == "error") return LogLevel::kError;
  return Error(Code::kInvalidArgument,
               cat(quote(text), ": expected trace, debug, info, warn or error"));
}

namespace {

/// What was given on the command line; empty where it was not.
struct Flags {
  std::string config;
  std::string root, state, listen, certs_dir, cni_conf_dir, log_level;
  std::vector<std::string> cni_bin_dirs;
};

void over(std::string& to, const std::string& flag) {
  if (!flag.empty()) to = flag;
}

Result<> apply(const Flags& flags, Settings& settings) {
  settings.config_file = flags.config;
  if (!flags.config.empty()) FLUYT_TRY(read_config(flags.config, settings));
  over(settings.root, flags.root);
  over(settings.state, flags.state);
  over(settings.listen, flags.listen);
  over(settings.certs_dir, flags.certs_dir);
  over(settings.cni_conf_dir, flags.cni_conf_dir);
  if (!flags.cni_bin_dirs.empty()) settings.cni_bin_dirs = flags.cni_bin_dirs;
  if (!flags.log_level.empty()) {
    settings.log_level = FLUYT_TRY_CONTEXT(parse_log_level(flags.log_level), "--log-level");
  }
  for (const auto& [name, path] : {std::pair{"root", settings.root},
                                   {"state", settings.state},
                                   {"certs-dir", settings.certs_dir},
                                   {"cni-conf-dir", settings.cni_conf_dir}}) {
    if (!path.starts_with('/')) {
      return Error(Code::kInvalidArgument,
                   cat("--", name, ": ", quote(path), ": expected an absolute path"));
    }
  }
  if (!settings.listen.starts_with("unix:/")) {
    return Error(Code::kInvalidArgument,
                 cat("--listen: ", quote(settings.listen), ": expected unix:/ABSOLUTE/PATH"));
  }
  return {};
}

}  // namespace

Result<Run> parse_command_line(int argc, char** argv, Settings& settings) {
  Flags flags;
  CLI::App app(
      "fluytd: the container engine's daemon. It serves the Kubernetes CRI and fluyt's own\n"
      "interface on one unix socket.");
  app.name("fluytd");
  app.set_version_flag("--version", "fluytd " FLUYT_VERSION);
  app.add_option("--config", flags.config, "Configuration (TOML); flags win over it")
      ->type_name("FILE");
  app.add_option("--root", flags.root, "Images and records [/var/lib/fluyt]")->type_name("DIR");
  app.add_option("--state", flags.state, "What ends with the boot [/run/fluyt]")->type_name("DIR");
  app.add_option("--listen", flags.listen, "Where to serve [unix:/run/fluyt/fluyt.sock]")
      ->type_name("unix:PATH");
  app.add_option("--certs-dir", flags.certs_dir, "hosts.toml files [/etc/fluyt/certs.d]")
      ->type_name("DIR");
  app.add_option("--cni-conf-dir", flags.cni_conf_dir, "CNI configurations [/etc/cni/net.d]")
      ->type_name("DIR");
  app.add_option("--cni-bin-dir", flags.cni_bin_dirs,
                 "CNI plugins; may be repeated [/opt/cni/bin /usr/lib/cni]")
      ->type_name("DIR")
      ->delimiter(':')
      ->take_all();
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn or error [info]")
      ->type_name("LEVEL");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr) == 0 ? Run::kDone : Run::kUsage;
  }
  FLUYT_TRY(apply(flags, settings));
  return Run::kServe;
}

}  // namespace fluyt::daemon
