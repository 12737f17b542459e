#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/copy/tree.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/copy_plan.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

constexpr size_t kPieceBytes = 256UL << 10U;

class Copy final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-a,--archive", keep_owners_, "keep owners and groups by their numbers");
    options.flag("-L,--follow-link", follow_, "of a source that is a link, copy what it leads to");
    options.positional("SOURCE", source_, Options::Need::kRequired);
    options.positional("TARGET", target_, Options::Need::kRequired);
  }

  Result<int> run(Context& context) override {
    const CopyPlace source = parse_copy_place(source_);
    const CopyPlace target = parse_copy_place(target_);
    if (source.is_here() == target.is_here())
      return context.usage("one of SOURCE and TARGET is expected to be CONTAINER:PATH");
    if (target.is_tar() && is_terminal(Stream::kOut))
      return context.usage("a tar is not for a terminal: send standard output elsewhere");
    Client* client = FLUYT_TRY(context.client());
    const std::string& reference = source.is_here() ? target.container : source.container;
    const std::string id = FLUYT_TRY(find_container(*client, reference)).id();
    FLUYT_TRY(source.is_here() ? into(*client, id, source, target)
                               : out_of(*client, id, source, target));
    return 0;
  }

 private:
  /// Paths in a container begin at its root.
  static constexpr const char* kRoot = "/";

  static Result<std::string> here() {
    std::error_code failed;
    std::string path = std::filesystem::current_path(failed).string();
    if (!failed) return path;
    return Error::from_errno(failed.value(), "the working directory");
  }

  Result<CopySide> side_here(const std::string& path, bool follow) const {
    if (path.empty()) return Error(Code::kInvalidArgument, "a path is expected, not \"\"");
    CopySide side;
    side.path = path;
    side.base = FLUYT_TRY(here());
    struct stat info{};
    // A slash behind a link asks for what it leads to.
    const int done = follow ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info);
    if (done == 0) {
      side.kind = S_ISDIR(info.st_mode) ? CopyKind::kDirectory : CopyKind::kFile;
    } else if (errno != ENOENT) {
      return Error::from_errno(errno, quote(path, 1024));
    }
    return side;
  }

  static Result<CopySide> side_there(Client& client, const std::string& id, const std::string& path,
                                     Client::LastLink last_link) {
    CopySide side{path, kRoot, CopyKind::kMissing};
    const auto status = client.stat_file(id, path, last_link);
    if (!status.ok() && status.error().code() == Code::kNotFound) return side;
    if (!status.ok()) return status.error();
    side.kind = status->kind() == control::StatFileResponse::DIRECTORY ? CopyKind::kDirectory
                                                                       : CopyKind::kFile;
    return side;
  }

  Client::LastLink last_link() const {
    return follow_ ? Client::LastLink::kFollow : Client::LastLink::kKeep;
  }

  static Error no_such(const std::string& path) {
    return Error(Code::kNotFound, cat("no such file or directory: ", quote(path, 1024)));
  }

  Result<> into(Client& client, const std::string& id, const CopyPlace& source,
                const CopyPlace& target) const {
    control::WriteFilesRequest::Start start;
    start.set_container_id(id);
    start.set_keep_owners(keep_owners_);
    if (source.is_tar()) {
      start.set_folder(target.path);
      return client.write_files(start, [](const Client::ByteSink& sink) -> Result<> {
        while (true) {
          std::string piece(kPieceBytes, '\0');
          piece.resize(FLUYT_TRY(sys::read_some(sys::FdRef(0), piece)));
          if (piece.empty()) return {};
          FLUYT_TRY(sink(piece));
        }
      });
    }
    const CopySide from = FLUYT_TRY(side_here(source.path, follow_));
    if (from.kind == CopyKind::kMissing) return no_such(source.path);
    const CopySide to = FLUYT_TRY(side_there(client, id, target.path, Client::LastLink::kFollow));
    const CopyPlan plan = FLUYT_TRY(plan_copy(from, to));
    start.set_folder(plan.folder);
    return client.write_files(start, [&](const Client::ByteSink& sink) {
      return send_tree(source.path, plan.name, follow_ ? Links::kFollow : Links::kKeep, sink);
    });
  }

  Result<> out_of(Client& client, const std::string& id, const CopyPlace& source,
                  const CopyPlace& target) const {
    const CopySide from = FLUYT_TRY(side_there(client, id, source.path, last_link()));
    if (from.kind == CopyKind::kMissing) return no_such(source.path);
    control::ReadFilesRequest request;
    request.set_container_id(id);
    request.set_path(source.path);
    request.set_follow_link(follow_);
    if (target.is_tar()) {
      // What it would be called in a folder.
      request.set_name(FLUYT_TRY(plan_copy(from, {".", kRoot, CopyKind::kDirectory})).name);
      return client.read_files(request, [](std::string_view bytes) -> Result<> {
        if (write_out(Stream::kOut, bytes)) return {};
        return Error(Code::kCancelled, "standard output takes no more");
      });
    }
    const CopyPlan plan = FLUYT_TRY(plan_copy(from, FLUYT_TRY(side_here(target.path, true))));
    request.set_name(plan.name);
    auto tree = FLUYT_TRY(TreeReceiver::create(
        plan.folder, keep_owners_ ? TreeReceiver::Owner::kKept : TreeReceiver::Owner::kCaller));
    FLUYT_TRY(
        client.read_files(request, [&](std::string_view bytes) { return tree->push(bytes); }));
    return tree->finish();
  }

  std::string source_;
  std::string target_;
  bool keep_owners_ = false;
  bool follow_ = false;
};

}  // namespace

CommandInfo cp_command() {
  return {
      .name = "cp",
      .arguments = "[OPTIONS] CONTAINER:PATH PATH|-, or PATH|- CONTAINER:PATH",
      .summary = "Copy files out of a container or into it, whether it runs or not",
      .details =
          "As cp -r: into a folder that is there, else under the target's own name; a source that\n"
          "ends in /. is what lies in the folder. \"-\" is a tar, from standard input or to "
          "standard\n"
          "output. What is copied in belongs to the container's root, what is copied out to who\n"
          "calls. Devices, sockets and what the kernel makes up (/proc, /sys) are left out, and\n"
          "files that come out have no setuid bit.\n\n"
          "Examples:\n"
          "  fluyt cp web:/etc/nginx/nginx.conf .\n"
          "  fluyt cp ./site/. web:/srv/www\n"
          "  fluyt cp web:/var/log - | tar t",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Copy>()); }};
}

}  // namespace fluyt::cli
