#include <set>

#include "base/id.h"
#include "base/strings.h"
#include "image/gc_plan.h"
#include "image/layer/reaper.h"
#include "image/store.h"
#include "sys/dir_stack.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

// What is there now: things go while they are counted.
Extent extent_of(sys::FdRef parent, const std::string& name) {
  const auto size = sys::tree_size(parent, name);
  return size.ok() ? Extent{size->bytes, size->inodes} : Extent{};
}

Result<std::vector<std::string>> names_in(sys::FdRef root, const std::string& folder) {
  return sys::list_dir(FLUYT_TRY(sys::open(root, folder, O_RDONLY | O_DIRECTORY)));
}

Result<> fill(sys::FdRef root, const std::string& folder, std::map<std::string, Extent>& to) {
  for (const std::string& name : FLUYT_TRY(names_in(root, folder))) {
    const std::string path = cat(folder, "/", name);
    to[path] = extent_of(root, path);
  }
  return {};
}

const std::set<std::string>& our_folders() {
  static const std::set<std::string> kNames = {"blobs", "layers", "fixups", "staging",
                                               "trash", "aside",  "roots",  "lock"};
  return kNames;
}

}  // namespace

Result<StoreContent> Store::look() const {
  const sys::Fd root = FLUYT_TRY(sys::open(options_.root, O_PATH | O_DIRECTORY));
  StoreContent out;
  std::vector<std::string> damaged;
  for (const LayerInfo& info : FLUYT_TRY(layers_->list(&damaged))) {
    out.layers[info.diff_id] = {info.disk_bytes, info.inodes};
  }
  for (const std::string& name : damaged) {
    out.damaged_layers[name] = extent_of(root, cat("layers/", name));
  }
  for (const oci::Digest& blob : FLUYT_TRY(blobs_.list())) {
    if (const auto size = FLUYT_TRY(blobs_.find_size(blob))) out.blobs[blob] = *size;
  }
  for (const oci::Digest& fixup : FLUYT_TRY(layers_->list_fixups())) {
    out.fixups[fixup] = extent_of(root, cat("fixups/", fixup.hex()));
  }
  for (const std::string& id : FLUYT_TRY(roots_.list())) {
    out.roots[id] = extent_of(root, cat("roots/", id));
  }
  FLUYT_TRY(fill(root, "staging", out.unfinished));
  for (const std::string& algorithm : FLUYT_TRY(names_in(root, "blobs"))) {
    const std::string folder = cat("blobs/", algorithm);
    for (const std::string& name : FLUYT_TRY(names_in(root, folder))) {
      if (!name.ends_with(".tmp")) continue;
      const std::string path = cat(folder, "/", name);
      out.unfinished[path] = extent_of(root, path);
    }
  }
  FLUYT_TRY(fill(root, "trash", out.trash));
  for (const LayerStore::Aside& one : FLUYT_TRY(layers_->list_aside())) {
    out.aside.emplace(one.path, StoreContent::Aside{one.id, extent_of(root, one.path)});
  }
  for (const std::string& name : FLUYT_TRY(roots_.list_removed())) {
    const std::string path = cat("roots/", name);
    out.trash[path] = extent_of(root, path);
  }
  for (const std::string& name : FLUYT_TRY(names_in(root, "."))) {
    if (our_folders().contains(name)) continue;
    (name.starts_with("catalog.db") || name == "mirror" ? out.catalog : out.unknown)[name] =
        extent_of(root, name);
  }
  return out;
}

Result<GcReport> Store::collect_garbage(const GcOptions& options) {
  const StoreContent content = FLUYT_TRY(look());
  // After the disk: what is there without a row now had none when it was found, unless its work is
  // still under way and has it pinned.
  const StoreUse use{works_.names(), layer_pins_.owners(), blob_pins_.owners()};
  const CatalogState state = catalog_->read([](const CatalogState& s) { return s; });
  GcReport report = plan_gc(content, state, use, options.is_container);
  if (options.mode == GcOptions::Mode::kExplain) return report;

  // Each of these looks again by itself whether the thing may go.
  Content candidates;
  std::vector<std::string> unfinished;
  std::vector<std::string> trash;
  for (const GcItem& item : report.items) {
    if (!item.goes) continue;
    switch (item.kind) {
      case GcItem::Kind::kRoot:
        FLUYT_TRY(remove_root(item.name));
        break;
      case GcItem::Kind::kLayer:
        candidates.layers.push_back(FLUYT_TRY(oci::Digest::parse(item.name)));
        break;
      case GcItem::Kind::kBlob:
        candidates.blobs.push_back(FLUYT_TRY(oci::Digest::parse(item.name)));
        break;
      case GcItem::Kind::kUnfinished:
        unfinished.push_back(item.name);
        break;
      case GcItem::Kind::kTrash:
        if (!content.aside.contains(item.name)) trash.push_back(item.name);
        break;
      case GcItem::Kind::kFixup:  // collect() does these, and what was set aside
      case GcItem::Kind::kCatalog:
      case GcItem::Kind::kUnknown:
        break;
    }
  }
  FLUYT_TRY(collect(candidates));
  const auto first = remove_unfinished(unfinished);
  FLUYT_TRY(remove_trash(trash));
  if (!first.ok()) return first.error();
  return report;
}

// Renamed while no work can begin, so that nobody's folder is taken; removed afterwards.
Result<> Store::remove_unfinished(const std::vector<std::string>& paths) {
  const sys::Fd root = FLUYT_TRY(sys::open(options_.root, O_PATH | O_DIRECTORY));
  std::vector<std::string> doomed;
  works_.alone([&] {
    for (const std::string& path : paths) {
      std::string trash = cat("trash/", make_id().substr(0, 16));
      if (::renameat(root.raw(), path.c_str(), root.raw(), trash.c_str()) == 0) {
        doomed.push_back(std::move(trash));
      }
    }
  });
  return remove_trash(doomed);
}

// All that can go; the first error.
Result<> Store::remove_trash(const std::vector<std::string>& paths) {
  const sys::Fd root = FLUYT_TRY(sys::open(options_.root, O_PATH | O_DIRECTORY));
  Result<> out;
  for (const std::string& path : paths) {
    auto removed = remove_beside_others(root, path);
    if (!removed.ok() && out.ok()) out = std::move(removed);
  }
  return out;
}

}  // namespace fluyt::image
