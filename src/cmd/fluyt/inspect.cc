#include <memory>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/image_json.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/resolve.h"

namespace fluyt::cli {

namespace {

// One document after another, as a list.
std::string to_list(const std::vector<std::string>& documents) {
  std::string out = "[";
  for (const std::string& document : documents) {
    out += out.size() == 1 ? "\n  " : ",\n  ";
    for (const char c : document) out += c == '\n' ? std::string("\n  ") : std::string(1, c);
  }
  return out + "\n]";
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
    std::vector<std::string> found;
    int status = 0;
    for (const std::string& reference : references_) {
      auto one = find(*client, reference);
      if (one.ok()) {
        found.push_back(std::move(*one));
        continue;
      }
      complain(one.error());
      status = kExitFailed;
    }
    if (references_.size() > 1) {
      print(to_list(found) + "\n");
    } else if (!found.empty()) {
      print(found[0] + "\n");
    }
    return status;
  }

 private:
  bool wants(std::string_view type) const { return type_.empty() || type_ == type; }

  Result<std::string> find(Client& client, const std::string& reference) const {
    if (wants("container")) {
      auto container = find_container(client, reference);
      if (container.ok()) return to_json(FLUYT_TRY(client.container_status(container->id())));
      if (!is_missing(container.error())) return std::move(container).error();
    }
    if (wants("pod")) {
      auto sandbox = find_sandbox(client, reference);
      if (sandbox.ok()) return to_json(FLUYT_TRY(client.sandbox_status(sandbox->id())));
      if (!is_missing(sandbox.error())) return std::move(sandbox).error();
    }
    if (wants("image")) {
      auto image = client.inspect_image(reference);
      if (image.ok()) return image_json(*image);
      // What cannot be an image's name is simply not one here.
      if (!is_missing(image.error()) && image.error().code() != Code::kInvalidArgument) {
        return std::move(image).error();
      }
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
