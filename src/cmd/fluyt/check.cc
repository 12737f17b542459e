#include "cmd/fluyt/check.h"

#include "cmd/fluyt/check/host_report.h"
#include "cmd/fluyt/output.h"

namespace fluyt::cli {

namespace {

class Check final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-q,--quiet", quiet_, "show what is missing alone");
    options.value("--config", config_, "FILE", "fluytd's configuration [/etc/fluyt/fluytd.toml]");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    const HostReport report =
        report_host(config_, *format == Format::kJson ? ReportForm::kJson : ReportForm::kTable,
                    quiet_ ? Shown::kMissing : Shown::kAll);
    print(report.text);
    return report.complete ? 0 : kExitFailed;
  }

 private:
  bool quiet_ = false;
  std::string config_;
  std::string format_ = "table";
};

}  // namespace

CommandInfo check_command() {
  return {
      .name = "check",
      .arguments = "[OPTIONS]",
      .summary = "Show what this host can do for pods",
      .details =
          "Tries out what fluyt uses of the kernel and the host, each for itself, and says of "
          "what\n"
          "is missing what does not work and what to do. It needs no running fluytd and leaves\n"
          "nothing behind. What needs root and is asked without is \"no\".\n\n"
          "Exit status: 0 everything that pods need is there; 1 some of it is missing, which the\n"
          "last line names; 2 wrong usage.\n\n"
          "Examples:\n"
          "  fluyt check\n"
          "  fluyt check -q\n"
          "  fluyt check --format json",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Check>()); }};
}

}  // namespace fluyt::cli
