#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/layer/tar.h"

/// One 512-byte header block of a tar: where things are in it (tar(5)).
namespace fluyt::image::tar {

inline constexpr size_t kBlock = 512;

struct Field {
  size_t offset;
  size_t size;
};
inline constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12};
inline constexpr Field kMtime{136, 12}, kChecksum{148, 8}, kLinkName{157, 100}, kMagic{257, 8};
inline constexpr Field kMajor{329, 8}, kMinor{337, 8}, kPrefix{345, 155}, kStarPrefix{345, 131};
inline constexpr Field kStarTrailer{508, 4}, kGnuAtime{345, 12}, kGnuCtime{357, 12},
    kGnuRealSize{483, 12};
inline constexpr size_t kTypeFlag = 156;
/// Maps of old GNU sparse files: pairs of number fields, in the header and in blocks of their own.
inline constexpr size_t kSparseAt = 386, kSparseCount = 4, kSparseMore = 482;
inline constexpr size_t kExtensionCount = 21, kExtensionMore = 504;

inline std::string_view field(const char* block, Field f) { return {block + f.offset, f.size}; }
bool is_zero(const char* block);
bool checksum_matches(const char* block);
/// What goes before the name, by the block's format; empty when nothing does.
std::string_view prefix_of(const char* block);
/// Up to `count` pairs of old GNU sparse fields at `at`; an empty one ends them.
Result<> read_old_pieces(const char* at, size_t count, std::vector<SparsePiece>& out);

inline uint64_t padding_of(uint64_t size) { return (kBlock - size % kBlock) % kBlock; }
/// Types without a body whatever their size field says.
inline bool is_header_only(char flag) { return flag >= '1' && flag <= '6'; }

}  // namespace fluyt::image::tar
