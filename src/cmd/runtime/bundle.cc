#include "cmd/runtime/bundle.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/strings.h"
#include "base/time.h"
#include "runtime/checkpoint/checkpoint.h"
#include "sys/file.h"

namespace fluyt::commands {

Result<Loaded> load_bundle(const std::string& path, const std::string& config) {
  Loaded out;
  char* real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return Error::from_errno(errno, cat("option --bundle: ", quote(path)));
  out.bundle = real;
  free(real);
  const std::string file = config.starts_with('/') ? config : cat(out.bundle, "/", config);
  auto text = sys::read_file(file, oci::kMaxSpecBytes);
  if (!text.ok()) {
    if (text.error().errno_value() != ENOENT) return std::move(text).error();
    return Error(Code::kNotFound, cat("JSON specification file ", file, " not found"));
  }
  out.text = std::move(*text);
  out.spec = FLUYT_TRY_CONTEXT(oci::parse_spec(out.text), file);
  return out;
}

Record record_of(const std::string& id, const Loaded& loaded, const runtime::Made& made) {
  Record record;
  record.id = id;
  record.bundle = loaded.bundle;
  const std::string root = loaded.spec.root ? loaded.spec.root->path : "";
  record.rootfs = root.starts_with('/') ? root : cat(loaded.bundle, "/", root);
  record.pid = made.pid;
  record.start_time = made.start_time;
  record.created = format_rfc3339_nano(now_unix_ns());
  record.owner = getuid();
  record.annotations = loaded.spec.annotations;
  record.cgroup = made.cgroup;
  record.root_mount = made.root_mount;
  const bool terminal = loaded.spec.process && loaded.spec.process->terminal;
  if (!terminal) {
    record.descriptors =
        runtime::checkpoint::describe_descriptors().value_or(runtime::checkpoint::Descriptors());
  }
  return record;
}

}  // namespace fluyt::commands
