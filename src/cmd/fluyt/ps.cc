#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/ports.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

std::string status_text(const cri::ContainerStatus& status, int64_t now) {
  switch (status.state()) {
    case cri::CONTAINER_CREATED:
      return "Created";
    case cri::CONTAINER_RUNNING:
      return cat("Up ", human_duration(std::max<int64_t>(now - status.started_at(), 0)));
    case cri::CONTAINER_EXITED: {
      std::string why = cat("Exited (", status.exit_code(), ")");
      if (status.reason() != "Completed" && status.reason() != "Error" &&
          !status.reason().empty()) {
        why += cat(" ", status.reason());
      }
      return cat(why, " ", ago(status.finished_at(), now));
    }
    default:
      return "Unknown";
  }
}

// What the pod's status has beside CRI's fields.
std::vector<PublishedPort> ports_of(const cri::PodSandboxStatusResponse& status) {
  std::vector<PublishedPort> ports;
  const auto info = status.info().find("info");
  if (info == status.info().end()) return ports;
  const auto json = nlohmann::json::parse(info->second, nullptr, false);
  if (!json.is_object()) return ports;
  for (const auto& port : json.value("portMappings", nlohmann::json::array())) {
    if (!port.is_object()) continue;
    ports.push_back({port.value("hostIp", ""), port.value("hostPort", uint16_t{0}),
                     port.value("containerPort", uint16_t{0}), port.value("protocol", "")});
  }
  return ports;
}

class ListContainers final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-a,--all", all_, "show those that do not run, too");
    options.flag("-q,--quiet", quiet_, "print ids alone");
    options.flag("--no-trunc", whole_, "show ids in full");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    const auto listed = FLUYT_TRY(client->list_containers());
    std::vector<cri::Container> containers;
    for (const cri::Container& container : listed.containers()) {
      if (all_ || container.state() == cri::CONTAINER_RUNNING) containers.push_back(container);
    }
    std::sort(containers.begin(), containers.end(),
              [](const auto& a, const auto& b) { return a.created_at() > b.created_at(); });
    if (quiet_) {
      for (const cri::Container& c : containers) print(shown_id(c.id()) + "\n");
      return 0;
    }
    if (*format == Format::kJson) {
      std::vector<const google::protobuf::Message*> messages;
      for (const cri::Container& c : containers) messages.push_back(&c);
      print(to_json(messages) + "\n");
      return 0;
    }
    return table(*client, containers);
  }

 private:
  std::string shown_id(const std::string& id) const {
    return printable(whole_ ? id : short_id(id));
  }

  Result<int> table(Client& client, const std::vector<cri::Container>& containers) const {
    std::map<std::string, std::string> pods;
    const auto sandboxes = FLUYT_TRY(client.list_sandboxes());
    for (const cri::PodSandbox& pod : sandboxes.items()) pods[pod.id()] = pod.metadata().name();
    const int64_t now = now_unix_ns();
    std::map<std::string, std::string> ports;  // by pod
    Table table({"NAME", "ID", "IMAGE", "STATUS", "AGE", "PORTS", "POD"});
    for (const cri::Container& container : containers) {
      auto status = client.container_status(container.id());
      // One that was removed since the list is no error of this command.
      if (!status.ok() && status.error().code() == Code::kNotFound) continue;
      if (!status.ok()) return std::move(status).error();
      const cri::ContainerStatus& s = status->status();
      const std::string& image = s.image().user_specified_image().empty()
                                     ? s.image().image()
                                     : s.image().user_specified_image();
      std::string published;
      if (s.state() == cri::CONTAINER_RUNNING)
        published = FLUYT_TRY(ports_text_of(client, container.pod_sandbox_id(), ports));
      table.add({container.metadata().name(), shown_id(container.id()),
                 image.starts_with("sha256:") ? short_id(image) : image, status_text(s, now),
                 human_duration(std::max<int64_t>(now - container.created_at(), 0)), published,
                 pods[container.pod_sandbox_id()]});
    }
    print(table.text());
    return 0;
  }

  static Result<std::string> ports_text_of(Client& client, const std::string& pod,
                                           std::map<std::string, std::string>& known) {
    const auto [at, fresh] = known.try_emplace(pod);
    if (!fresh) return at->second;
    const auto status = client.sandbox_status(pod);
    if (!status.ok() && status.error().code() != Code::kNotFound) return status.error();
    if (status.ok()) at->second = ports_text(ports_of(*status));
    return at->second;
  }

  std::string format_ = "table";
  bool all_ = false;
  bool quiet_ = false;
  bool whole_ = false;
};

}  // namespace

CommandInfo ps_command() {
  return {.name = "ps",
          .arguments = "[OPTIONS]",
          .summary = "List containers",
          .details =
              "Examples:\n"
              "  fluyt ps          those that run\n"
              "  fluyt ps -a       all\n"
              "  fluyt ps -aq      ids, for scripts",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<ListContainers>()); }};
}

}  // namespace fluyt::cli
