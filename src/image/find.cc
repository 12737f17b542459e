#include <algorithm>

#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

constexpr size_t kMinPrefix = 4;
constexpr std::string_view kAlgorithm = "sha256:";

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

// What a file of so many bytes takes, in blocks of 4 KiB as layers are counted.
uint64_t on_disk(uint64_t bytes) {
  constexpr uint64_t kBlock = 4096;
  return (bytes + kBlock - 1) / kBlock * kBlock;
}

// "sha256:abcd..." or "abcd...": the hexadecimal digits of an id or its start, else "".
std::string_view id_digits(std::string_view text) {
  if (text.starts_with(kAlgorithm)) text.remove_prefix(kAlgorithm.size());
  return text.size() >= kMinPrefix && text.size() <= 64 && is_hex(text) ? text : std::string_view();
}

std::optional<std::string> id_by_name(const CatalogState& state, const std::string& text) {
  const auto reference = oci::Reference::parse(text);
  if (!reference.ok()) return std::nullopt;
  // The digest counts more than a tag beside it.
  const std::string name = reference->digest.has_value()
                               ? cat(reference->name(), "@", reference->digest->text())
                               : reference->text();
  const auto found = state.names.find(name);
  if (found == state.names.end()) return std::nullopt;
  return found->second;
}

}  // namespace

Result<std::optional<std::string>> Store::find_id(const std::string& name_or_id) const {
  using Found = Result<std::optional<std::string>>;
  if (name_or_id.empty()) {
    return Error(Code::kInvalidArgument, "image: \"\": expected a name or an id");
  }
  return catalog_->read([&](const CatalogState& state) -> Found {
    const std::string_view digits = id_digits(name_or_id);
    const std::string prefix = cat(kAlgorithm, digits);
    if (digits.size() == 64 && state.images.contains(prefix)) return std::optional(prefix);
    if (!name_or_id.starts_with(kAlgorithm)) {
      if (auto id = id_by_name(state, name_or_id)) return id;
    }
    if (digits.empty()) return std::optional<std::string>();
    auto from = state.images.lower_bound(prefix);
    if (from == state.images.end() || !from->first.starts_with(prefix)) {
      return std::optional<std::string>();
    }
    const std::string id = from->first;
    if (++from != state.images.end() && from->first.starts_with(prefix)) {
      return Error(Code::kInvalidArgument, cat("image ", quote(name_or_id),
                                               ": several ids start so: expected more digits"));
    }
    return std::optional(id);
  });
}

// By the configuration's names, as they are or with what Docker leaves out.
bool Store::is_pinned(const std::string& name) const {
  auto patterns = pinned_.lock();
  return std::any_of(patterns->begin(), patterns->end(), [&](const std::string& pattern) {
    if (!pattern.ends_with('*')) {
      const auto reference = oci::Reference::parse(pattern);
      return reference.ok() && reference->text() == name;
    }
    const std::string start = pattern.substr(0, pattern.size() - 1);
    return name.starts_with(start) || name.starts_with(cat("docker.io/", start)) ||
           name.starts_with(cat("docker.io/library/", start));
  });
}

void Store::keep_pinned(std::vector<std::string> patterns) {
  *pinned_.lock() = std::move(patterns);
}

Image Store::make_image(const ImageRow& row, const CatalogState& state) const {
  Image out;
  out.id = row.id;
  out.size = row.size;
  out.manifest_digest = row.manifest_digest.text();
  out.pinned = row.pinned;
  for (const auto& [name, id] : state.names) {
    if (id != row.id) continue;
    if (is_pinned(name)) out.pinned = true;
    (name.find('@') != std::string::npos ? out.repo_digests : out.repo_tags).push_back(name);
  }
  auto configs = configs_.lock();
  if (const auto found = configs->find(row.id); found != configs->end())
    out.config = *found->second;
  return out;
}

std::optional<Image> Store::find_image(const std::string& id) const {
  return catalog_->read([&](const CatalogState& state) -> std::optional<Image> {
    const auto found = state.images.find(id);
    if (found == state.images.end()) return std::nullopt;
    return make_image(found->second, state);
  });
}

Result<std::optional<Image>> Store::find(const std::string& name_or_id) {
  const auto id = FLUYT_TRY(find_id(name_or_id));
  if (!id.has_value()) return std::optional<Image>();
  return find_image(*id);
}

Result<std::vector<Image>> Store::list() {
  return catalog_->read([&](const CatalogState& state) {
    std::vector<Image> out;
    for (const auto& [id, row] : state.images) out.push_back(make_image(row, state));
    return out;
  });
}

Result<FsUsage> Store::fs_usage() {
  FsUsage out;
  out.mountpoint = options_.root;
  catalog_->read([&](const CatalogState& state) {
    for (const auto& [diff_id, row] : state.layers) {
      out.used_bytes += row.disk_bytes;
      out.inodes += row.inodes;
    }
    for (const auto& [digest, row] : state.blobs) {
      out.used_bytes += on_disk(row.bytes);
      ++out.inodes;
    }
    return 0;
  });
  return out;
}

}  // namespace fluyt::image
