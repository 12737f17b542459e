#include "host/configuration.h"

#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "host/probe.h"
#include "sys/process.h"

namespace fluyt::host {

namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDumpBytes = 4UL << 20U;
constexpr int64_t kPatienceMs = 10'000;

// What stands in front of "  # PLACE". The strings, lists and booleans that `dump` writes are
// JSON's.
Json value_of(std::string_view text) {
  const size_t place = text.rfind("  # ");
  if (place != std::string_view::npos) text = text.substr(0, place);
  return Json::parse(trim(text), nullptr, false);
}

void take(const Json& value, std::string& into) {
  if (value.is_string()) into = value.get<std::string>();
}

void take(const Json& value, std::vector<std::string>& into) {
  if (!value.is_array()) return;
  into.clear();
  for (const Json& item : value) {
    if (item.is_string()) into.push_back(item.get<std::string>());
  }
}

void take(const std::string& key, const Json& value, Options& into) {
  if (key == "root") take(value, into.root);
  if (key == "cni.conf_dir") take(value, into.cni_conf_dir);
  if (key == "cni.bin_dirs") take(value, into.cni_bin_dirs);
  if (key == "network.builtin" && value.is_boolean()) into.network_builtin = value.get<bool>();
  if (key == "cgroup.driver") into.systemd_driver = value == "systemd";
  if (key == "image.layer_form") into.erofs_layers = value == "erofs";
  if (key == "image.root_driver") into.copied_roots = value == "copy";
}

// "# read: FILE" lines are in front.
std::string files_of(std::string_view dump) {
  constexpr std::string_view kRead = "# read: ";
  std::vector<std::string> files;
  for (const std::string_view line : split(dump, '\n')) {
    if (line.starts_with(kRead)) files.emplace_back(line.substr(kRead.size()));
  }
  return files.empty() ? "no file: defaults" : join(files, ", ");
}

Result<std::string> dump_of(const std::string& fluytd, const std::string& file) {
  sys::SpawnOptions options;
  options.args = {fluytd, "config", "dump"};
  if (!file.empty()) options.args.insert(options.args.end(), {"--config", file});
  for (const char* name : {"PATH", "LD_LIBRARY_PATH"}) {
    if (const char* value = std::getenv(name)) options.env.push_back(cat(name, "=", value));
  }
  auto ran =
      FLUYT_TRY(sys::run(std::move(options), "", kMaxDumpBytes, Deadline::after_ms(kPatienceMs)));
  if (ran.timed_out) return Error(Code::kDeadlineExceeded, "fluytd config dump: no end");
  if (ran.status.shell_code() == 0) return std::move(ran.out);
  const auto lines = split(trim(ran.err), '\n');
  return Error(
      Code::kInvalidArgument,
      cat(lines.front(), lines.size() > 1 ? cat("; and ", lines.size() - 1, " more") : ""));
}

}  // namespace

Options options_from_dump(std::string_view dump) {
  Options options;
  std::string table;
  for (const std::string_view line : split(dump, '\n')) {
    if (line.starts_with('[')) {
      table = cat(line.substr(1, line.find(']') - 1), ".");
      continue;
    }
    const size_t equals = line.find(" = ");
    if (line.starts_with('#') || equals == std::string_view::npos) continue;
    take(cat(table, line.substr(0, equals)), value_of(line.substr(equals + 3)), options);
  }
  return options;
}

Configuration read_configuration(const std::string& fluytd, const std::string& file) {
  std::vector<Ability> all;
  Findings findings("fluytd", all);
  Findings::About about{.name = "configuration",
                        .need = Need::kPods,
                        .loses = "fluytd does not start",
                        .remedy = "fluytd config check says all that is wrong"};
  if (fluytd.empty()) {
    findings.add(std::move(about), Has::kYes, "fluytd is not here: its defaults are looked at");
    return {.options = {}, .ability = all.front()};
  }
  const auto dump = dump_of(fluytd, file);
  if (!dump.ok()) {
    findings.add(std::move(about), Has::kNo, dump.error().message());
    return {.options = {}, .ability = all.front()};
  }
  findings.add(std::move(about), Has::kYes, files_of(*dump));
  return {.options = options_from_dump(*dump), .ability = all.front()};
}

std::string find_fluytd(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    std::string path = folder + "/fluytd";
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return {};
}

}  // namespace fluyt::host
