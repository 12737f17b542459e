#include <fcntl.h>
#include <stdlib.h>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

constexpr size_t kPieceBytes = 256 * 1024;

class Import final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("FILE", file_, Options::Need::kRequired);
    options.value("-n,--name", name_, "NAME",
                  "give the image this name (else those in the archive)");
    options.flag("-q,--quiet", quiet_, "print ids alone");
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    control::ImportRequest::Start start;
    start.set_name(name_);
    const auto imported = FLUYT_TRY(file_ == "-" ? upload(*client, start, sys::Fd(::dup(0)))
                                                 : from_path(*client, start));
    for (const control::Image& image : imported.images()) {
      if (quiet_) {
        print(printable(image.id()) + "\n");
        continue;
      }
      const std::string name = image.repo_tags().empty() ? "<none>" : join_tags(image);
      print(
          cat(printable(image.id()), "  ", printable(name), "  ", human_size(image.size()), "\n"));
    }
    return 0;
  }

 private:
  static std::string join_tags(const control::Image& image) {
    return join({image.repo_tags().begin(), image.repo_tags().end()}, " ");
  }

  Result<control::ImportResponse> from_path(Client& client, control::ImportRequest::Start& start) {
    sys::Fd fd = FLUYT_TRY(sys::open(file_, O_RDONLY));
    const struct stat st = FLUYT_TRY(sys::stat_of(fd));
    if (!S_ISDIR(st.st_mode)) return upload(client, start, std::move(fd));
    // A folder is read by fluytd itself, which knows nothing of where we stand.
    start.set_folder_path(FLUYT_TRY(sys::read_link(sys::kCwd, cat("/proc/self/fd/", fd.raw()))));
    return client.import(start, [] { return Result<std::string>(std::string()); });
  }

  static Result<control::ImportResponse> upload(Client& client,
                                                const control::ImportRequest::Start& start,
                                                sys::Fd fd) {
    return client.import(start, [&]() -> Result<std::string> {
      std::string piece(kPieceBytes, '\0');
      piece.resize(FLUYT_TRY(sys::read_some(fd, piece)));
      return piece;
    });
  }

  std::string file_;
  std::string name_;
  bool quiet_ = false;
};

}  // namespace

CommandInfo import_command() {
  return {
      .name = "import",
      .arguments = "[OPTIONS] FILE",
      .summary = "Take images from an archive or folder",
      .details =
          "FILE is an oci-archive or docker-archive (as \"docker save\" writes it; gzip allowed),\n"
          "\"-\" for standard input, or an OCI layout folder on the host of fluytd.\n\n"
          "Examples:\n"
          "  fluyt import app.tar\n"
          "  docker save app | fluyt import -\n"
          "  fluyt import --name app:dev ./oci-layout",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Import>()); }};
}

}  // namespace fluyt::cli
