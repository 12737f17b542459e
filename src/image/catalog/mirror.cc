#include "image/catalog/mirror.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

using nlohmann::json;

constexpr size_t kMaxRecordBytes = 4UL << 20U;
constexpr const char* kImages = "images";
constexpr const char* kRoots = "roots";
constexpr std::string_view kEnding = ".json";

std::string image_path(const std::string& id) {
  const size_t colon = id.find(':');
  return cat(kImages, "/", id.substr(colon == std::string::npos ? 0 : colon + 1), kEnding);
}

std::string root_path(const std::string& id) { return cat(kRoots, "/", id, kEnding); }

json to_json(const std::vector<LayerRow>& layers) {
  json out = json::array();
  for (const LayerRow& row : layers) {
    out.push_back({{"diff_id", row.diff_id.text()},
                   {"disk_bytes", row.disk_bytes},
                   {"inodes", row.inodes},
                   {"durable", row.durable},
                   {"boot_id", row.boot_id},
                   {"mount_id", row.mount_id}});
  }
  return out;
}

json to_json(const std::vector<oci::Digest>& digests) {
  json out = json::array();
  for (const oci::Digest& digest : digests) out.push_back(digest.text());
  return out;
}

Result<oci::Digest> digest_in(const json& value) {
  return oci::Digest::parse(value.get<std::string>());
}

Result<std::vector<oci::Digest>> digests_in(const json& list) {
  std::vector<oci::Digest> out;
  for (const json& item : list) out.push_back(FLUYT_TRY(digest_in(item)));
  return out;
}

Result<std::vector<LayerRow>> layers_in(const json& list) {
  std::vector<LayerRow> out;
  for (const json& item : list) {
    out.push_back({FLUYT_TRY(digest_in(item.at("diff_id"))), item.at("disk_bytes").get<uint64_t>(),
                   item.at("inodes").get<uint64_t>(), item.at("durable").get<bool>(),
                   item.at("boot_id").get<std::string>(), item.at("mount_id").get<uint64_t>()});
  }
  return out;
}

Result<MirroredImage> image_in(const json& from) {
  auto digest = FLUYT_TRY(digest_in(from.at("manifest_digest")));
  auto blobs = FLUYT_TRY(digests_in(from.at("blobs")));
  auto layers = FLUYT_TRY(layers_in(from.at("layers")));
  MirroredImage out{{from.at("id").get<std::string>(),
                     std::move(digest),
                     from.at("size").get<uint64_t>(),
                     {},
                     std::move(blobs),
                     from.at("pinned").get<bool>(),
                     from.at("added_ns").get<int64_t>()},
                    from.at("names").get<std::vector<std::string>>(),
                    std::move(layers)};
  for (const json& item : from.at("chain")) {
    auto diff_id = FLUYT_TRY(digest_in(item.at("diff_id")));
    auto blob_digest = FLUYT_TRY(digest_in(item.at("blob_digest")));
    out.row.layers.push_back(
        {std::move(diff_id), std::move(blob_digest), item.at("blob_bytes").get<uint64_t>()});
  }
  return out;
}

Result<MirroredRoot> root_in(const json& from) {
  auto chain = FLUYT_TRY(digests_in(from.at("chain")));
  auto layers = FLUYT_TRY(layers_in(from.at("layers")));
  return MirroredRoot{{from.at("container_id").get<std::string>(),
                       from.at("image_id").get<std::string>(), std::move(chain)},
                      std::move(layers)};
}

// Reads one file and hands what is in it to `take`, which gives it its place.
template <class Take>
Result<> read_record(sys::FdRef root, const std::string& path, int64_t& generation, Take take) {
  const std::string text = FLUYT_TRY(sys::read_file(root, path, kMaxRecordBytes));
  try {
    const json parsed = json::parse(text);
    FLUYT_TRY(take(parsed));
    generation = std::max(generation, parsed.at("generation").get<int64_t>());
    return {};
  } catch (const json::exception& error) {
    return Error(Code::kDataLoss, error.what());
  }
}

template <class Ids>
std::vector<LayerRow> rows_of(const Ids& diff_ids, const CatalogState& state) {
  std::vector<LayerRow> out;
  for (const oci::Digest& diff_id : diff_ids) {
    const auto found = state.layers.find(diff_id);
    if (found != state.layers.end()) out.push_back(found->second);
  }
  return out;
}

}  // namespace

Result<Mirror> Mirror::open(const std::string& folder) {
  const bool is_new = !sys::exists(folder);
  FLUYT_TRY(sys::make_dirs(folder, 0700));
  sys::Fd root = FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY));
  for (const char* below : {kImages, kRoots}) {
    const sys::Fd made = FLUYT_TRY(sys::make_dirs_in(root, below, 0700));
    for (const std::string& name : FLUYT_TRY(sys::list_dir(made))) {
      if (name.ends_with(".tmp")) FLUYT_TRY(sys::remove_file(made, name));
    }
  }
  return Mirror(std::move(root), is_new);
}

Result<MirrorContent> Mirror::read() const {
  MirrorContent out;
  const auto names_in = [&](const char* folder) -> Result<std::vector<std::string>> {
    return sys::list_dir(FLUYT_TRY(sys::open(root_, folder, O_RDONLY | O_DIRECTORY)));
  };
  const auto note = [&](const std::string& path, Result<> read) {
    if (!read.ok()) out.unreadable.push_back(cat(quote(path), ": ", read.error().message()));
  };
  for (const std::string& name : FLUYT_TRY(names_in(kImages))) {
    const std::string path = cat(kImages, "/", name);
    note(path, read_record(root_, path, out.generation, [&](const json& parsed) -> Result<> {
           MirroredImage image = FLUYT_TRY(image_in(parsed));
           if (image_path(image.row.id) != path) return Error(Code::kDataLoss, "of another image");
           out.images.insert_or_assign(image.row.id, std::move(image));
           return {};
         }));
  }
  for (const std::string& name : FLUYT_TRY(names_in(kRoots))) {
    const std::string path = cat(kRoots, "/", name);
    note(path, read_record(root_, path, out.generation, [&](const json& parsed) -> Result<> {
           MirroredRoot root = FLUYT_TRY(root_in(parsed));
           if (root_path(root.row.container_id) != path) {
             return Error(Code::kDataLoss, "of another container");
           }
           out.roots.insert_or_assign(root.row.container_id, std::move(root));
           return {};
         }));
  }
  return out;
}

Result<> Mirror::put(const MirroredImage& image, int64_t generation) const {
  json chain = json::array();
  for (const ImageLayer& layer : image.row.layers) {
    chain.push_back({{"diff_id", layer.diff_id.text()},
                     {"blob_digest", layer.blob_digest.text()},
                     {"blob_bytes", layer.blob_bytes}});
  }
  const json out = {{"version", 1},
                    {"generation", generation},
                    {"id", image.row.id},
                    {"manifest_digest", image.row.manifest_digest.text()},
                    {"size", image.row.size},
                    {"pinned", image.row.pinned},
                    {"added_ns", image.row.added_ns},
                    {"names", image.names},
                    {"blobs", to_json(image.row.blobs)},
                    {"chain", std::move(chain)},
                    {"layers", to_json(image.layers)}};
  return sys::write_file_atomic(root_, image_path(image.row.id), out.dump(1), 0600,
                                sys::Durability::kFsync);
}

// Not synced: a power cut ends the container, and a start is not to wait for the disk.
Result<> Mirror::put(const MirroredRoot& root, int64_t generation) const {
  const json out = {{"version", 1},
                    {"generation", generation},
                    {"container_id", root.row.container_id},
                    {"image_id", root.row.image_id},
                    {"chain", to_json(root.row.layers)},
                    {"layers", to_json(root.layers)}};
  return sys::write_file_atomic(root_, root_path(root.row.container_id), out.dump(1), 0600);
}

Result<> Mirror::remove_image(const std::string& id) const {
  return sys::remove_file(root_, image_path(id));
}

Result<> Mirror::remove_root(const std::string& container_id) const {
  return sys::remove_file(root_, root_path(container_id));
}

MirroredImage mirrored_image(const ImageRow& row, const CatalogState& state) {
  MirroredImage out{row, {}, {}};
  for (const auto& [name, id] : state.names) {
    if (id == row.id) out.names.push_back(name);
  }
  std::set<oci::Digest> diff_ids;
  for (const ImageLayer& layer : row.layers) diff_ids.insert(layer.diff_id);
  out.layers = rows_of(diff_ids, state);
  return out;
}

MirroredRoot mirrored_root(const RootRow& row, const CatalogState& state) {
  return {row, rows_of(std::set<oci::Digest>(row.layers.begin(), row.layers.end()), state)};
}

Touched touched_by(const CatalogChange& change, const CatalogState& before) {
  Touched out;
  const auto owner_of = [&](const std::string& name) {
    if (const auto found = before.names.find(name); found != before.names.end()) {
      out.images.insert(found->second);
    }
  };
  for (const std::string& name : change.drop_names) owner_of(name);
  for (const auto& [name, id] : change.put_names) {
    owner_of(name);
    out.images.insert(id);
  }
  out.images.insert(change.drop_images.begin(), change.drop_images.end());
  for (const ImageRow& row : change.put_images) out.images.insert(row.id);
  out.roots.insert(change.drop_roots.begin(), change.drop_roots.end());
  for (const RootRow& row : change.put_roots) out.roots.insert(row.container_id);

  std::set<oci::Digest> layers(change.durable_layers.begin(), change.durable_layers.end());
  for (const LayerRow& row : change.put_layers) layers.insert(row.diff_id);
  if (layers.empty()) return out;
  for (const auto& [id, row] : before.images) {
    if (std::any_of(row.layers.begin(), row.layers.end(),
                    [&](const ImageLayer& layer) { return layers.contains(layer.diff_id); })) {
      out.images.insert(id);
    }
  }
  for (const auto& [id, row] : before.roots) {
    if (std::any_of(row.layers.begin(), row.layers.end(),
                    [&](const oci::Digest& layer) { return layers.contains(layer); })) {
      out.roots.insert(id);
    }
  }
  return out;
}

CatalogChange change_from(const MirrorContent& content) {
  CatalogChange out;
  std::map<oci::Digest, LayerRow> layers;
  const auto add = [&](const std::vector<LayerRow>& rows) {
    for (const LayerRow& row : rows) {
      // Two files may know of one layer, written before and after its sync.
      const auto [at, is_new] = layers.emplace(row.diff_id, row);
      if (!is_new && row.durable) at->second = row;
    }
  };
  for (const auto& [id, image] : content.images) add(image.layers);
  for (const auto& [id, root] : content.roots) add(root.layers);
  for (const auto& [diff_id, row] : layers) out.put_layers.push_back(row);
  for (const auto& [id, image] : content.images) {
    // The catalogue has no image whose layer it does not know.
    const bool whole =
        std::all_of(image.row.layers.begin(), image.row.layers.end(),
                    [&](const ImageLayer& layer) { return layers.contains(layer.diff_id); });
    if (!whole) continue;
    out.put_images.push_back(image.row);
    for (const std::string& name : image.names) out.put_names.emplace_back(name, id);
  }
  for (const auto& [id, root] : content.roots) out.put_roots.push_back(root.row);
  return out;
}

}  // namespace fluyt::image
