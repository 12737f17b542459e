#include <signal.h>
#include <sys/stat.h>

#include <utility>

#include "base/strings.h"
#include "image/archive/members.h"
#include "image/archive/members_unpack.h"
#include "image/layer/unpack.h"
#include "image/layer/worker.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::image::archive {

namespace {

constexpr int kMaxLinkHops = 8;
constexpr int64_t kReapMs = 5000;

class Tar final : public Members {
 public:
  Tar(sys::TempDir scratch, sys::Fd folder, MemberTable table)
      : scratch_(std::move(scratch)), folder_(std::move(folder)), table_(std::move(table)) {}

  Result<bool> has(const std::string& name) const override { return find(name).ok(); }

  Result<sys::Fd> open(const std::string& name) const override {
    const std::string file = std::to_string(FLUYT_TRY(find(name))->number);
    // Before it is opened, which does something to a device: the worker had a hostile archive.
    const auto info = FLUYT_TRY(sys::find_stat(folder_, file));
    if (!info.has_value() || !S_ISREG(info->st_mode))
      return Error(Code::kInternal, cat("archive: ", quote(name), ": was not unpacked"));
    return sys::open(folder_, file, O_RDONLY | O_NOFOLLOW);
  }

  Result<MemberInfo> info(const std::string& name) const override {
    return FLUYT_TRY(find(name))->info;
  }

 private:
  Result<const Member*> find(const std::string& name) const {
    std::string at = clean_name(name).value_or("");
    for (int hops = 0; hops <= kMaxLinkHops; ++hops) {
      if (const auto file = table_.files.find(at); file != table_.files.end()) return &file->second;
      const auto link = table_.links.find(at);
      if (link == table_.links.end()) break;
      at = link->second;
    }
    return Error(Code::kNotFound, cat("archive: ", quote(name), ": no such file in it"));
  }

  sys::TempDir scratch_;
  sys::Fd folder_;
  MemberTable table_;
};

// Ends it where nobody waits for it any more.
struct Worker {
  sys::Process process;
  ~Worker() {
    if (!process.valid()) return;
    process.kill(SIGKILL).ignore("it is waited for all the same");
    process.wait(Deadline::after_ms(kReapMs)).ignore("a process stuck in the kernel is left to it");
  }
};

Result<MemberTable> unpack(const std::string& path, const std::string& scratch,
                           const TarOptions& options) {
  const sys::Fd input = FLUYT_TRY(sys::open(path, O_RDONLY));
  const auto bytes = static_cast<uint64_t>(FLUYT_TRY(sys::stat_of(input)).st_size);
  if (bytes > options.limit_bytes) {
    return Error(Code::kResourceExhausted, cat("its ", bytes, " bytes do not fit: ",
                                               options.limit_bytes, " are to be had on the disk"));
  }
  const sys::Fd folder = FLUYT_TRY(sys::open(scratch, O_RDONLY | O_DIRECTORY));
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  sys::SpawnOptions spawn;
  spawn.args = {options.unpack_program, "--form", "members", "--max-unpacked-bytes",
                std::to_string(options.limit_bytes)};
  spawn.in = input;
  spawn.pass = {{folder, kTreeFd}, {report.write, kReportFd}};
  spawn.dies_with_us = true;  // its input does not end with us
  Worker worker{FLUYT_TRY_CONTEXT(sys::spawn(spawn), "start the unpacker")};
  report.write.reset();
  const std::string text = FLUYT_TRY(read_report(report.read, options.cancelled));
  const auto status = FLUYT_TRY(worker.process.wait(Deadline::after_ms(kReapMs)));
  if (!status) return Error(Code::kInternal, "the unpacker closed its report but did not end");
  worker.process = sys::Process();
  // An empty archive's report is empty, too.
  if (status->signal != 0 || (status->code != 0 && text.empty())) {
    return Error(Code::kInternal,
                 cat("the unpacker ended with status ", status->shell_code(), " and no report"));
  }
  return parse_members_report(text);
}

}  // namespace

Result<std::unique_ptr<Members>> members_in(sys::TempDir scratch, MemberTable table) {
  sys::Fd folder = FLUYT_TRY(sys::open(scratch.path(), O_PATH | O_DIRECTORY));
  return std::unique_ptr<Members>(
      std::make_unique<Tar>(std::move(scratch), std::move(folder), std::move(table)));
}

Result<std::unique_ptr<Members>> open_tar(const std::string& path, const TarOptions& options) {
  sys::TempDir folder = FLUYT_TRY(sys::TempDir::create(options.scratch));
  MemberTable table = FLUYT_TRY_CONTEXT(unpack(path, folder.path(), options), quote(path));
  return members_in(std::move(folder), std::move(table));
}

std::optional<std::string> clean_name(std::string_view name) {
  std::vector<std::string> out;
  for (const std::string_view piece : split(name, '/')) {
    if (piece == "..") return std::nullopt;
    if (!piece.empty() && piece != ".") out.emplace_back(piece);
  }
  return join(out, "/");
}

}  // namespace fluyt::image::archive
