#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/layer/entry_reader.h"
#include "image/layer/erofs_nodes.h"
#include "image/layer/tree.h"
#include "oci/digest.h"
#include "sys/fd.h"

namespace fluyt::image::erofs {

/// Where the archive begins in an image: before it are the superblock and zeros.
inline constexpr uint64_t kArchiveOffset = 4096;

struct ImageSummary {
  TreeSummary tree;
  uint64_t image_bytes = 0;
  oci::Digest metadata_digest;  // sha256 of all behind the archive, then of all before it
};

/// A layer as one EROFS image in one file, written in one pass:
///
///     0      superblock at 1024
///     4096   the archive, byte for byte: files' data stay where they are in it
///            chunks of sparse files, which the archive has packed
///            inodes with attributes, directories, long symlinks
///
/// So the layer's diff id can be checked again in the image, and the tar can be had back.
class ImageWriter final : private ChunkSink {
 public:
  /// `file`: an empty regular file, open for reading and writing; `scratch`: a directory on the
  /// same disk, where an unnamed file is made if need be. Both borrowed. `room` is asked for all
  /// that is written.
  ImageWriter(sys::FdRef file, sys::FdRef scratch, TreeLimits limits, DiskRoom room = {});

  /// What the archive's parser is to tell of each entry.
  TarSink& sink() { return nodes_; }
  /// The archive's next bytes, before the parser sees them.
  Result<> append(std::string_view bytes);
  /// All entries are in. `diff_id` gives the image its uuid.
  Result<ImageSummary> finish(const oci::Digest& diff_id);

 private:
  Result<uint64_t> add(uint64_t chunk_bytes) override;
  Result<> write(uint64_t position, std::string_view bytes) override;

  const sys::FdRef file_;
  const sys::FdRef scratch_;
  DiskRoom room_;
  Nodes nodes_;
  uint64_t archive_bytes_ = 0;
  sys::Fd chunks_;
  uint64_t chunk_bytes_ = 0;
};

/// Reads an image whole and holds it against its layer's record: kDataLoss says what differs.
Result<> check_image(sys::FdRef file, const LayerInfo& info,
                     const BetweenSteps& between_steps = {});

}  // namespace fluyt::image::erofs
