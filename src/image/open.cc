#include <algorithm>
#include <set>

#include "base/strings.h"
#include "image/store.h"
#include "sys/file.h"
#include "sys/pid_lock.h"

namespace fluyt::image {

namespace {

constexpr int64_t kLockMs = 5'000;  // for children of a process that was killed

Result<sys::Fd> take_lock(const std::string& root) {
  auto lock = sys::take_pid_lock(root + "/lock", Deadline::after_ms(kLockMs));
  if (lock.ok() || lock.error().code() != Code::kAlreadyExists) return lock;
  return Error(
      Code::kFailedPrecondition,
      cat("image store ", quote(root), ": another process has it open: ", lock.error().message()));
}

enum class Disk { kKeptAll, kLostWrites };

// Whether what was written then, and maybe not synced, is whole now.
bool is_whole(const LayerRow& row, const WriteEpoch& now, Disk disk) {
  return row.durable || (disk == Disk::kKeptAll && now.can_tell_mounts() &&
                         row.boot_id == now.boot_id && row.mount_id == now.mount_id);
}

Result<> check_options(const StoreOptions& options) {
  if (!options.root.starts_with('/')) {
    return Error(Code::kInvalidArgument,
                 cat("root: ", quote(options.root), ": expected an absolute path"));
  }
  if (!options.unpack_program.starts_with('/')) {
    return Error(Code::kInvalidArgument, cat("unpack_program: ", quote(options.unpack_program),
                                             ": expected an absolute path"));
  }
  if (options.parallel_fetches == 0) {
    return Error(Code::kInvalidArgument, "parallel_fetches: 0: expected at least 1");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ImageStore>> ImageStore::open(StoreOptions options, Logger& logger) {
  FLUYT_TRY(check_options(options));
  const std::string root = options.root;
  FLUYT_TRY(sys::make_dirs(root, 0700));
  sys::Fd lock = FLUYT_TRY(take_lock(root));
  auto catalog = FLUYT_TRY(Catalog::open_mirrored(root + "/catalog.db", logger));
  auto blobs = FLUYT_TRY(BlobStore::open(root + "/blobs"));
  auto layers = FLUYT_TRY(LayerStore::open({.root = root,
                                            .unpack_program = options.unpack_program,
                                            .form = options.layer_form,
                                            .precedence = options.precedence,
                                            .logger = &logger}));
  auto roots = FLUYT_TRY(Roots::open(root + "/roots", options.root_driver, &logger));
  auto epoch = FLUYT_TRY(write_epoch_of(root));
  auto store =
      std::make_unique<Store>(std::move(options),
                              Store::Parts{std::move(lock), std::move(catalog), std::move(blobs),
                                           std::move(layers), std::move(roots), std::move(epoch)},
                              logger);
  FLUYT_TRY_CONTEXT(store->reconcile(), cat("image store ", quote(root)));
  return std::unique_ptr<ImageStore>(std::move(store));
}

Library& library_of(ImageStore& store) { return static_cast<Store&>(store); }

Store::Store(StoreOptions options, Parts parts, Logger& logger)
    : options_(std::move(options)),
      logger_(logger),
      lock_(std::move(parts.lock)),
      catalog_(std::move(parts.catalog)),
      blobs_(std::move(parts.blobs)),
      layers_(std::move(parts.layers)),
      roots_(std::move(parts.roots)),
      epoch_(std::move(parts.epoch)),
      settings_(std::make_shared<const Settings>(Settings{
          .verify = options_.verify,
          .keep_blobs = options_.keep_blobs,
          .parallel_fetches = options_.parallel_fetches,
          .max_fetches = options_.max_fetches,
          .registry =
              make_registry(options_.credentials, options_.certs_dir, options_.auth_file)})),
      fetches_(*layers_, blobs_) {
  syncer_ = std::make_unique<Syncer>(
      [this] {
        const auto synced = sync_now();
        if (synced.ok()) return Syncer::Outcome::kDone;
        logger_.error(synced.error().message());
        return Syncer::Outcome::kTryAgain;
      },
      [this] {
        const auto begun = layers_->write_ahead();
        if (begun.ok()) return;
        logger_.error(lost_writes(begun.error()).message());
        note_lost_writes();
        syncer_->ask();
      });
}

Store::~Store() {
  // Callers of pull() have to be gone; a pull that all of them left may still be cleaning up.
  std::unique_lock<std::mutex> lock(pulls_mutex_);
  for (auto& [key, flight] : pulls_) stop_pull(*flight);
  pulls_changed_.wait(lock, [this] { return running_pulls_ == 0; });
}

Result<> Store::reconcile() {
  lost_writes_ = FLUYT_TRY(sys::find_stat(sys::kCwd, lost_writes_note())).has_value();
  FLUYT_TRY(discard_broken());
  CatalogChange change;
  FLUYT_TRY(load_configs(change));
  FLUYT_TRY(sweep_roots(change));
  FLUYT_TRY(catalog_->commit(change));
  FLUYT_TRY(sweep_content());
  if (lost_writes_) FLUYT_TRY(forget_lost_writes());
  FLUYT_TRY(count_blobs());
  syncer_->ask();  // what a process that died in this boot had not synced
  return {};
}

// Layers that are not on disk, or whose bytes a power cut may have taken, go with their images.
Result<> Store::discard_broken() {
  std::set<oci::Digest> on_disk;
  std::vector<std::string> damaged;
  const auto found = FLUYT_TRY(layers_->list(&damaged));
  for (const LayerInfo& info : found) on_disk.insert(info.diff_id);
  for (const std::string& name : damaged) {
    logger_.warn(cat("layer ", quote(name), ": its record cannot be read; removed"));
    const auto digest = oci::Digest::parse(cat("sha256:", name));
    if (digest.ok()) FLUYT_TRY(give_up(*digest, layers_in_roots()));
  }
  CatalogChange change;
  std::vector<oci::Digest> before_boot;
  const Disk disk = lost_writes_ ? Disk::kLostWrites : Disk::kKeptAll;
  catalog_->read([&](const CatalogState& state) {
    std::set<oci::Digest> broken;
    for (const auto& [diff_id, row] : state.layers) {
      if (!on_disk.contains(diff_id) || !is_whole(row, epoch_, disk)) broken.insert(diff_id);
      if (broken.contains(diff_id) && row.boot_id != epoch_.boot_id) before_boot.push_back(diff_id);
    }
    for (const auto& [id, row] : state.images) {
      const bool hit = std::any_of(row.layers.begin(), row.layers.end(), [&](const auto& layer) {
        return broken.contains(layer.diff_id) || !state.layers.contains(layer.diff_id);
      });
      if (hit) change.drop_images.push_back(id);
    }
    change.drop_layers.assign(broken.begin(), broken.end());
    return 0;
  });
  for (const std::string& id : change.drop_images) {
    logger_.warn(cat("image ", id, ": discarded: layers are missing or were not yet durable"));
  }
  FLUYT_TRY(catalog_->commit(change));
  // Nobody stands on these, whatever root of then names them. The others go, or are set aside, with
  // all that has no row.
  for (const oci::Digest& layer : before_boot) FLUYT_TRY(layers_->remove(layer));
  return {};
}

Result<> Store::load_configs(CatalogChange& change) {
  const auto ids = catalog_->read([](const CatalogState& state) {
    std::vector<std::string> out;
    for (const auto& [id, row] : state.images) out.push_back(id);
    return out;
  });
  const auto load = [&](const std::string& id) -> Result<oci::ImageConfig> {
    const oci::Digest digest = FLUYT_TRY(oci::Digest::parse(id));
    return oci::parse_image_config(FLUYT_TRY(blobs_.get(digest, oci::kMaxConfigBytes)));
  };
  for (const std::string& id : ids) {
    auto config = load(id);
    if (config.ok()) {
      (*configs_.lock())[id] = std::make_shared<const oci::ImageConfig>(std::move(*config));
    } else {
      logger_.warn(cat("image ", id, ": discarded: ", config.error().message()));
      change.drop_images.push_back(id);
    }
  }
  return {};
}

// A row without a root was never finished; a root without a row is nobody's.
Result<> Store::sweep_roots(CatalogChange& change) {
  const auto listed = FLUYT_TRY(roots_.list());
  const std::set<std::string> on_disk(listed.begin(), listed.end());
  std::set<std::string> known;
  catalog_->read([&](const CatalogState& state) {
    for (const auto& [id, row] : state.roots) {
      if (on_disk.contains(id)) {
        known.insert(id);
      } else {
        change.drop_roots.push_back(id);
      }
    }
    return 0;
  });
  for (const std::string& id : on_disk) {
    if (!known.contains(id)) FLUYT_TRY(roots_.remove(id));
  }
  return {};
}

// Everything on disk is a candidate; what images and roots use stays.
Result<> Store::sweep_content() {
  Content content;
  const auto stood_on = layers_in_roots();
  const auto on_disk = FLUYT_TRY(layers_->list());
  for (const LayerInfo& info : on_disk) {
    const bool in_catalog =
        catalog_->read([&](const CatalogState& s) { return s.layers.contains(info.diff_id); });
    if (in_catalog) {
      content.layers.push_back(info.diff_id);
    } else {
      // Of an unfinished pull, or discarded above; a root's claim on it does not keep it there
      // either, for its bytes are not to be trusted.
      FLUYT_TRY(give_up(info.diff_id, stood_on));
    }
  }
  content.blobs = FLUYT_TRY(blobs_.list());
  // Layers may just have been discarded: who makes a fix-up of them right now must not leave it.
  return collect(content, Pins::Pinned::kWaitFor);
}

// Every file has its row and every row its file. A layer's blob is made before its row, and is
// whole; one whose size is another than its row says has been damaged.
Result<> Store::count_blobs() {
  const CatalogState state = catalog_->read([](const CatalogState& s) { return s; });
  CatalogChange change;
  for (const auto& [digest, row] : state.blobs) {
    const auto size = FLUYT_TRY(blobs_.find_size(digest));
    if (size == row.bytes) continue;
    change.drop_blobs.push_back(digest);
    if (!size.has_value()) continue;
    logger_.warn(
        cat("blob ", digest.text(), ": has ", *size, " bytes, expected ", row.bytes, "; removed"));
    FLUYT_TRY(blobs_.remove(digest));
  }
  for (const oci::Digest& digest : FLUYT_TRY(blobs_.list())) {
    if (state.blobs.contains(digest)) continue;
    if (const auto size = FLUYT_TRY(blobs_.find_size(digest))) {
      change.put_blobs.push_back({digest, *size});
    }
  }
  return catalog_->commit(change);
}

}  // namespace fluyt::image
