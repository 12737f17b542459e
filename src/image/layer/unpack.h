#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/standby_thread.h"
#include "image/layer/info.h"
#include "image/layer/tree.h"
#include "sys/fd.h"

namespace fluyt::image {

struct UnpackOptions {
  std::string blob_algorithm = "sha256";
  std::string diff_algorithm = "sha256";
  uint64_t max_blob_bytes = UINT64_MAX;
  uint64_t max_unpacked_bytes = UINT64_MAX;  // of the archive, and of what is made of it
  uint64_t keep_free_bytes = 0;              // of the disk, whoever takes the rest
  TreeLimits tree;
  LayerForm form = LayerForm::kDirectory;
  bool has_manifest = false;            // of kDirectory: one is wanted
  std::function<void()> between_steps;  // of some milliseconds each; may be empty
};

/// Those that work beside the caller, which makes names. They run, with the capabilities of when
/// they were started, before there is work, so that the caller may forbid itself to start more.
struct UnpackThreads {
  StandbyThread reader;  // all that is before the archive's parser
  StandbyThread filler;  // what small files of a tree hold
};

/// What a worker does: reads a blob from `in` to its end, in one pass through both hashes, the
/// inflater and the tar parser, into the empty directory `tree`, and its manifest into the empty
/// `file`; or an image into `file` (kErofs; `tree` stays empty). The digests are what was found;
/// comparing them is the caller's duty. Nothing is opened but what is below `tree`, and no
/// thread works on it when this returns.
Result<LayerInfo> unpack(sys::FdRef in, sys::FdRef tree, sys::FdRef file,
                         const UnpackOptions& options, UnpackThreads& threads);

/// How `fluyt-unpack` tells its caller what came of it: one JSON object, the LayerInfo or the
/// error.
std::string to_report(const Result<LayerInfo>& outcome);
Result<LayerInfo> parse_report(std::string_view report);
/// The most that a report may have.
inline constexpr size_t kMaxReportBytes = 64UL << 20U;

/// Numbers of the descriptors that `fluyt-unpack` is started with, beside the blob on its input.
inline constexpr int kTreeFd = 3;
inline constexpr int kReportFd = 4;
inline constexpr int kFileFd = 5;        // with --form erofs or --manifest yes
inline constexpr int kPrecedenceFd = 6;  // with --gives-way yes: a page of sys::Precedence

}  // namespace fluyt::image
