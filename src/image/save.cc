#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/strings.h"
#include "image/archive/tar_writer.h"
#include "image/blob/hasher.h"
#include "image/sendable.h"
#include "image/store.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

using Json = nlohmann::ordered_json;

std::string path_of(const oci::Digest& digest) {
  return cat("blobs/", digest.algorithm(), "/", digest.hex());
}

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// An image of the archive, once, however many names were given for it.
struct Saved {
  ImageRow row;
  std::vector<oci::Reference> names;
  oci::Manifest manifest;
  oci::Digest digest;  // of the manifest
  std::string bytes;
};

// image-spec image-layout.md; the names as containerd and Docker write them.
std::string index_json(const std::vector<Saved>& images) {
  Json manifests = Json::array();
  for (const Saved& image : images) {
    const std::string type = image.manifest.media_type.empty()
                                 ? std::string(oci::media_type::kOciManifest)
                                 : image.manifest.media_type;
    Json entry = {
        {"mediaType", type}, {"digest", image.digest.text()}, {"size", image.bytes.size()}};
    if (image.names.empty()) manifests.push_back(entry);
    for (const oci::Reference& name : image.names) {
      entry["annotations"] = {{"io.containerd.image.name", name.text()},
                              {"org.opencontainers.image.ref.name", name.tag}};
      manifests.push_back(entry);
    }
  }
  return to_text({{"schemaVersion", 2},
                  {"mediaType", oci::media_type::kOciIndex},
                  {"manifests", std::move(manifests)}});
}

// What `docker load` and podman read.
std::string manifest_json(const std::vector<Saved>& images) {
  Json out = Json::array();
  for (const Saved& image : images) {
    Json tags = Json::array();
    for (const oci::Reference& name : image.names) tags.push_back(name.familiar());
    Json layers = Json::array();
    Json sources = Json::object();
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      const oci::Descriptor& layer = image.manifest.layers[i];
      layers.push_back(path_of(layer.digest));
      sources[image.row.layers[i].diff_id.text()] = {
          {"mediaType", layer.media_type}, {"size", layer.size}, {"digest", layer.digest.text()}};
    }
    out.push_back({{"Config", path_of(image.manifest.config.digest)},
                   {"RepoTags", tags.empty() ? Json() : std::move(tags)},
                   {"Layers", std::move(layers)},
                   {"LayerSources", std::move(sources)}});
  }
  return to_text(out);
}

Result<> copy_blob(const LayerArchive& from, const oci::Digest& digest, archive::TarWriter& tar,
                   const std::atomic<bool>* cancelled) {
  FLUYT_TRY(tar.begin_file(path_of(digest), from.bytes));
  const oci::Digest found = FLUYT_TRY_CONTEXT(
      from.pass_on(
          digest.algorithm(), [&](std::string_view piece) { return tar.data(piece); }, cancelled),
      cat("save: blob ", digest.text()));
  FLUYT_TRY(tar.end_file());
  if (found == digest) return {};
  return Error(Code::kDataLoss, cat("blob ", digest.text(), ": its bytes on disk are ",
                                    found.text(), "; `fluyt image verify --repair` mends it"));
}

}  // namespace

// Layers whose blobs were not kept go as their tars, which docker's archives have anyway.
Result<> Store::take_archives(const ImageRow& row, const std::string& name, Sendable& sendable,
                              std::map<oci::Digest, LayerArchive>& archives) const {
  std::map<size_t, oci::Descriptor> changed;
  std::vector<size_t> trees;
  for (const size_t place : sendable.lacking) {
    auto archive = FLUYT_TRY(find_archive(row, sendable, place));
    if (!archive.has_value()) {
      trees.push_back(place);
      continue;
    }
    const oci::Digest& diff_id = row.layers[place].diff_id;
    const auto type =
        layer_type(sendable.manifest.layers[place].media_type, LayerCompression::kNone);
    changed.emplace(place, oci::Descriptor{.media_type = type.value_or(""),
                                           .digest = diff_id,
                                           .size = static_cast<int64_t>(archive->bytes)});
    archives.insert_or_assign(diff_id, std::move(*archive));
  }
  if (!trees.empty()) return lacks_blobs(sendable, trees, name, "save");
  if (changed.empty()) return {};
  sendable.bytes = FLUYT_TRY(with_layers(sendable.bytes, changed));
  sendable.digest = FLUYT_TRY(digest_of("sha256", sendable.bytes));
  sendable.manifest = FLUYT_TRY(oci::parse_manifest(sendable.bytes));
  return {};
}

Result<> Store::save(const SaveOptions& options,
                     const std::function<Result<>(std::string_view)>& sink) {
  if (options.images.empty()) {
    return Error(Code::kInvalidArgument, "save: images: expected at least one");
  }
  std::vector<Saved> images;
  std::vector<Hold> holds;
  std::map<oci::Digest, LayerArchive> archives;  // by diff id
  for (const std::string& wanted : options.images) {
    const auto row = FLUYT_TRY(find_row(wanted));
    if (!row.has_value()) {
      return Error(Code::kNotFound, cat("save ", quote(wanted), ": no such image"));
    }
    auto image = std::find_if(images.begin(), images.end(),
                              [&](const Saved& other) { return other.row.id == row->id; });
    if (image == images.end()) {
      holds.emplace_back(*this, *row, cat("save of ", wanted));
      Sendable sendable = FLUYT_TRY(get_sendable(*row, wanted, "save"));
      FLUYT_TRY(take_archives(*row, wanted, sendable, archives));
      const auto one = one_of_several(*row, wanted);
      if (one.has_value() && options.one_of_several) options.one_of_several(*one);
      images.push_back({*row,
                        {},
                        std::move(sendable.manifest),
                        std::move(sendable.digest),
                        std::move(sendable.bytes)});
      image = std::prev(images.end());
    }
    const auto reference = oci::Reference::parse(wanted);
    const bool is_tag = reference.ok() && !reference->digest.has_value();
    const bool is_name = is_tag && catalog_->read([&](const CatalogState& state) {
      return state.names.contains(reference->text());
    });
    if (is_name) image->names.push_back(*reference);
  }

  std::map<oci::Digest, uint64_t> blobs;
  std::map<oci::Digest, std::string> documents;  // that were made for this archive
  for (const Saved& image : images) {
    if (image.digest != image.row.manifest_digest) documents[image.digest] = image.bytes;
    blobs[image.digest] = image.bytes.size();
    blobs[image.manifest.config.digest] = static_cast<uint64_t>(image.manifest.config.size);
    for (const oci::Descriptor& layer : image.manifest.layers) {
      blobs[layer.digest] = static_cast<uint64_t>(layer.size);
    }
  }
  archive::TarWriter tar(sink);
  FLUYT_TRY(tar.folder("blobs/"));
  std::set<std::string> algorithms;
  for (const auto& [digest, size] : blobs) algorithms.emplace(digest.algorithm());
  for (const std::string& algorithm : algorithms)
    FLUYT_TRY(tar.folder(cat("blobs/", algorithm, "/")));
  for (const auto& [digest, size] : blobs) {
    if (const auto archive = archives.find(digest); archive != archives.end()) {
      FLUYT_TRY(copy_blob(archive->second, digest, tar, options.cancelled));
    } else if (const auto made = documents.find(digest); made != documents.end()) {
      FLUYT_TRY(tar.file(path_of(digest), made->second));
    } else {
      const LayerArchive blob{FLUYT_TRY(blobs_.open_blob(digest)), 0, size};
      FLUYT_TRY(copy_blob(blob, digest, tar, options.cancelled));
    }
  }
  FLUYT_TRY(tar.file("index.json", index_json(images)));
  if (options.format == ArchiveFormat::kDocker) {
    FLUYT_TRY(tar.file("manifest.json", manifest_json(images)));
  }
  FLUYT_TRY(tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return tar.finish();
}

}  // namespace fluyt::image
