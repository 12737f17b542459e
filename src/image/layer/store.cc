#include "image/layer/store.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/id.h"
#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/disk_room.h"
#include "image/layer/erofs_image.h"
#include "image/layer/erofs_mount.h"
#include "image/layer/staging.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxRecordBytes = 64UL << 20U;
constexpr size_t kReadBytes = 256UL << 10U;
constexpr std::chrono::milliseconds kTrashPatience{20'000};
constexpr std::chrono::milliseconds kTrashLook{100};  // how late a cancellation is noticed

std::string layer_path(const oci::Digest& diff_id) { return cat("layers/", diff_id.hex()); }

// What a dead process left half done.
Result<> sweep(sys::FdRef root, const char* folder, Logger* logger) {
  const sys::Fd in = FLUYT_TRY(sys::open(root, folder, O_PATH | O_DIRECTORY));
  Reaper::sweep(in, FLUYT_TRY(sys::list_dir(in)), folder, logger);
  return {};
}

Result<LayerInfo> read_record(sys::FdRef root, const std::string& folder) {
  return parse_layer_info(FLUYT_TRY(sys::read_file(root, folder + "/layer.json", kMaxRecordBytes)));
}

Result<LayerForm> choose_form(std::optional<LayerForm> form, const std::string& root) {
  const std::string staging = root + "/staging";
  if (form == LayerForm::kErofs) FLUYT_TRY_CONTEXT(erofs::probe(staging), "layers as EROFS images");
  if (form) return *form;
  const bool both = erofs::probe(staging).ok() && erofs::probe_ids(staging).ok();
  return both ? LayerForm::kErofs : LayerForm::kDirectory;
}

}  // namespace

Result<size_t> LayerArchive::read_at(uint64_t at, std::span<char> into) const {
  if (at >= bytes) return size_t{0};
  const size_t wanted = std::min<uint64_t>(into.size(), bytes - at);
  while (true) {
    const ssize_t got = ::pread(file.raw(), into.data(), wanted, static_cast<off_t>(offset + at));
    if (got > 0) return static_cast<size_t>(got);
    if (got == 0) return Error(Code::kDataLoss, "the file on disk is cut short");
    if (errno != EINTR) return Error::from_errno(errno, "pread(blob)");
  }
}

Result<oci::Digest> LayerArchive::pass_on(std::string_view algorithm, const ByteSink& sink,
                                          const std::atomic<bool>* cancelled) const {
  Hasher hasher = FLUYT_TRY(Hasher::create(algorithm));
  std::string buffer(kReadBytes, '\0');
  for (uint64_t done = 0; done < bytes;) {
    if (cancelled != nullptr && *cancelled)
      return Error(Code::kCancelled, "cancelled by the caller");
    const size_t got = FLUYT_TRY(read_at(done, buffer));
    const auto piece = std::string_view(buffer).substr(0, got);
    FLUYT_TRY(hasher.update(piece));
    FLUYT_TRY(sink(piece));
    done += got;
  }
  return hasher.finish();
}

Result<LayerForm> LayerStore::choose(std::optional<LayerForm> form) const {
  return choose_form(form, options_.root);
}

Result<std::unique_ptr<LayerStore>> LayerStore::open(Options options) {
  FLUYT_TRY(sys::make_dirs(options.root, 0700));
  sys::Fd root = FLUYT_TRY(sys::open(options.root, O_PATH | O_DIRECTORY));
  for (const char* folder : {"layers", "fixups", "staging", "trash", "aside"}) {
    FLUYT_TRY(sys::make_dirs_in(root, folder, 0700));
  }
  FLUYT_TRY(sweep(root, "staging", options.logger));
  FLUYT_TRY(sweep(root, "trash", options.logger));
  const LayerForm form = FLUYT_TRY(choose_form(options.form, options.root));
  sys::Fd sync_handle = FLUYT_TRY(sys::open(root, "layers", O_RDONLY | O_DIRECTORY));
  sys::Fd ahead_handle = FLUYT_TRY(sys::open(root, "layers", O_RDONLY | O_DIRECTORY));
  auto trash = std::make_unique<Reaper>(FLUYT_TRY(sys::open(root, "trash", O_RDONLY | O_DIRECTORY)),
                                        "trash", options.logger);
  return std::unique_ptr<LayerStore>(new LayerStore(std::move(options), form, std::move(root),
                                                    std::move(sync_handle), std::move(ahead_handle),
                                                    std::move(trash)));
}

Result<std::optional<LayerInfo>> LayerStore::find(const oci::Digest& diff_id) const {
  auto info = read_record(root_, layer_path(diff_id));
  if (!info.ok() && info.error().code() == Code::kNotFound) return std::optional<LayerInfo>();
  LayerInfo found = FLUYT_TRY_CONTEXT(std::move(info), cat("layer ", diff_id.text()));
  if (found.diff_id == diff_id) return std::optional(std::move(found));
  return Error(Code::kDataLoss,
               cat("layer ", diff_id.text(), ": its record is of ", found.diff_id.text()));
}

Result<std::optional<LayerArchive>> LayerStore::find_archive(const oci::Digest& diff_id) const {
  const auto info = FLUYT_TRY(find(diff_id));
  if (!info.has_value() || info->form != LayerForm::kErofs) return std::optional<LayerArchive>();
  sys::Fd file =
      FLUYT_TRY(sys::open(root_, cat(layer_path(diff_id), "/", kImageName), O_RDONLY | O_NOFOLLOW));
  return std::optional(LayerArchive{std::move(file), erofs::kArchiveOffset, info->unpacked_bytes});
}

bool LayerStore::has_archive(const oci::Digest& diff_id) const {
  const auto found = known(diff_id);
  return found.ok() && found->form == LayerForm::kErofs;
}

Result<std::vector<LayerInfo>> LayerStore::list(std::vector<std::string>* damaged) const {
  const sys::Fd folder = FLUYT_TRY(sys::open(root_, "layers", O_PATH | O_DIRECTORY));
  std::vector<LayerInfo> found;
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
    auto info = read_record(folder, name);
    if (info.ok() && info->diff_id.hex() == name) {
      found.push_back(std::move(info).value());
    } else if (damaged != nullptr) {
      damaged->push_back(name);
    }
  }
  return found;
}

LayerStore::~LayerStore() {
  const sys::Fd folder(::openat(root_.raw(), "layers", O_PATH | O_DIRECTORY | O_CLOEXEC));
  auto names = sys::list_dir(folder);
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    erofs::unmount_image(cat(options_.root, "/layers/", name, "/fs"))
        .ignore("the next one to open the store finds it mounted, which is as well");
  }
}

// One mount, and one page cache, for all who use the layer. What a process before us mounted is
// taken over.
Result<> LayerStore::mount(const oci::Digest& diff_id) const {
  const std::lock_guard<std::mutex> one_at_a_time(mounting_);
  const std::string folder = cat(options_.root, "/", layer_path(diff_id));
  if (!FLUYT_TRY(erofs::is_mounted(folder + "/fs"))) {
    FLUYT_TRY(erofs::mount_image(cat(folder, "/", kImageName), folder + "/fs"));
  }
  (*known_.lock())[diff_id.text()].mounted = true;
  return {};
}

Result<> LayerStore::remove(const oci::Digest& diff_id) const {
  known_.lock()->erase(diff_id.text());
  // What was an image's mount would hold on to the folder.
  FLUYT_TRY(erofs::unmount_image(cat(options_.root, "/", layer_path(diff_id), "/fs")));
  return discard(root_, layer_path(diff_id), options_.logger);
}

Result<> LayerStore::set_aside(const oci::Digest& diff_id, const std::string& boot_id) const {
  known_.lock()->erase(diff_id.text());
  // Who has the image mounted keeps that.
  FLUYT_TRY(erofs::unmount_image(cat(options_.root, "/", layer_path(diff_id), "/fs")));
  return move_aside(layer_path(diff_id), diff_id, boot_id);
}

Result<> LayerStore::move_aside(const std::string& path, const oci::Digest& id,
                                const std::string& boot_id) const {
  const std::string to = cat("aside/", id.hex(), ".", boot_id, ".", make_id().substr(0, 16));
  if (renameat(root_.raw(), path.c_str(), root_.raw(), to.c_str()) == 0 || errno == ENOENT)
    return {};
  return Error::from_errno(errno, cat("renameat(", quote(path), ", ", quote(to), ")"));
}

Result<std::vector<LayerStore::Aside>> LayerStore::list_aside() const {
  const sys::Fd folder = FLUYT_TRY(sys::open(root_, "aside", O_PATH | O_DIRECTORY));
  std::vector<Aside> found;
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
    const auto parts = split(name, '.');
    auto id = oci::Digest::parse(cat("sha256:", parts.front()));
    if (parts.size() != 3 || !id.ok()) continue;
    found.push_back({cat("aside/", name), std::move(*id), std::string(parts[1])});
  }
  return found;
}

Result<> LayerStore::remove_aside(const Aside& aside) const {
  return discard(root_, aside.path, options_.logger);
}

Result<LayerStore::Known> LayerStore::known(const oci::Digest& diff_id) const {
  {
    auto known = known_.lock();
    const auto at = known->find(diff_id.text());
    if (at != known->end()) return at->second;
  }
  const std::optional<LayerInfo> info = FLUYT_TRY(find(diff_id));
  if (!info) return Error(Code::kNotFound, cat("layer ", diff_id.text(), " is not there"));
  const Known found{.needs_chain = info->needs_chain(),
                    .has_lower_links = !info->lower_links.empty(),
                    .opaque_root = info->opaque_root,
                    .mounted = info->form == LayerForm::kDirectory,
                    .form = info->form};
  (*known_.lock())[diff_id.text()] = found;
  return found;
}

Result<std::vector<oci::Digest>> LayerStore::list_fixups() const {
  const sys::Fd folder = FLUYT_TRY(sys::open(root_, "fixups", O_PATH | O_DIRECTORY));
  std::vector<oci::Digest> found;
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
    found.push_back(FLUYT_TRY(oci::Digest::parse(cat("sha256:", name))));
  }
  return found;
}

Result<> LayerStore::remove_fixup(const oci::Digest& chain_id) const {
  return discard(root_, cat("fixups/", chain_id.hex()), options_.logger);
}

Result<> LayerStore::set_fixup_aside(const oci::Digest& chain_id,
                                     const std::string& boot_id) const {
  return move_aside(cat("fixups/", chain_id.hex()), chain_id, boot_id);
}

Result<> LayerStore::sync() const {
  if (syncfs(sync_handle_.raw()) != 0) return Error::from_errno(errno, "syncfs(layers)");
  return {};
}

void LayerStore::wait_for_room(uint64_t missing_bytes, const std::atomic<bool>& stop) const {
  struct statvfs info{};
  if (fstatvfs(sync_handle_.raw(), &info) != 0) return;  // who needs the figures asks again
  const auto available = available_bytes();
  const bool is_short = info.f_bavail < info.f_blocks / 10 || info.f_favail < info.f_files / 10 ||
                        (available.ok() && missing_bytes > *available);
  if (!is_short) return;
  for (auto waited = kTrashLook; waited <= kTrashPatience && !stop; waited += kTrashLook) {
    if (trash_->wait_until_done(kTrashLook)) return;
  }
}

Result<> LayerStore::write_ahead() const {
  if (syncfs(ahead_handle_.raw()) != 0) return Error::from_errno(errno, "syncfs(layers)");
  return {};
}

void LayerStore::forget_errors() const {
  sync().ignore("it is of what has gone");
  write_ahead().ignore("as above");
}

Result<uint64_t> LayerStore::available_bytes() const {
  const uint64_t free_bytes = FLUYT_TRY(free_bytes_of(sync_handle_));
  return free_bytes - std::min(free_bytes, options_.reserve_bytes);
}

}  // namespace fluyt::image
