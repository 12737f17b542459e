#pragma once

#include <string>

namespace fluyt::cli {

enum class ReportForm { kTable, kJson };
enum class Shown { kAll, kMissing };

struct HostReport {
  std::string text;       // to be printed as it is
  bool complete = false;  // pods have all that they need
};
/// Looks at this host, by fluytd's configuration: that in `config_file`, unless it is empty.
HostReport report_host(const std::string& config_file, ReportForm form, Shown which);

}  // namespace fluyt::cli
