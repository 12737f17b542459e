#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "oci/digest.h"
#include "sys/fd.h"

namespace fluyt::image::archive {

struct MemberInfo {
  uint64_t size = 0;
  oci::Digest digest;  // sha256 of its bytes as they were when it was looked at
};

/// The files of an archive by their names in it, relative and clean ("blobs/sha256/…"). Names come
/// from the archive and are hostile: none of them ever becomes a path outside it. Thread-safe.
class Members {
 public:
  Members() = default;
  Members(const Members&) = delete;
  Members& operator=(const Members&) = delete;
  virtual ~Members() = default;
  virtual Result<bool> has(const std::string& name) const = 0;
  /// A regular file open for reading; kNotFound names it.
  virtual Result<sys::Fd> open(const std::string& name) const = 0;
  virtual Result<MemberInfo> info(const std::string& name) const = 0;
};

/// The files of a folder, resolved beneath it; a symlink is no file.
Result<std::unique_ptr<Members>> open_folder(const std::string& path);

inline constexpr size_t kMaxMembers = 100'000;
inline constexpr size_t kMaxMemberNameBytes = 4095;  // PATH_MAX less its NUL
inline constexpr uint64_t kMaxMemberNamesBytes = 16UL
                                                 << 20U;  // held in memory, with links' targets

/// The regular files of a tar, plain or compressed with gzip or zstd, and links from one to
/// another. A `fluyt-unpack`, shut in with it, unpacks them into files of our own naming in a new
/// folder below options.scratch, which goes with the object. Members whose name or target has more
/// than kMaxMemberNameBytes are passed over. More than options.limit_bytes in the file or in the
/// tar that it inflates to, kMaxMembers or kMaxMemberNamesBytes in all are kResourceExhausted;
/// kCancelled ends the worker.
struct TarOptions {
  std::string scratch;                           // an existing folder of ours
  uint64_t limit_bytes = 0;                      // that the members may take there
  std::string unpack_program;                    // absolute path of fluyt-unpack
  const std::atomic<bool>* cancelled = nullptr;  // ends it with kCancelled
};
Result<std::unique_ptr<Members>> open_tar(const std::string& path, const TarOptions& options);

/// A name as members are looked up by: without leading "/" and "./", without empty pieces; nothing
/// when it has "..".
std::optional<std::string> clean_name(std::string_view name);

}  // namespace fluyt::image::archive
