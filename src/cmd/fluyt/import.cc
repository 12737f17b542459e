#include <fcntl.h>
#include <stdlib.h>

#include <set>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

constexpr size_t kPieceBytes = 256 * 1024;

// What `load` and `import` share: an archive or folder on its way to fluytd.
class Loading {
 public:
  explicit Loading(Verbosity verbosity) : view_(Verb::kLoad, verbosity) {}

  /// `path` is "-" for standard input.
  Result<control::ImportResponse> from(Client& client, const std::string& path,
                                       control::ImportRequest::Start start) {
    if (path == "-") return upload(client, start, sys::Fd(::dup(0)));
    sys::Fd fd = FLUYT_TRY(sys::open(path, O_RDONLY));
    const struct stat st = FLUYT_TRY(sys::stat_of(fd));
    if (!S_ISDIR(st.st_mode)) return upload(client, start, std::move(fd));
    // A folder is read by fluytd itself, which knows nothing of where we stand.
    start.set_folder_path(FLUYT_TRY(sys::read_link(sys::kCwd, cat("/proc/self/fd/", fd.raw()))));
    return client.import(start, [] { return Result<std::string>(std::string()); }, viewer());
  }

 private:
  Result<control::ImportResponse> upload(Client& client, const control::ImportRequest::Start& start,
                                         sys::Fd fd) {
    return client.import(
        start,
        [&]() -> Result<std::string> {
          std::string piece(kPieceBytes, '\0');
          piece.resize(FLUYT_TRY(sys::read_some(fd, piece)));
          return piece;
        },
        viewer());
  }
  std::function<void(const control::ImportResponse&)> viewer() {
    return [this](const control::ImportResponse& response) { view_.update(response.layers()); };
  }

  LayerView view_;
};

class Load final : public Command {
 public:
  void declare(Options& options) override {
    options.value("-i,--input", input_, "FILE", "read this in place of standard input");
    options.value("--platform", platform_, "OS/ARCH", "in place of the host's");
    options.flag("-q,--quiet", quiet_, "show no progress");
  }

  Result<int> run(Context& context) override {
    if (input_ == "-" && is_terminal(Stream::kIn)) {
      return context.usage("an archive is expected on standard input, or --input FILE");
    }
    Client* client = FLUYT_TRY(context.client());
    control::ImportRequest::Start start;
    start.set_platform(platform_);
    Loading loading(quiet_ ? Verbosity::kQuiet : Verbosity::kNormal);
    const auto loaded = FLUYT_TRY(loading.from(*client, input_, start));
    std::set<std::string> told;  // an image with two names stands in the archive twice
    for (const control::Image& image : loaded.images()) {
      for (const std::string& name : image.repo_tags()) {
        told.insert(cat("Loaded image: ", printable(name), "\n"));
      }
      if (image.repo_tags().empty()) {
        told.insert(cat("Loaded image ID: ", printable(image.id()), "\n"));
      }
    }
    for (const std::string& line : told) print(line);
    return 0;
  }

 private:
  std::string input_ = "-";
  std::string platform_;
  bool quiet_ = false;
};

class Import final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("FILE", file_, Options::Need::kRequired);
    options.value("-n,--name", name_, "NAME",
                  "give the image this name (else those in the archive)");
    options.value("--platform", platform_, "OS/ARCH", "in place of the host's");
    options.flag("-q,--quiet", quiet_, "print ids alone");
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    control::ImportRequest::Start start;
    start.set_name(name_);
    start.set_platform(platform_);
    Loading loading(quiet_ ? Verbosity::kQuiet : Verbosity::kNormal);
    const auto imported = FLUYT_TRY(loading.from(*client, file_, start));
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

  std::string file_;
  std::string name_;
  std::string platform_;
  bool quiet_ = false;
};

}  // namespace

CommandInfo load_command() {
  return {.name = "load",
          .arguments = "[OPTIONS]",
          .summary = "Take images from an archive, as docker load does",
          .details =
              "The archive is what \"docker save\", \"fluyt save\", podman or skopeo write: a\n"
              "docker-archive or oci-archive, plain or compressed with gzip or zstd. What was "
              "loaded is\n"
              "safe on the disk when the command returns.\n\n"
              "Examples:\n"
              "  fluyt load -i app.tar\n"
              "  docker save app | fluyt load",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Load>()); }};
}

CommandInfo import_command() {
  return {
      .name = "import",
      .arguments = "[OPTIONS] FILE",
      .summary = "Take images from an archive or folder, and name them",
      .details =
          "FILE is an oci-archive or docker-archive (as \"docker save\" writes it; gzip and zstd\n"
          "allowed), \"-\" for standard input, or an OCI layout folder on the host of fluytd.\n\n"
          "Examples:\n"
          "  fluyt import app.tar\n"
          "  docker save app | fluyt import -\n"
          "  fluyt import --name app:dev ./oci-layout",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Import>()); }};
}

}  // namespace fluyt::cli
