#include "image/layer/unpack.h"

#include <optional>
#include <vector>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/erofs_image.h"
#include "image/layer/inflate.h"
#include "image/layer/tar.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kReadBytes = 256UL << 10U;

class Unpacker {
 public:
  Unpacker(sys::FdRef tree, sys::FdRef file, const UnpackOptions& options, Hasher blob_hash,
           Hasher diff_hash)
      : options_(options),
        blob_hash_(std::move(blob_hash)),
        diff_hash_(std::move(diff_hash)),
        tar_(start(tree, file)),
        inflater_([this](std::string_view bytes) { return unpacked(bytes); }) {}

  Result<> push(std::string_view bytes) {
    blob_bytes_ += bytes.size();
    if (blob_bytes_ > options_.max_blob_bytes) {
      return Error(Code::kDataLoss,
                   cat("the blob goes on past its ", options_.max_blob_bytes, " bytes"));
    }
    FLUYT_TRY(blob_hash_.update(bytes));
    return inflater_.push(bytes);
  }

  Result<LayerInfo> finish() {
    FLUYT_TRY(inflater_.finish());
    FLUYT_TRY(tar_.finish());
    const oci::Digest blob_digest = FLUYT_TRY(blob_hash_.finish());
    LayerInfo info{.diff_id = is_hashed_once() ? blob_digest : FLUYT_TRY(diff_hash_.finish()),
                   .blob_digest = blob_digest};
    TreeSummary tree;
    if (image_) {
      erofs::ImageSummary image = FLUYT_TRY(image_->finish(info.diff_id));
      tree = std::move(image.tree);
      info.metadata_digest = image.metadata_digest.text();
    } else {
      tree = FLUYT_TRY(tree_->finish());
      info.metadata_digest = tree.manifest_digest;
    }
    info.form = options_.form;
    info.compression = inflater_.compression();
    info.blob_bytes = blob_bytes_;
    info.unpacked_bytes = unpacked_bytes_;
    info.disk_bytes = tree.disk_bytes;
    info.inodes = tree.inodes;
    info.entries = tar_.entries();
    info.skipped = tree.skipped + tar_.skipped();
    info.opaque_root = tree.opaque_root;
    info.implied_dirs = std::move(tree.implied_dirs);
    info.lower_links = std::move(tree.lower_links);
    return info;
  }

 private:
  // What was not compressed has one digest for two purposes.
  bool is_hashed_once() const {
    return inflater_.compression() == "none" && options_.blob_algorithm == options_.diff_algorithm;
  }

  Result<> unpacked(std::string_view bytes) {
    unpacked_bytes_ += bytes.size();
    if (unpacked_bytes_ > options_.max_unpacked_bytes) {
      return Error(Code::kResourceExhausted,
                   cat("the layer unpacks to more than ", options_.max_unpacked_bytes, " bytes"));
    }
    if (!is_hashed_once()) FLUYT_TRY(diff_hash_.update(bytes));
    if (image_) FLUYT_TRY(image_->append(bytes));
    return tar_.push(bytes);
  }

  TarSink& start(sys::FdRef tree, sys::FdRef file) {
    const DiskRoom room(tree, options_.max_unpacked_bytes, options_.keep_free_bytes);
    if (options_.form == LayerForm::kErofs)
      return image_.emplace(file, tree, options_.tree, room).sink();
    return tree_.emplace(tree, options_.tree, room, options_.has_manifest ? file : sys::FdRef());
  }

  const UnpackOptions& options_;
  Hasher blob_hash_;
  Hasher diff_hash_;
  std::optional<TreeWriter> tree_;  // one of these two
  std::optional<erofs::ImageWriter> image_;
  TarParser tar_;
  Inflater inflater_;
  uint64_t blob_bytes_ = 0;
  uint64_t unpacked_bytes_ = 0;
};

}  // namespace

Result<LayerInfo> unpack(sys::FdRef in, sys::FdRef tree, sys::FdRef file,
                         const UnpackOptions& options) {
  Unpacker unpacker(tree, file, options, FLUYT_TRY(Hasher::create(options.blob_algorithm)),
                    FLUYT_TRY(Hasher::create(options.diff_algorithm)));
  std::vector<char> buffer(kReadBytes);
  while (true) {
    const size_t got = FLUYT_TRY(sys::read_some(in, buffer));
    if (got == 0) return unpacker.finish();
    if (options.between_steps) options.between_steps();
    FLUYT_TRY(unpacker.push({buffer.data(), got}));
  }
}

}  // namespace fluyt::image
