#include <algorithm>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

class Pods final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-q,--quiet", quiet_, "print ids alone");
    options.flag("--no-trunc", whole_, "show ids in full");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    auto listed = FLUYT_TRY(client->list_sandboxes());
    std::sort(listed.mutable_items()->begin(), listed.mutable_items()->end(),
              [](const auto& a, const auto& b) { return a.created_at() > b.created_at(); });
    if (quiet_) {
      for (const cri::PodSandbox& pod : listed.items()) print(shown_id(pod.id()) + "\n");
      return 0;
    }
    if (*format == Format::kJson) {
      std::vector<const google::protobuf::Message*> messages;
      for (const cri::PodSandbox& pod : listed.items()) messages.push_back(&pod);
      print(to_json(messages) + "\n");
      return 0;
    }
    return table(*client, listed);
  }

 private:
  std::string shown_id(const std::string& id) const {
    return printable(whole_ ? id : short_id(id));
  }

  Result<int> table(Client& client, const cri::ListPodSandboxResponse& listed) const {
    const int64_t now = now_unix_ns();
    Table table({"NAME", "NAMESPACE", "ID", "STATUS", "IP", "AGE"});
    for (const cri::PodSandbox& pod : listed.items()) {
      auto status = client.sandbox_status(pod.id());
      if (!status.ok() && status.error().code() == Code::kNotFound) continue;
      if (!status.ok()) return std::move(status).error();
      const bool host = status->status().linux().namespaces().options().network() == cri::NODE;
      const std::string& ip = status->status().network().ip();
      table.add({pod.metadata().name(), pod.metadata().namespace_(), shown_id(pod.id()),
                 pod.state() == cri::SANDBOX_READY ? "Ready" : "NotReady", host ? "(host)" : ip,
                 human_duration(std::max<int64_t>(now - pod.created_at(), 0))});
    }
    print(table.text());
    return 0;
  }

  std::string format_ = "table";
  bool quiet_ = false;
  bool whole_ = false;
};

}  // namespace

CommandInfo pods_command() {
  return {.name = "pods",
          .arguments = "[OPTIONS]",
          .summary = "List pods",
          .details =
              "A container of \"fluyt run\" has a pod of its own name; those of Kubernetes are "
              "shown, too.",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Pods>()); }};
}

}  // namespace fluyt::cli
