#include <fcntl.h>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/one_of_several.h"
#include "cmd/fluyt/terminal.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

class Save final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("IMAGE", images_, Options::Need::kRequired);
    options.value("-o,--output", output_, "FILE", "write there in place of standard output");
    options.value("--format", format_, "FORMAT", "docker or oci");
  }

  Result<int> run(Context& context) override {
    control::SaveRequest request;
    for (const std::string& image : images_) request.add_images(image);
    if (format_ == "oci") {
      request.set_format(control::SaveRequest::OCI);
    } else if (format_ != "docker") {
      return context.usage(cat("--format: ", quote(format_, 64), " is not docker or oci"));
    }
    if (!output_.empty()) return to_file(context, request);
    if (is_terminal(Stream::kOut)) {
      return context.usage("an archive is no text for a terminal: use --output or a redirection");
    }
    Client* client = FLUYT_TRY(context.client());
    FLUYT_TRY(client->save(request, tell, [](std::string_view bytes) -> Result<> {
      if (write_out(Stream::kOut, bytes)) return {};
      return Error(Code::kCancelled, "standard output was closed");
    }));
    return 0;
  }

 private:
  // A file that stands there is whole: it gets its name at the end.
  Result<int> to_file(Context& context, const control::SaveRequest& request) const {
    Client* client = FLUYT_TRY(context.client());
    const struct stat* existing = nullptr;
    const auto found = FLUYT_TRY(sys::find_stat(sys::kCwd, output_));
    if (found.has_value()) existing = &*found;
    const bool in_place = existing != nullptr && !S_ISREG(existing->st_mode);  // /dev/null, a pipe
    const std::string path = in_place ? output_ : cat(output_, ".part");
    const int flags = in_place ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC;
    const sys::Fd file = FLUYT_TRY(sys::open(path, flags, 0666));
    auto saved = client->save(request, tell,
                              [&](std::string_view bytes) { return sys::write_all(file, bytes); });
    if (in_place) {
      if (!saved.ok()) return std::move(saved).error();
      return 0;
    }
    if (saved.ok() && ::rename(path.c_str(), output_.c_str()) != 0) {
      saved = Error::from_errno(errno, cat("rename(", quote(path), ", ", quote(output_), ")"));
    }
    if (saved.ok()) return 0;
    sys::remove_file(sys::kCwd, path).ignore("the error to tell is the first");
    return std::move(saved).error();
  }

  std::vector<std::string> images_;
  std::string output_;
  std::string format_ = "docker";
};

}  // namespace

CommandInfo save_command() {
  return {
      .name = "save",
      .arguments = "[OPTIONS] IMAGE...",
      .summary = "Write images to an archive",
      .details =
          "The archive has the names that were given; an image given by id has none in it. What\n"
          "they share is in it once. \"fluyt load\", \"docker load\", podman and skopeo read "
          "it.\n\n"
          "Examples:\n"
          "  fluyt save -o app.tar app:1.2\n"
          "  fluyt save app:1.2 busybox | zstd > both.tar.zst\n"
          "  fluyt save --format oci app:1.2 > layout.tar",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Save>()); }};
}

}  // namespace fluyt::cli
