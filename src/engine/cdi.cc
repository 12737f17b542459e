#include "engine/cdi.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "base/strings.h"
#include "oci/cdi/cdi.h"
#include "spec/cdi.h"
#include "sys/file.h"

namespace fluyt::engine {

namespace {

constexpr size_t kMaxFiles = 4096;

struct Read {
  std::vector<spec::cdi::Found> files;
  std::vector<std::string> refused;  // with the reason
};

// Who may write such a file runs hooks as root: it is to be root's, or ours.
Result<> check_owner(const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return Error(Code::kInvalidArgument, "expected a regular file");
  if ((info.st_uid != 0 && info.st_uid != geteuid()) || (info.st_mode & S_IWOTH) != 0) {
    return Error(Code::kPermissionDenied,
                 "expected a file that is root's and that others cannot write to");
  }
  return {};
}

Result<oci::cdi::File> read_one(sys::FdRef folder, const std::string& name) {
  const sys::Fd file = FLUYT_TRY(sys::open(folder, name, O_RDONLY | O_NONBLOCK));
  FLUYT_TRY(check_owner(FLUYT_TRY(sys::stat_of(file))));
  const std::string text = FLUYT_TRY(sys::read_all(file, oci::cdi::kMaxFileBytes));
  return oci::cdi::parse_file(
      text, name.ends_with(".json") ? oci::cdi::Form::kJson : oci::cdi::Form::kYaml);
}

bool is_cdi_file(const std::string& name) {
  return name.ends_with(".json") || name.ends_with(".yaml") || name.ends_with(".yml");
}

Result<> read_folder(const std::string& path, size_t place, Read& out) {
  auto folder = sys::open(path, O_RDONLY | O_DIRECTORY);
  if (!folder.ok() && folder.error().code() == Code::kNotFound) return {};
  if (!folder.ok()) return std::move(folder).error();
  std::vector<std::string> names = FLUYT_TRY(sys::list_dir(*folder));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (!is_cdi_file(name)) continue;
    const std::string file = cat(path, "/", name);
    if (out.files.size() + out.refused.size() >= kMaxFiles) {
      return Error(Code::kResourceExhausted, cat(path, ": more than ", kMaxFiles, " files"));
    }
    auto read = read_one(*folder, name);
    if (read.ok()) {
      out.files.push_back({file, place, std::move(*read)});
    } else {
      out.refused.push_back(cat(file, ": ", read.error().message()));
    }
  }
  return {};
}

Error with_refused(Error error, const Read& read) {
  constexpr size_t kMaxNamed = 8;
  std::string text = error.message();
  for (size_t i = 0; i < read.refused.size() && i < kMaxNamed; ++i)
    text += cat("; not used: ", read.refused[i]);
  return {error.code(), text};
}

// Type and numbers of the node on the host, where the file leaves them out.
Result<> look_at(oci::cdi::DeviceNode& node) {
  if (!node.type.empty() && (node.type == "p" || (node.major && node.minor))) {
    if (!node.major) node.major = 0;
    if (!node.minor) node.minor = 0;
    return {};
  }
  const std::string& path = node.host_path.empty() ? node.path : node.host_path;
  const auto found = FLUYT_TRY_CONTEXT(sys::find_stat(sys::kCwd, path), "device node");
  const mode_t type = found ? found->st_mode & S_IFMT : 0;
  const std::string is(type == S_IFBLK ? "b" : type == S_IFCHR ? "c" : type == S_IFIFO ? "p" : "");
  if (is.empty()) {
    return Error(Code::kFailedPrecondition,
                 cat("device node ", quote(path), ": ", found ? "is no device" : "is not there"));
  }
  if (!node.type.empty() && node.type != is && !(node.type == "u" && is == "c")) {
    return Error(Code::kFailedPrecondition,
                 cat("device node ", quote(path), ": is of type ", is, ": expected ", node.type));
  }
  if (node.type.empty()) node.type = is;
  if (!node.major) node.major = static_cast<int64_t>(major(found->st_rdev));
  if (!node.minor) node.minor = static_cast<int64_t>(minor(found->st_rdev));
  return {};
}

}  // namespace

Result<> add_cdi_devices(const std::vector<std::string>& folders,
                         const std::vector<std::string>& devices, oci::Spec& spec) {
  if (devices.empty()) return {};
  Read read;
  for (size_t i = 0; i < folders.size(); ++i) FLUYT_TRY(read_folder(folders[i], i, read));
  auto edits = spec::cdi::edits_of(read.files, devices);
  if (!edits.ok()) return with_refused(std::move(edits).error(), read);
  for (oci::cdi::DeviceNode& node : edits->device_nodes)
    FLUYT_TRY_CONTEXT(look_at(node), "CDI_devices");
  return spec::cdi::apply(*edits, spec);
}

}  // namespace fluyt::engine
