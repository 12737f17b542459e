#include "base/strings.h"
#include "engine/checkpoint_archive.h"
#include "engine/core.h"
#include "oci/runtime_spec.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kDefaultMs = 300'000;

/// The runtime specification with the process as it was made: what the monitor keeps has no
/// environment.
Result<> complete_spec(const std::string& path, const Container& container) {
  const std::string text = FLUYT_TRY(sys::read_file(path, oci::kMaxSpecBytes));
  auto spec = oci::parse_spec(text);
  if (!spec.ok()) return std::move(spec).error();
  auto process = oci::parse_process(container.process_json);
  if (!process.ok()) return std::move(process).error();
  spec->process = std::move(*process);
  return sys::write_file_atomic(sys::kCwd, path, oci::to_json(*spec), 0600);
}

Result<> write(Engine::Core& core, const ContainerEntry& entry, const std::string& folder,
               const std::string& location, Deadline deadline) {
  const ContainerPtr container = entry.value();
  const SandboxPtr sandbox = entry.sandbox->value();
  const auto client = FLUYT_TRY(core.find_client(*entry.sandbox));
  if (!client) {
    return Error(Code::kFailedPrecondition, "its sandbox is not ready");
  }
  const auto stop = [&]() -> Result<> {
    // The remove waits for us, and the archive may be large.
    if (entry.ending || entry.sandbox->ending)
      return Error(Code::kCancelled, "it is being removed");
    if (!deadline.passed()) return {};
    return Error(Code::kDeadlineExceeded, "the checkpoint was not written in time");
  };
  FLUYT_TRY(client->checkpoint({.id = container->id,
                                .bundle = core.bundle_dir(sandbox->id, container->id),
                                .folder = folder},
                               deadline));
  FLUYT_TRY(complete_spec(folder + "/spec.dump", *container));
  FLUYT_TRY(sys::write_file_atomic(
      sys::kCwd, folder + "/config.dump",
      config_dump(*container, container->config.name.name, now_unix_ns()), 0600));
  // The same plan again: the root is there.
  const sys::OverlayMount root =
      FLUYT_TRY(core.parts.images->create_root(container->id, container->image_id));
  if (!root.lower_dirs.empty()) {
    FLUYT_TRY(write_rootfs_diff(root.upper_dir, folder + "/rootfs-diff.tar", stop));
  }
  return write_archive(folder, location, stop);
}

}  // namespace

Result<> Engine::checkpoint_container(const std::string& id, const std::string& location,
                                      int64_t timeout_ms) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  FLUYT_TRY(check_location(location));
  const std::scoped_lock verbs(entry->verbs);
  const ContainerPtr container = entry->value();
  if (container->state != ContainerState::kRunning) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected running"));
  }
  const std::string folder = core_->checkpoint_dir() + "/" + container->id;
  FLUYT_TRY(sys::remove_tree(folder));
  FLUYT_TRY(sys::make_dirs(folder, 0700));
  auto written = write(*core_, *entry, folder, location,
                       Deadline::after_ms(timeout_ms > 0 ? timeout_ms : kDefaultMs));
  core_->log_if_failed(sys::remove_tree(folder), folder);
  if (!written.ok()) {
    return std::move(written).error().add_context(cat("container ", container->id));
  }
  return {};
}

}  // namespace fluyt::engine
