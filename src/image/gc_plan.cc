#include "image/gc_plan.h"

#include <algorithm>

#include "base/strings.h"
#include "image/layer/store.h"

namespace fluyt::image {

namespace {

using Holders = std::map<oci::Digest, std::vector<std::string>>;

// As people know an image: a tag, or what it was pulled by, or its id.
std::string name_of(const ImageRow& row, const CatalogState& state) {
  std::string out = row.id;
  for (const auto& [name, id] : state.names) {
    if (id != row.id) continue;
    if (name.find('@') == std::string::npos) return name;
    out = name;
  }
  return out;
}

uint64_t on_disk(uint64_t bytes) {
  constexpr uint64_t kBlock = 4096;
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

class Planner {
 public:
  Planner(const StoreContent& content, const CatalogState& state, const StoreUse& use,
          const std::function<bool(const std::string&)>& is_container)
      : content_(content), state_(state), use_(use), is_container_(is_container) {}

  GcReport plan() {
    find_holders();
    layers();
    blobs();
    fixups();
    roots();
    for (const auto& [path, extent] : content_.unfinished) unfinished(path, extent);
    for (const auto& [path, extent] : content_.trash) {
      add({GcItem::Kind::kTrash,
           path,
           extent.bytes,
           extent.inodes,
           true,
           "removed already; the removal is under way, or did not come to its end",
           {}});
    }
    for (const auto& [path, what] : content_.aside) aside(path, what);
    for (const auto& [path, extent] : content_.catalog) {
      add({GcItem::Kind::kCatalog, path, extent.bytes, extent.inodes, false, "the catalogue", {}});
    }
    for (const auto& [path, extent] : content_.unknown) {
      add({GcItem::Kind::kUnknown,
           path,
           extent.bytes,
           extent.inodes,
           false,
           "not of the store's making: left alone",
           {}});
    }
    return std::move(report_);
  }

 private:
  void add(GcItem item) {
    if (item.goes) {
      report_.going_bytes += item.bytes;
      report_.going_inodes += item.inodes;
    } else {
      report_.staying_bytes += item.bytes;
    }
    report_.items.push_back(std::move(item));
  }

  // A root of a container that there is not holds nothing: it goes itself.
  bool holds(const RootRow& root) const {
    return !is_container_ || is_container_(root.container_id);
  }

  void find_holders() {
    for (const auto& [id, row] : state_.images) {
      const std::string image = name_of(row, state_);
      std::set<oci::Digest> trees;
      std::set<oci::Digest> blobs(row.blobs.begin(), row.blobs.end());
      for (const ImageLayer& layer : row.layers) {
        trees.insert(layer.diff_id);
        blobs.insert(layer.blob_digest);
      }
      for (const oci::Digest& tree : trees) layer_holders_[tree].push_back(image);
      for (const oci::Digest& blob : blobs) blob_holders_[blob].push_back(image);
      std::vector<oci::Digest> chain;
      for (const ImageLayer& layer : row.layers) chain.push_back(layer.diff_id);
      hold_fixups(chain, image);
    }
    for (const auto& [id, root] : state_.roots) {
      if (!holds(root)) continue;
      const std::string container = cat("container ", id);
      const std::set<oci::Digest> trees(root.layers.begin(), root.layers.end());
      for (const oci::Digest& tree : trees) layer_holders_[tree].push_back(container);
      hold_fixups(kept_chain(root, state_), container);
      hold_aside(root, container);
    }
    for (const auto& [layer, works] : use_.layers) {
      for (const std::string& work : works) {
        layer_holders_[layer].push_back(work);
        aside_holders_[layer].push_back(work);
      }
    }
    for (const auto& [blob, works] : use_.blobs) {
      for (const std::string& work : works) blob_holders_[blob].push_back(work);
    }
  }

  void hold_fixups(const std::vector<oci::Digest>& chain, const std::string& holder) {
    if (content_.fixups.empty()) return;
    const auto ids = chain_ids_of(chain);
    if (!ids.ok()) return;
    for (const oci::Digest& id : *ids) {
      if (content_.fixups.contains(id)) fixup_holders_[id].push_back(holder);
    }
  }

  // An image that was pulled again holds nothing of what was set aside before.
  void hold_aside(const RootRow& root, const std::string& container) {
    if (content_.aside.empty()) return;
    std::set<oci::Digest> ids(root.layers.begin(), root.layers.end());
    if (const auto chains = chain_ids_of(root.layers); chains.ok()) {
      ids.insert(chains->begin(), chains->end());
    }
    for (const oci::Digest& id : ids) aside_holders_[id].push_back(container);
  }

  void layers() {
    for (const auto& [digest, extent] : content_.layers) {
      const bool has_row = state_.layers.contains(digest);
      held(GcItem::Kind::kLayer, digest, extent, layer_holders_, "layer",
           has_row ? "no image and no container has it" : "it is in no catalogue: left by a pull");
    }
    for (const auto& [name, extent] : content_.damaged_layers) {
      const auto digest = oci::Digest::parse(cat("sha256:", name));
      if (digest.ok()) {
        held(GcItem::Kind::kLayer, *digest, extent, layer_holders_,
             "layer; its record cannot be read: `fluyt image verify --repair`",
             "its record cannot be read, and nothing has it");
      } else {
        add({GcItem::Kind::kUnknown,
             cat("layers/", name),
             extent.bytes,
             extent.inodes,
             false,
             "not of the store's making: left alone",
             {}});
      }
    }
  }

  void blobs() {
    for (const auto& [digest, bytes] : content_.blobs) {
      held(GcItem::Kind::kBlob, digest, {on_disk(bytes), 1}, blob_holders_, "blob",
           "no image has it");
    }
  }

  void fixups() {
    for (const auto& [digest, extent] : content_.fixups) {
      held(GcItem::Kind::kFixup, digest, extent, fixup_holders_,
           "what a chain of layers adds above them", "no chain of layers needs it");
    }
  }

  void held(GcItem::Kind kind, const oci::Digest& digest, Extent extent, const Holders& holders,
            const char* what, const char* why_not) {
    const auto found = holders.find(digest);
    if (found == holders.end()) {
      add({kind, digest.text(), extent.bytes, extent.inodes, true, why_not, {}});
    } else {
      add({kind, digest.text(), extent.bytes, extent.inodes, false, what, found->second});
    }
  }

  void roots() {
    for (const auto& [id, extent] : content_.roots) {
      const auto row = state_.roots.find(id);
      if (row == state_.roots.end()) {
        add({GcItem::Kind::kRoot,
             id,
             extent.bytes,
             extent.inodes,
             true,
             "a root that is in no catalogue",
             {}});
      } else if (!holds(row->second)) {
        add({GcItem::Kind::kRoot,
             id,
             extent.bytes,
             extent.inodes,
             true,
             "there is no such container",
             {}});
      } else {
        add({GcItem::Kind::kRoot,
             id,
             extent.bytes,
             extent.inodes,
             false,
             "what the container wrote",
             {cat("container ", id)}});
      }
    }
  }

  void unfinished(const std::string& path, Extent extent) {
    const bool goes = use_.works.empty();
    add({GcItem::Kind::kUnfinished, path, extent.bytes, extent.inodes, goes,
         goes ? "left by work that has ended" : "may be of work under way",
         goes ? std::vector<std::string>() : use_.works});
  }

  void aside(const std::string& path, const StoreContent::Aside& what) {
    const auto found = aside_holders_.find(what.id);
    const bool goes = found == aside_holders_.end();
    add({GcItem::Kind::kTrash, path, what.extent.bytes, what.extent.inodes, goes,
         goes ? "was given up, and nothing stands on it any more"
              : "was given up, and may be stood on",
         goes ? std::vector<std::string>() : found->second});
  }

  const StoreContent& content_;
  const CatalogState& state_;
  const StoreUse& use_;
  const std::function<bool(const std::string&)>& is_container_;
  Holders layer_holders_, blob_holders_, fixup_holders_, aside_holders_;
  GcReport report_;
};

}  // namespace

std::vector<oci::Digest> kept_chain(const RootRow& root, const CatalogState& state) {
  const auto end = std::find_if_not(root.layers.begin(), root.layers.end(), [&](const auto& layer) {
    return state.layers.contains(layer);
  });
  return {root.layers.begin(), end};
}

GcReport plan_gc(const StoreContent& content, const CatalogState& state, const StoreUse& use,
                 const std::function<bool(const std::string&)>& is_container) {
  return Planner(content, state, use, is_container).plan();
}

}  // namespace fluyt::image
