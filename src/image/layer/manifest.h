#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/layer/checksum.h"
#include "image/layer/disk_room.h"
#include "sys/fd.h"

namespace fluyt::image {

inline constexpr std::string_view kManifestName = "manifest";

/// What one name of a layer's tree was when it was made.
struct ManifestEntry {
  std::string path;    // relative to the tree's root, clean; "" is the root
  std::string target;  // of a further name of a file: its first, and nothing else is said of it
  mode_t mode = 0;     // with the type
  uid_t uid = 0;
  gid_t gid = 0;
  uint64_t size = 0;        // of a regular file, in bytes; the number of a device
  uint64_t content = 0;     // Checksum of a file's bytes, holes as zeros; of where a symlink leads
  uint64_t attributes = 0;  // attributes_of() a file or directory
  bool operator==(const ManifestEntry&) const = default;
};

/// Writes a tree's manifest as the tree is made: each name once, directories after all others.
///
///     "FLUYTMF1", then for each entry numbers in 7-bit groups, the lowest first (LEB128):
///     how many bytes of the path before it its own begins with; the rest (length, bytes); mode;
///     with mode 0: target (length, bytes)
///     otherwise:   uid, gid, size, content, attributes
///
/// Some 30 bytes an entry, thousands where short links lead to long paths; and 64 KiB of memory.
class ManifestWriter {
 public:
  /// Borrowed: an empty file, and a room that is asked for what is written to it; null: none is.
  explicit ManifestWriter(sys::FdRef file, DiskRoom* room = nullptr) : file_(file), room_(room) {}
  Result<> add(const ManifestEntry& entry);
  /// Forgets all that was added. The room has given it all the same.
  Result<> restart();
  /// After the last entry: what LayerInfo::metadata_digest says of the whole file, "crc64:…".
  Result<std::string> finish();

 private:
  void number(uint64_t value);
  void text(std::string_view bytes);
  Result<> flush();

  sys::FdRef file_;
  DiskRoom* room_;
  std::string buffer_;
  std::string last_path_;
  Checksum checksum_;
  bool begun_ = false;
};

/// Reads what ManifestWriter wrote. The one who wrote it had a hostile archive in its hands: paths
/// may be whatever bytes, and what cannot be is kDataLoss: a path or target, too, that is not clean
/// or has a name of more than 255 bytes.
class ManifestReader {
 public:
  /// Borrowed; read from its beginning, and once in full before this returns: another digest than
  /// `digest` is kDataLoss.
  static Result<ManifestReader> open(sys::FdRef file, std::string_view digest);
  /// The next; nothing at the end.
  Result<std::optional<ManifestEntry>> next();

 private:
  explicit ManifestReader(sys::FdRef file) : file_(file) {}
  Result<bool> fill();  // false: at the end
  Result<uint64_t> number();
  Result<std::string> text();

  sys::FdRef file_;
  uint64_t read_ = 0;  // of the file, in bytes
  std::string buffer_;
  size_t at_ = 0;  // in the buffer
  std::string last_path_;
};

}  // namespace fluyt::image
