#include "base/strings.h"
#include "base/time.h"
#include "image/layer/erofs_mount.h"
#include "image/layer/view.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

constexpr int64_t kWarningPauseNs = 60'000'000'000;
constexpr uint64_t kMaxLookUps = 1'000'000;  // for one file, by whatever links

std::optional<std::vector<oci::Digest>> chain_of(const CatalogState& state, const std::string& id) {
  const auto found = state.images.find(id);
  if (found == state.images.end()) return std::nullopt;
  std::vector<oci::Digest> out;
  for (const ImageLayer& layer : found->second.layers) out.push_back(layer.diff_id);
  return out;
}

Error no_image(const std::string& id) {
  return Error(Code::kNotFound, cat("image ", quote(id), ": no such image"));
}

}  // namespace

Result<sys::OverlayMount> Store::create_root(const std::string& container_id,
                                             const std::string& image_id,
                                             const RootOptions& options) {
  const auto chain = catalog_->read([&](const CatalogState& s) { return chain_of(s, image_id); });
  if (!chain.has_value()) return no_image(image_id);
  const std::string work = cat("creation of container ", container_id);
  Pins::Pin pin = layer_pins_.pin(*chain, work);
  // The image may have gone while we waited for the pin: the row of the root would come too late.
  const auto [image_is_there, old] = catalog_->read([&](const CatalogState& s) {
    const auto found = s.roots.find(container_id);
    return std::pair(s.images.contains(image_id), found == s.roots.end()
                                                      ? std::optional<RootRow>()
                                                      : std::optional(found->second));
  });
  if (!image_is_there) {
    pin.release();
    collect_if_gone(image_id, {*chain, {}});  // who removed it had to leave what we had pinned
    return no_image(image_id);
  }
  if (old.has_value() && old->image_id != image_id) {
    return Error(Code::kAlreadyExists,
                 cat("root ", quote(container_id), ": is there, of image ", old->image_id));
  }
  if (!old.has_value()) {
    FLUYT_TRY(catalog_->commit({.put_roots = {{container_id, image_id, *chain}}}));
  }
  auto made = [&]() -> Result<sys::OverlayMount> {
    const ChainHold hold = FLUYT_TRY(hold_chain(*chain, work));
    return roots_.create(container_id, FLUYT_TRY(layers_->resolve_chain(*chain)), options);
  }();
  if (!made.ok() && !old.has_value()) {
    roots_.remove(container_id).ignore("the error to tell is the first; open() sweeps the rest");
    catalog_->commit({.drop_roots = {container_id}}).ignore("as above");
    pin.release();
    collect_if_gone(image_id, {*chain, {}});
  }
  return made;
}

Result<> Store::probe_ids() {
  if (layers_->form() == LayerForm::kErofs) FLUYT_TRY(erofs::probe_ids(options_.root + "/staging"));
  return roots_.probe_ids();
}

Result<> Store::remove_root(const std::string& container_id) {
  // The disk first: on a full one the catalog may not be writable. A crash in between leaves a row
  // without a root, which open() drops.
  FLUYT_TRY(roots_.remove(container_id));
  const auto row = catalog_->read([&](const CatalogState& state) -> std::optional<RootRow> {
    const auto found = state.roots.find(container_id);
    if (found == state.roots.end()) return std::nullopt;
    return found->second;
  });
  if (!row.has_value()) return {};
  FLUYT_TRY(catalog_->commit({.drop_roots = {container_id}}));
  // Usually its image is still there, and nothing of that is to be collected.
  const bool image_is_there =
      catalog_->read([&](const CatalogState& s) { return s.images.contains(row->image_id); });
  return image_is_there ? sweep_aside() : collect({row->layers, {}});
}

Result<std::vector<std::string>> Store::list_roots() {
  return catalog_->read([](const CatalogState& state) {
    std::vector<std::string> out;
    for (const auto& [id, row] : state.roots) out.push_back(id);
    return out;
  });
}

// Once a minute: a root is measured more often than anybody reads of it.
bool Store::may_warn_of(const std::string& container_id) {
  const int64_t now = now_boot_ns();
  auto warned = usage_warned_.lock();
  std::erase_if(*warned, [now](const auto& one) { return now - one.second >= kWarningPauseNs; });
  return warned->emplace(container_id, now).second;
}

Result<FsUsage> Store::root_usage(const std::string& container_id) {
  const bool known =
      catalog_->read([&](const CatalogState& s) { return s.roots.contains(container_id); });
  if (!known) return Error(Code::kNotFound, cat("root ", quote(container_id), ": no such root"));
  const sys::TreeSize usage = FLUYT_TRY(roots_.usage(container_id));
  if (!usage.complete && may_warn_of(container_id)) {
    logger_.warn(cat("root ", quote(container_id), ": more than the ", usage.bytes, " bytes and ",
                     usage.inodes, " inodes that could be counted"));
  }
  return FsUsage{options_.root, usage.bytes, usage.inodes, usage.complete};
}

Result<std::optional<std::string>> Store::read_image_file(const std::string& image_id,
                                                          const std::string& path, size_t limit) {
  const auto chain = catalog_->read([&](const CatalogState& s) { return chain_of(s, image_id); });
  if (!chain.has_value()) return no_image(image_id);
  Pins::Pin pin = layer_pins_.pin(*chain);
  auto content = [&]() -> Result<std::optional<std::string>> {
    const ChainHold hold = FLUYT_TRY(hold_chain(*chain, cat("reading of image ", image_id)));
    const auto dirs = FLUYT_TRY(layers_->resolve_chain(*chain));
    LookUps look_ups{.allowed = kMaxLookUps};
    const LayerView view = FLUYT_TRY(LayerView::open(dirs, &look_ups));
    return view.read_file(path, limit);
  }();
  pin.release();
  collect_if_gone(image_id, {*chain, {}});
  return content;
}

}  // namespace fluyt::image
