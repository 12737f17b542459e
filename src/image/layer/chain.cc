#include <fcntl.h>

#include <set>
#include <string_view>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/disk_room.h"
#include "image/layer/fixup.h"
#include "image/layer/staging.h"
#include "image/layer/store.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

// Of one chain: what layers as people make them come to is far below, whatever their entries are.
constexpr uint64_t kFreeLookUps = 1'000'000;
// And for each implied directory, link and layer: about what its making took.
constexpr uint64_t kLookUpsPerEntry = 64;

Error too_many_dirs() {
  return {Code::kResourceExhausted, cat("the image needs more than the ", kMaxLowerDirs,
                                        " directories that overlayfs stacks")};
}

Result<oci::Digest> extend(const oci::Digest& chain, const oci::Digest& diff_id) {
  return digest_of("sha256", cat(chain.text(), " ", diff_id.text()));
}

// Overlayfs takes no directory twice. Where an image has a layer twice the upper one is enough:
// each name that the lower one has or hides is in the upper one too, in the same way, so a look-up
// that comes to the lower one has found nothing there that it did not find in the upper one, and
// has not been stopped there. The fix-up of the lower one may stay: what is in it the upper one's
// has too.
std::vector<std::string> topmost_first(const std::vector<std::string>& lowest_first) {
  std::vector<std::string> out;
  std::set<std::string_view> seen;
  for (auto dir = lowest_first.rbegin(); dir != lowest_first.rend(); ++dir) {
    if (seen.insert(*dir).second) out.push_back(*dir);
  }
  return out;
}

}  // namespace

Result<std::vector<oci::Digest>> chain_ids_of(std::span<const oci::Digest> diff_ids) {
  std::vector<oci::Digest> out;
  for (const oci::Digest& diff_id : diff_ids) {
    out.push_back(out.empty() ? diff_id : FLUYT_TRY(extend(out.back(), diff_id)));
  }
  return out;
}

// Before anything is made for a chain: what hides all below it begins the stack.
Result<> LayerStore::check_depth(std::span<const oci::Digest> diff_ids) const {
  std::set<std::string_view> stacked;
  for (const oci::Digest& diff_id : diff_ids) {
    if (FLUYT_TRY(known(diff_id)).opaque_root) stacked.clear();
    stacked.insert(diff_id.text());
  }
  return stacked.size() > kMaxLowerDirs ? too_many_dirs() : Result<>();
}

Result<std::vector<std::string>> LayerStore::resolve_chain(std::span<const oci::Digest> diff_ids,
                                                           const std::atomic<bool>* stop) const {
  if (diff_ids.empty()) return Error(Code::kInvalidArgument, "a chain of no layers");
  FLUYT_TRY(check_depth(diff_ids));
  LookUps look_ups{.allowed = kFreeLookUps, .stop = stop};
  std::vector<std::string> lowest_first;
  oci::Digest chain = diff_ids.front();
  for (size_t i = 0; i < diff_ids.size(); ++i) {
    const oci::Digest& diff_id = diff_ids[i];
    if (i != 0) chain = FLUYT_TRY(extend(chain, diff_id));
    const Known layer = FLUYT_TRY(known(diff_id));
    if (!layer.mounted) FLUYT_TRY_CONTEXT(mount(diff_id), cat("layer ", diff_id.text()));
    if (layer.opaque_root) lowest_first.clear();
    if (layer.has_lower_links && lowest_first.empty()) {
      return Error(Code::kInvalidArgument,
                   cat("layer ", diff_id.text(),
                       ": hard links to files of a lower layer, but there is none"));
    }
    std::optional<std::string> fixup;
    if (layer.needs_chain && !lowest_first.empty()) {
      // With the lower one of a layer that is there twice: this layer's links may lead into it.
      fixup = FLUYT_TRY_CONTEXT(fixup_dir(diff_id, topmost_first(lowest_first), chain, look_ups),
                                cat("layer ", diff_id.text()));
    }
    lowest_first.push_back(cat(options_.root, "/layers/", diff_id.hex(), "/fs"));
    if (fixup) lowest_first.push_back(std::move(*fixup));
  }
  std::vector<std::string> dirs = topmost_first(lowest_first);
  if (dirs.size() > kMaxLowerDirs) return too_many_dirs();
  return dirs;
}

// A folder without a tree says that the chain was looked at and needs nothing.
Result<std::optional<std::string>> LayerStore::fixup_dir(const oci::Digest& top,
                                                         const std::vector<std::string>& below,
                                                         const oci::Digest& chain_id,
                                                         LookUps& look_ups) const {
  const std::string folder = cat("fixups/", chain_id.hex());
  const auto made = [&]() -> Result<std::optional<std::string>> {
    if (!FLUYT_TRY(sys::find_stat(root_, folder + "/fs"))) return std::optional<std::string>();
    return std::optional(cat(options_.root, "/", folder, "/fs"));
  };
  if (FLUYT_TRY(sys::find_stat(root_, folder))) return made();
  const std::optional<LayerInfo> info = FLUYT_TRY(find(top));
  if (!info) return Error(Code::kNotFound, cat("layer ", top.text(), " is not there"));
  Staging staging = FLUYT_TRY(Staging::create(root_));
  const sys::Fd own =
      FLUYT_TRY(sys::open(root_, cat("layers/", top.hex(), "/fs"), O_PATH | O_DIRECTORY));
  look_ups.allowed +=
      kLookUpsPerEntry * (info->implied_dirs.size() + info->lower_links.size() + below.size());
  DiskRoom room(staging.folder(), UINT64_MAX, options_.reserve_bytes);
  if (!FLUYT_TRY(build_fixup(*info, own, below, staging.tree(), look_ups, room))) {
    FLUYT_TRY(sys::remove_tree(staging.folder(), "fs"));
  }
  // Another thread may have been faster: its fix-up is the same.
  FLUYT_TRY(staging.move_to(folder));
  return made();
}

}  // namespace fluyt::image
