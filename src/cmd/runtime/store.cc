#include "cmd/runtime/store.h"

#include <fcntl.h>
#include <regex.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "base/id.h"
#include "base/strings.h"
#include "sys/file.h"  // NOLINT(readability-duplicate-include): the one above is the system's
#include "sys/mount.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr const char* kState = "state.json";
constexpr const char* kUnfinished = "unfinished.json";
constexpr const char* kConfig = "config.json";
constexpr const char* kGate = "exec.fifo";
constexpr const char* kPacked = "exec.packed";
constexpr const char* kReport = "report.fifo";
constexpr const char* kPaused = "paused";
constexpr size_t kMaxState = 1U << 20U;

using Json = nlohmann::json;

Result<> check_id(const std::string& id) {
  if (is_valid_container_id(id)) return {};
  return Error(Code::kInvalidArgument,
               cat("invalid container ID format: ", quote(id),
                   ": invalid character or name, expected letters, digits and _+-. alone"));
}

Json to_json(const Record& record) {
  Json legacy = Json::array();
  for (const auto& [controller, directory] : record.cgroup.legacy)
    legacy.push_back({controller, directory});
  Json cgroup = {{"unified", record.cgroup.unified}, {"legacy", legacy}};
  if (const auto& unit = record.cgroup.unit)
    cgroup["unit"] = {{"name", unit->name}, {"slice", unit->slice}, {"user", unit->user}};
  return {{"id", record.id},
          {"bundle", record.bundle},
          {"rootfs", record.rootfs},
          {"pid", record.pid},
          {"startTime", record.start_time},
          {"bootId", record.boot_id},
          {"created", record.created},
          {"owner", record.owner},
          {"annotations", record.annotations},
          {"rootMount", record.root_mount},
          {"descriptors", record.descriptors},
          {"noNewKeyring", record.no_new_keyring},
          {"cgroup", cgroup}};
}

Record from_json(const Json& json) {
  Record record;
  json.at("id").get_to(record.id);
  json.at("bundle").get_to(record.bundle);
  json.at("rootfs").get_to(record.rootfs);
  json.at("pid").get_to(record.pid);
  json.at("startTime").get_to(record.start_time);
  json.at("bootId").get_to(record.boot_id);
  json.at("created").get_to(record.created);
  json.at("owner").get_to(record.owner);
  json.at("annotations").get_to(record.annotations);
  record.root_mount = json.value("rootMount", uint64_t{0});
  record.descriptors = json.value("descriptors", std::vector<std::string>());
  record.no_new_keyring = json.value("noNewKeyring", false);
  json.at("cgroup").at("unified").get_to(record.cgroup.unified);
  json.at("cgroup").at("legacy").get_to(record.cgroup.legacy);
  if (const auto unit = json.at("cgroup").find("unit"); unit != json.at("cgroup").end()) {
    record.cgroup.unit.emplace();
    unit->at("name").get_to(record.cgroup.unit->name);
    unit->at("slice").get_to(record.cgroup.unit->slice);
    unit->at("user").get_to(record.cgroup.unit->user);
  }
  return record;
}

Result<Record> read_record(std::string_view text, std::string_view shown) {
  try {
    return from_json(Json::parse(text));
  } catch (const Json::exception& broken) {
    return Error(Code::kDataLoss, cat(shown, ": ", broken.what()));
  }
}

}  // namespace

std::string_view status_name(Status status) {
  switch (status) {
    case Status::kCreating:
      return "creating";
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kStopped:
      break;
  }
  return "stopped";
}

namespace {

// The sticky bit keeps what lies below $XDG_RUNTIME_DIR from whoever cleans up there (XDG Base
// Directory Specification).
mode_t mode_of_root(const std::string& root) {
  const char* runtime_dir = getenv("XDG_RUNTIME_DIR");
  const bool below =
      runtime_dir != nullptr && *runtime_dir != '\0' && root.starts_with(cat(runtime_dir, "/"));
  return below ? S_ISVTX | 0700 : 0700;
}

}  // namespace

Result<Folder> Folder::make(const std::string& root, const std::string& id) {
  FLUYT_TRY(check_id(id));
  std::string path = cat(root, "/", id);
  if (mkdir(path.c_str(), 0700) != 0) {
    if (errno == ENOENT) {
      FLUYT_TRY_CONTEXT(sys::make_dirs(root, mode_of_root(root)), "option --root");
      if (mkdir(path.c_str(), 0700) == 0) return open(root, id);
    }
    if (errno == EEXIST) {
      return Error(Code::kAlreadyExists, cat("container with id exists: ", quote(id)));
    }
    return Error::from_errno(errno, cat("mkdir(", quote(path), ")"));
  }
  return open(root, id);
}

Result<Folder> Folder::open(const std::string& root, const std::string& id) {
  FLUYT_TRY(check_id(id));
  std::string path = cat(root, "/", id);
  auto fd = sys::open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd.ok()) {
    if (fd.error().errno_value() != ENOENT) return std::move(fd).error();
    return Error(Code::kNotFound, cat("container does not exist: ", quote(id)));
  }
  return Folder(std::move(path), std::move(*fd));
}

Result<> Folder::save_unfinished(const Record& record) const {
  return sys::write_file_atomic(
      fd_, kUnfinished, to_json(record).dump(-1, ' ', false, Json::error_handler_t::replace), 0600);
}

Result<> Folder::made() const {
  if (renameat(fd_.raw(), kUnfinished, fd_.raw(), kState) == 0) return {};
  return Error::from_errno(errno, cat("renameat(", path_, ", ", kUnfinished, ")"));
}

Result<Record> Folder::load() const {
  auto text = sys::read_file(fd_, kState, kMaxState);
  if (!text.ok()) {
    return Error(Code::kFailedPrecondition,
                 cat(path_, ": the container is being created, or its creation was cut short"));
  }
  return read_record(*text, cat(path_, "/", kState));
}

std::optional<Record> Folder::find_unfinished() const {
  auto text = sys::read_file(fd_, kUnfinished, kMaxState);
  if (!text.ok()) return std::nullopt;
  auto record = read_record(*text, kUnfinished);
  return record.ok() ? std::optional(std::move(*record)) : std::nullopt;
}

Result<> Folder::save_config(std::string_view text) const {
  const sys::Fd file =
      FLUYT_TRY(sys::open(fd_, kConfig, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  return sys::write_all(file, text);
}

Result<oci::Spec> Folder::load_config() const {
  return oci::parse_spec(FLUYT_TRY(sys::read_file(fd_, kConfig, oci::kMaxSpecBytes)));
}

namespace {

// Names this content of a file, across a rename of it.
std::optional<std::string> stamp_of(sys::FdRef folder, const char* name) {
  auto found = sys::find_stat(folder, name);
  if (!found.ok() || !*found) return std::nullopt;
  const struct stat& info = **found;
  return cat(info.st_ino, " ", info.st_size, " ", info.st_mtim.tv_sec, ".", info.st_mtim.tv_nsec);
}

std::optional<std::string> stamp_of_both(sys::FdRef folder, const char* state) {
  auto first = stamp_of(folder, kConfig);
  auto second = stamp_of(folder, state);
  return first && second ? std::optional(cat(*first, "\n", *second)) : std::nullopt;
}

}  // namespace

Result<> Folder::save_packed(const Record& record, const oci::Spec& spec) const {
  const auto stamp = stamp_of_both(fd_, kUnfinished);
  if (!stamp) return {};
  Packed packed{.id = record.id,
                .pid = record.pid,
                .start_time = record.start_time,
                .boot_id = record.boot_id,
                .bundle = record.bundle,
                .annotations = {record.annotations.begin(), record.annotations.end()},
                .no_new_keyring = record.no_new_keyring,
                .cgroup = record.cgroup,
                .process = spec.process,
                .linux_ = spec.linux_};
  const sys::Fd file =
      FLUYT_TRY(sys::open(fd_, kPacked, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  return sys::write_all(file, pack(packed, *stamp));
}

std::optional<Packed> Folder::find_packed() const {
  auto text = sys::read_file(fd_, kPacked, kMaxState);
  if (!text.ok()) return std::nullopt;
  const auto stamp = stamp_of_both(fd_, kState);
  return stamp ? unpack(*text, *stamp) : std::nullopt;
}

// No call waits for a lock and for a time too, and who holds it is nearly always done at once.
Result<> Folder::lock(Deadline deadline) {
  useconds_t pause_us = 500;
  while (flock(fd_.raw(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return Error::from_errno(errno, cat("flock(", quote(path_), ")"));
    if (deadline.passed()) {
      return Error(Code::kDeadlineExceeded,
                   cat(path_, ": another command has not done with the container yet"));
    }
    usleep(pause_us);
    pause_us = std::min<useconds_t>(pause_us * 2, 20'000);
  }
  if (is_named()) return {};
  unlock();
  return Error(Code::kNotFound, cat("container does not exist: ", quote(id())));
}

void Folder::unlock() { flock(fd_.raw(), LOCK_UN); }

bool Folder::is_named() const {
  struct stat ours{};
  struct stat named{};
  return fstat(fd_.raw(), &ours) == 0 && lstat(path_.c_str(), &named) == 0 &&
         ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

std::string Folder::id() const { return path_.substr(path_.rfind('/') + 1); }

bool Folder::outlives_boot() const {
  auto magic = sys::fs_magic(fd_);
  return !magic.ok() || *magic != sys::kTmpfsMagic;
}

Result<> Folder::mark_paused(bool paused) const {
  if (paused) {
    return Result<>(sys::open(fd_, kPaused, O_WRONLY | O_CREAT | O_CLOEXEC, 0600).ok()
                        ? Result<>()
                        : Error::from_errno(errno, cat("open(", kPaused, ")")));
  }
  if (unlinkat(fd_.raw(), kPaused, 0) != 0 && errno != ENOENT)
    return Error::from_errno(errno, cat("unlinkat(", kPaused, ")"));
  return {};
}

bool Folder::is_marked_paused() const { return faccessat(fd_.raw(), kPaused, F_OK, 0) == 0; }

Result<> Folder::remove() const {
  const sys::Fd root =
      FLUYT_TRY(sys::open(path_.substr(0, path_.rfind('/') + 1), O_PATH | O_DIRECTORY));
  return is_named() ? sys::remove_tree(root, id()) : Result<>();
}

void Folder::give_up() {
  if (lock().ok()) remove().ignore("the error that led here is the one to tell");
}

Result<sys::Fd> open_nameless(sys::FdRef folder, const char* name, int flags) {
  const sys::Fd place = FLUYT_TRY(sys::open(folder, name, O_PATH | O_NOFOLLOW));
  auto mount = sys::clone_mount(place, sys::Depth::kOne);
  // Without the right to mounts there is no such container either.
  if (!mount.ok()) return sys::open(folder, name, flags | O_NOFOLLOW);
  return sys::open(cat("/proc/self/fd/", mount->raw()), flags);
}

Result<Folder::Gate> Folder::make_gate() const {
  for (const char* name : {kGate, kReport}) {
    if (mkfifoat(fd_.raw(), name, 0600) != 0)
      return Error::from_errno(errno, cat("mkfifoat(", name, ")"));
  }
  Gate gate;
  // A container in whose PID namespace the first process waits sees what that has open.
  gate.gate = FLUYT_TRY(open_nameless(fd_, kGate, O_RDWR));
  gate.report = FLUYT_TRY(open_nameless(fd_, kReport, O_RDWR));
  return gate;
}

bool Folder::has_gate() const {
  auto info = sys::find_stat(fd_, kGate);
  return info.ok() && *info;
}

Result<sys::Fd> Folder::open_gate() const {
  // The first process holds both for reading and writing, so neither open waits.
  sys::Fd report = FLUYT_TRY(sys::open(fd_, kReport, O_RDONLY | O_NONBLOCK | O_NOFOLLOW));
  const sys::Fd gate = FLUYT_TRY(sys::open(fd_, kGate, O_WRONLY | O_NONBLOCK | O_NOFOLLOW));
  FLUYT_TRY(sys::remove_file(fd_, kGate));
  FLUYT_TRY(sys::remove_file(fd_, kReport));
  FLUYT_TRY(sys::write_all(gate, "\n"));
  FLUYT_TRY(sys::set_nonblocking(report, false));
  return report;
}

Result<> Folder::wait_executed(sys::FdRef report) {
  const std::string why = FLUYT_TRY(sys::read_all(report, 1U << 16U));
  if (!why.empty()) return Error(Code::kFailedPrecondition, why);
  return {};
}

Result<Status> status_of(const Folder& folder, const Record& record) {
  return status_of(folder, Running{.pid = record.pid,
                                   .start_time = record.start_time,
                                   .boot_id = record.boot_id,
                                   .cgroup = record.cgroup});
}

Result<Status> status_of(const Folder& folder, const Running& running) {
  auto now = sys::process_stat(running.pid);
  if (!now.ok() || now->start_time != running.start_time || now->ended) return Status::kStopped;
  if (folder.outlives_boot() && FLUYT_TRY(sys::boot_id()) != running.boot_id)
    return Status::kStopped;
  if (folder.is_marked_paused()) return Status::kPaused;
  auto frozen = runtime::cgroup::frozen(running.cgroup);
  if (frozen.ok() && *frozen) return Status::kPaused;
  return folder.has_gate() ? Status::kCreated : Status::kRunning;
}

Result<std::vector<std::string>> list_ids(const std::string& root) {
  std::vector<std::string> ids;
  for (std::string& name : FLUYT_TRY(sys::list_dir(root))) {
    if (is_valid_container_id(name)) ids.push_back(std::move(name));
  }
  return ids;
}

Result<std::vector<std::string>> matching_ids(const std::string& root, const std::string& pattern) {
  regex_t expression{};
  if (regcomp(&expression, pattern.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
    return Error(Code::kInvalidArgument,
                 cat("option --regex: ", quote(pattern), ": expected a regular expression"));
  }
  auto ids = list_ids(root);
  if (ids.ok()) {
    std::erase_if(*ids, [&](const std::string& id) {
      return regexec(&expression, id.c_str(), 0, nullptr, 0) != 0;
    });
  }
  regfree(&expression);
  return ids;
}

}  // namespace fluyt::commands
