#include "image/layer/unpack.h"

#include <poll.h>

#include <cerrno>
#include <exception>
#include <optional>
#include <vector>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/erofs_image.h"
#include "image/layer/handover.h"
#include "image/layer/inflate.h"
#include "image/layer/tar.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kReadBytes = 256UL << 10U;
constexpr int kStopCheckMs = 100;

// The first thread's part: from the blob's bytes to the archive's.
class BlobReader final : public InflateTarget {
 public:
  BlobReader(const UnpackOptions& options, Hasher blob_hash, Hasher diff_hash, Handover& archive)
      : options_(options),
        blob_hash_(std::move(blob_hash)),
        diff_hash_(std::move(diff_hash)),
        archive_(archive),
        inflater_(*this) {}

  // To the blob's end, or until nobody takes what comes of it.
  Result<> read(sys::FdRef in) {
    std::vector<char> buffer(kReadBytes);
    while (true) {
      FLUYT_TRY(wait_for(in));
      const size_t got = FLUYT_TRY(sys::read_some(in, buffer));
      if (got == 0) return inflater_.finish();
      // The others come to rest when there is nothing from here.
      if (options_.between_steps) options_.between_steps();
      FLUYT_TRY(push({buffer.data(), got}));
    }
  }

  // What was found, after the end.
  Result<LayerInfo> finish() {
    const oci::Digest blob_digest = FLUYT_TRY(blob_hash_.finish());
    LayerInfo info{.diff_id = is_hashed_once() ? blob_digest : FLUYT_TRY(diff_hash_.finish()),
                   .blob_digest = blob_digest};
    info.form = options_.form;
    info.compression = inflater_.compression();
    info.blob_bytes = blob_bytes_;
    info.unpacked_bytes = unpacked_bytes_;
    return info;
  }

  Result<std::span<char>> room() override {
    room_ = archive_.room();
    if (room_.empty()) return nobody_takes_it();
    return room_;
  }

  Result<> made(size_t bytes) override {
    unpacked_bytes_ += bytes;
    if (unpacked_bytes_ > options_.max_unpacked_bytes) {
      return Error(Code::kResourceExhausted,
                   cat("the layer unpacks to more than ", options_.max_unpacked_bytes, " bytes"));
    }
    // Before it is handed over, while it is in this processor's cache.
    if (!is_hashed_once()) FLUYT_TRY(diff_hash_.update({room_.data(), bytes}));
    archive_.give(bytes);
    return {};
  }

 private:
  static Error nobody_takes_it() { return {Code::kCancelled, "nobody takes the archive"}; }

  // A blob that trickles in must not keep from its caller what was found to be wrong with it.
  Result<> wait_for(sys::FdRef in) {
    while (!archive_.stopped()) {
      pollfd entry{.fd = in.raw(), .events = POLLIN, .revents = 0};
      const int ready = poll(&entry, 1, kStopCheckMs);
      if (ready > 0) return {};
      if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll(blob)");
    }
    return nobody_takes_it();
  }

  Result<> push(std::string_view bytes) {
    blob_bytes_ += bytes.size();
    if (blob_bytes_ > options_.max_blob_bytes) {
      return Error(Code::kDataLoss,
                   cat("the blob goes on past its ", options_.max_blob_bytes, " bytes"));
    }
    FLUYT_TRY(blob_hash_.update(bytes));
    return inflater_.push(bytes);
  }

  // What was not compressed has one digest for two purposes.
  bool is_hashed_once() const {
    return inflater_.compression() == "none" && options_.blob_algorithm == options_.diff_algorithm;
  }

  const UnpackOptions& options_;
  Hasher blob_hash_;
  Hasher diff_hash_;
  Handover& archive_;
  std::span<char> room_;
  Inflater inflater_;
  uint64_t blob_bytes_ = 0;
  uint64_t unpacked_bytes_ = 0;
};

// The second's: from the archive to a tree, or to an image.
class ArchiveReader {
 public:
  ArchiveReader(sys::FdRef tree, sys::FdRef file, const UnpackOptions& options,
                StandbyThread& filler)
      : options_(options), tar_(start(tree, file, filler)) {}

  Result<> read(Handover& archive) {
    auto outcome = read_all(archive);
    // What went wrong with a file came before whatever it is that ends the reading.
    if (filler_) FLUYT_TRY(filler_->finish());
    return outcome;
  }

  Result<> finish(LayerInfo& info) {
    FLUYT_TRY(tar_.finish());
    TreeSummary tree;
    if (image_) {
      erofs::ImageSummary image = FLUYT_TRY(image_->finish(info.diff_id));
      tree = std::move(image.tree);
      info.metadata_digest = image.metadata_digest.text();
    } else {
      tree = FLUYT_TRY(tree_->finish());
      info.metadata_digest = tree.manifest_digest;
    }
    info.disk_bytes = tree.disk_bytes;
    info.inodes = tree.inodes;
    info.entries = tar_.entries();
    info.skipped = tree.skipped + tar_.skipped();
    info.opaque_root = tree.opaque_root;
    info.implied_dirs = std::move(tree.implied_dirs);
    info.lower_links = std::move(tree.lower_links);
    return {};
  }

 private:
  Result<> read_all(Handover& archive) {
    while (true) {
      const std::string_view bytes = archive.take();
      if (bytes.empty()) return {};
      if (image_) FLUYT_TRY(image_->append(bytes));
      FLUYT_TRY(tar_.push(bytes));
    }
  }

  TarSink& start(sys::FdRef tree, sys::FdRef file, StandbyThread& filler) {
    const DiskRoom room(tree, options_.max_unpacked_bytes, options_.keep_free_bytes);
    if (options_.form == LayerForm::kErofs)
      return image_.emplace(file, tree, options_.tree, room).sink();
    return tree_.emplace(tree, options_.tree, room, options_.has_manifest ? file : sys::FdRef(),
                         &filler_.emplace(filler));
  }

  const UnpackOptions& options_;
  std::optional<FileFiller> filler_;
  std::optional<TreeWriter> tree_;  // one of these two
  std::optional<erofs::ImageWriter> image_;
  TarParser tar_;
};

// Out of memory is the one thing that the standard library throws at us here.
Result<> read_caught(BlobReader& blob, sys::FdRef in) {
  try {
    return blob.read(in);
  } catch (const std::exception& error) {
    return Error(Code::kResourceExhausted, cat("unpack: ", error.what()));
  }
}

// A thread at work; it is joined before what it borrows is destroyed.
class Reading {
 public:
  Reading(StandbyThread& thread, BlobReader& blob, sys::FdRef in, Handover& archive)
      : thread_(thread), archive_(archive) {
    thread.run([this, &blob, in] {
      outcome_ = read_caught(blob, in);
      archive_.end();
    });
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  ~Reading() { join(); }

  // What came of it, once.
  Result<> end() {
    join();
    return std::move(outcome_);
  }

 private:
  void join() {
    archive_.stop();
    thread_.join();
  }

  StandbyThread& thread_;
  Handover& archive_;
  Result<> outcome_;
};

}  // namespace

Result<LayerInfo> unpack(sys::FdRef in, sys::FdRef tree, sys::FdRef file,
                         const UnpackOptions& options, UnpackThreads& threads) {
  Handover archive;
  BlobReader blob(options, FLUYT_TRY(Hasher::create(options.blob_algorithm)),
                  FLUYT_TRY(Hasher::create(options.diff_algorithm)), archive);
  ArchiveReader reader(tree, file, options, threads.filler);
  Reading reading(threads.reader, blob, in, archive);
  // What is wrong with the archive comes before what is wrong with the bytes behind it.
  FLUYT_TRY(reader.read(archive));
  FLUYT_TRY(reading.end());
  LayerInfo info = FLUYT_TRY(blob.finish());
  FLUYT_TRY(reader.finish(info));
  return info;
}

}  // namespace fluyt::image
