#include <memory>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/resolve.h"

namespace fluyt::cli {

namespace {

using MessagePtr = std::unique_ptr<google::protobuf::Message>;

template <class Message>
MessagePtr keep(Message message) {
  return std::make_unique<Message>(std::move(message));
}

bool is_missing(const Error& error) { return error.code() == Code::kNotFound; }

class Inspect final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("NAME", references_, Options::Need::kRequired);
    options.value("--type", type_, "TYPE", "container, pod or image (the first that there is)");
  }

  Result<int> run(Context& context) override {
    if (!type_.empty() && type_ != "container" && type_ != "pod" && type_ != "image") {
      return context.usage(cat("--type: ", quote(type_, 64), " is not container, pod or image"));
    }
    Client* client = FLUYT_TRY(context.client());
    std::vector<MessagePtr> found;
    std::vector<const google::protobuf::Message*> messages;
    for (const std::string& reference : references_) {
      found.push_back(FLUYT_TRY(find(*client, reference)));
      messages.push_back(found.back().get());
    }
    print(messages.size() == 1 ? to_json(*messages[0]) : to_json(messages));
    print("\n");
    return 0;
  }

 private:
  bool wants(std::string_view type) const { return type_.empty() || type_ == type; }

  Result<MessagePtr> find(Client& client, const std::string& reference) const {
    if (wants("container")) {
      auto container = find_container(client, reference);
      if (container.ok()) return keep(FLUYT_TRY(client.container_status(container->id())));
      if (!is_missing(container.error())) return std::move(container).error();
    }
    if (wants("pod")) {
      auto sandbox = find_sandbox(client, reference);
      if (sandbox.ok()) return keep(FLUYT_TRY(client.sandbox_status(sandbox->id())));
      if (!is_missing(sandbox.error())) return std::move(sandbox).error();
    }
    if (wants("image")) {
      auto image = client.image_status(reference);
      if (image.ok() && image->has_image()) return keep(std::move(*image));
      // What cannot be an image's name is simply not one here.
      if (!image.ok() && image.error().code() != Code::kInvalidArgument)
        return std::move(image).error();
    }
    return Error(Code::kNotFound, cat("no ", type_.empty() ? "container, pod or image" : type_, " ",
                                      quote(reference, 128)));
  }

  std::vector<std::string> references_;
  std::string type_;
};

}  // namespace

CommandInfo inspect_command() {
  return {.name = "inspect",
          .arguments = "[OPTIONS] NAME...",
          .summary = "Show all there is to know about a container, pod or image, as JSON",
          .details =
              "Examples:\n"
              "  fluyt inspect web\n"
              "  fluyt inspect --type image busybox",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Inspect>()); }};
}

}  // namespace fluyt::cli
