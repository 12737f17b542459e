#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fluyt::image {

enum class TarType { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };

/// One thing that a tar holds, with every extension applied. Names are as found: hostile.
struct TarEntry {
  TarType type = TarType::kFile;
  std::string path;
  std::string link;   // of hard links and symlinks
  uint32_t mode = 0;  // permission bits, setuid, setgid, sticky
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;  // of the file, holes included
  bool sparse = false;
  uint64_t body_position = 0;  // of the first byte of data in the archive
  int64_t mtime = 0;
  uint32_t mtime_ns = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

/// Who takes what a TarParser finds: begin(), then for files data() in rising order of offset (what
/// is left out is a hole) and end().
class TarSink {
 public:
  TarSink() = default;
  TarSink(const TarSink&) = delete;
  TarSink& operator=(const TarSink&) = delete;
  virtual ~TarSink() = default;
  virtual Result<> begin(TarEntry& entry) = 0;
  virtual Result<> data(uint64_t offset, std::string_view bytes) = 0;
  virtual Result<> end() = 0;
};

/// The most that one extension header (PAX record set, GNU long name) may have.
inline constexpr uint64_t kMaxTarMetaBytes = 1UL << 20U;
/// The most pieces that a sparse file may have.
inline constexpr size_t kMaxSparsePieces = 1UL << 20U;
/// The most extended attributes that one entry may have.
inline constexpr size_t kMaxTarXattrs = 1024;

struct SparsePiece {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool operator==(const SparsePiece&) const = default;
};

/// The records of a PAX header in their order, key and value; an empty value takes the key back.
using PaxRecords = std::vector<std::pair<std::string, std::string>>;
Result<PaxRecords> parse_pax(std::string_view body);

/// What PAX records say about the entry that follows (the fields that a layer can use).
struct PaxFields {
  std::optional<std::string> path, link;
  std::optional<int64_t> uid, gid, size;
  std::optional<int64_t> mtime;
  uint32_t mtime_ns = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
  bool sparse = false;              // GNU sparse 0.x or 1.0
  bool sparse_map_in_data = false;  // 1.0
  std::string sparse_map;           // 0.x: "offset,length,…"
  std::optional<uint64_t> real_size;
};
Result<PaxFields> read_pax_fields(const PaxRecords& records);
/// The pieces of a GNU sparse 0.x map.
Result<> read_pax_pieces(std::string_view map, std::vector<SparsePiece>& out);

/// Reads a tar as its bytes arrive, in pieces of any size: old v7, ustar, PAX, GNU and star
/// headers, long names, base-256 numbers, GNU sparse files in all their forms (old, 0.0, 0.1, 1.0).
/// Where formats are ambiguous it reads what Go's archive/tar reads, because that is what built the
/// images. Volume labels, multi-volume pieces and dump directories are passed over; global PAX
/// headers are checked and have no effect; types it does not know are refused. What follows the end
/// is ignored.
class TarParser {
 public:
  explicit TarParser(TarSink& sink) : sink_(sink) {}

  Result<> push(std::string_view bytes);
  /// The bytes have ended: kDataLoss when that is in the middle of an entry.
  Result<> finish();

  /// Entries given to the sink so far, and those passed over.
  uint64_t entries() const { return entries_; }
  uint64_t skipped() const { return skipped_; }

 private:
  enum class State { kHeader, kMeta, kOldSparse, kSparseMap, kData, kSkip, kPadding, kEnded };
  enum class Meta { kLongName, kLongLink, kPax, kGlobal };

  const char* take_block(std::string_view& bytes);
  Result<> step(std::string_view& bytes);
  Result<> block_done(const char* block);
  Result<> header(const char* block);
  Result<> start_meta(Meta kind, uint64_t body_bytes);
  Result<> meta_done();
  void start_skip(uint64_t body_bytes);
  Result<> entry(const char* block, char flag);
  Result<> merge_pax(std::optional<int64_t>& uid, std::optional<int64_t>& gid,
                     uint64_t& body_bytes);
  Result<> read_device(const char* block);
  Result<> start_old_sparse(const char* block);
  Result<> old_sparse(const char* block);
  Result<> sparse_map_block(const char* block);
  Result<> validate_sparse(uint64_t body_bytes) const;
  Result<> start_data();
  Result<> data(std::string_view& bytes);
  Result<> end_of_body();
  void after_body();
  void forget_extensions();

  TarSink& sink_;
  uint64_t end_ = 0;   // how far the archive has come,
  uint64_t here_ = 0;  // and the position behind the block that was taken last
  State state_ = State::kHeader;
  Meta meta_kind_ = Meta::kPax;
  std::string block_;       // a block that arrives in pieces
  uint64_t body_left_ = 0;  // of what kMeta, kData and kSkip read
  uint64_t padding_left_ = 0;
  bool zero_block_seen_ = false;
  uint64_t entries_ = 0;
  uint64_t skipped_ = 0;

  std::string meta_;  // body of an extension header
  std::optional<std::string> long_name_, long_link_;
  PaxRecords pax_;
  bool has_extensions_ = false;

  TarEntry entry_;
  bool sparse_ = false;
  std::vector<SparsePiece> pieces_;
  size_t piece_ = 0;
  uint64_t piece_done_ = 0;
  uint64_t offset_ = 0;
  bool sparse_map_follows_ = false;       // GNU sparse 1.0: the map is at the start of the data,
  std::string sparse_text_;               // read block by block: the line not yet whole,
  std::vector<uint64_t> sparse_numbers_;  // and those that are
};

}  // namespace fluyt::image
