#include <algorithm>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

using control::Finding;

constexpr int kExitFindings = 3;

const char* word_of(Finding::Kind kind) {
  switch (kind) {
    case Finding::CGROUP:
      return "cgroup";
    case Finding::MOUNT:
      return "mount";
    case Finding::FOLDER:
      return "folder";
    case Finding::NETWORK:
      return "network";
    case Finding::PROCESS:
      return "process";
    case Finding::SANDBOX:
      return "sandbox";
    case Finding::CONTAINER:
      return "container";
    case Finding::RECORD:
      return "record";
    case Finding::IMAGE_STORE:
      return "image store";
    default:
      return "unknown";
  }
}

// "cgroup /sys/fs/cgroup/fluyt/x: of no container; mended by: removing it"
std::string line_of(const Finding& finding, bool repair) {
  std::string line =
      cat(word_of(finding.kind()), " ", printable(finding.name()), ": ", printable(finding.what()));
  if (finding.mended()) return line + "; mended\n";
  if (repair && finding.mendable())
    return cat(line, "; not mended: ", printable(finding.failure()), "\n");
  return cat(line, "; to mend: ", printable(finding.mend()), "\n");
}

class Doctor final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("--repair", repair_, "mend what can be mended");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    const auto report = FLUYT_TRY(client->examine(repair_));
    if (*format == Format::kJson) {
      print(to_json(report) + "\n");
    } else {
      for (const Finding& finding : report.findings()) print(line_of(finding, repair_));
      if (report.findings().empty()) print("nothing found\n");
    }
    const bool left = std::any_of(report.findings().begin(), report.findings().end(),
                                  [](const Finding& finding) { return !finding.mended(); });
    return left ? kExitFindings : 0;
  }

 private:
  std::string format_ = "table";
  bool repair_ = false;
};

}  // namespace

CommandInfo doctor_command() {
  return {
      .name = "doctor",
      .arguments = "[OPTIONS]",
      .summary = "Find leaks and broken records, and mend them",
      .details =
          "Compares what fluytd has on record with what the kernel and the disks hold: cgroups,\n"
          "mounts, folders, monitors and networks of no sandbox, sandboxes without a monitor,\n"
          "containers without a process, records that could not be read, and what the image\n"
          "store keeps for nobody (\"fluyt gc --dry-run\" tells more). One line each.\n\n"
          "Exit status: 0 nothing was found, or all was mended; 3 something is left;\n"
          "1 fluytd could not be asked; 2 wrong usage.\n\n"
          "Examples:\n"
          "  fluyt doctor\n"
          "  fluyt doctor --repair",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Doctor>()); }};
}

}  // namespace fluyt::cli
