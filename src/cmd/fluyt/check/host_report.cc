#include "cmd/fluyt/check/host_report.h"

#include <vector>

#include "cmd/fluyt/check/abilities.h"
#include "host/check.h"
#include "host/configuration.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

// Beside this program, or where a package puts it.
std::string find_fluytd() {
  std::vector<std::string> folders = {"/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin"};
  const auto own = sys::read_link(sys::kCwd, "/proc/self/exe");
  if (own.ok()) folders.insert(folders.begin(), own->substr(0, own->rfind('/')));
  return host::find_fluytd(folders);
}

}  // namespace

HostReport report_host(const std::string& config_file, ReportForm form, Shown which) {
  const host::Configuration configuration = host::read_configuration(find_fluytd(), config_file);
  std::vector<host::Ability> all = {configuration.ability};
  for (host::Ability& ability : host::examine_host(configuration.options)) {
    all.push_back(std::move(ability));
  }
  return {.text = form == ReportForm::kJson ? abilities_json(all, which) + "\n"
                                            : abilities_text(all, which),
          .complete = host::missing(all).empty()};
}

}  // namespace fluyt::cli
