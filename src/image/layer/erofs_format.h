#pragma once

#include <cstddef>
#include <cstdint>

/// EROFS as it lies on the disk, all numbers little-endian (kernel
/// Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h): the parts that an image without
/// compression needs.
namespace fluyt::image::erofs {

inline constexpr uint32_t kMagic = 0xE0F5E1E2;
inline constexpr uint64_t kSuperOffset = 1024;
/// Blocks of 512 bytes, as tar has them: so the archive itself can be the files' data.
inline constexpr unsigned kBlockBits = 9;
inline constexpr uint64_t kBlock = 1U << kBlockBits;
/// Inodes are found by the number of their 32-byte slot.
inline constexpr uint64_t kSlot = 32;
inline constexpr uint32_t kNullAddress = 0xFFFFFFFF;  // of a chunk that is a hole
inline constexpr uint64_t kMaxBlocks = kNullAddress;

inline constexpr uint32_t kCompatMtime = 0x2;
inline constexpr uint32_t kIncompatChunkedFile = 0x4;

struct SuperBlock {
  uint32_t magic;
  uint32_t checksum;  // none: a compatible feature that is not set
  uint32_t feature_compat;
  uint8_t blkszbits;
  uint8_t sb_extslots;
  uint16_t root_nid;
  uint64_t inos;
  uint64_t build_time;
  uint32_t build_time_nsec;
  uint32_t blocks;
  uint32_t meta_blkaddr;
  uint32_t xattr_blkaddr;
  uint8_t uuid[16];         // NOLINT(modernize-avoid-c-arrays): the layout on the disk
  uint8_t volume_name[16];  // NOLINT(modernize-avoid-c-arrays)
  uint32_t feature_incompat;
  uint16_t available_compr_algs;
  uint16_t extra_devices;
  uint16_t devt_slotoff;
  uint8_t dirblkbits;
  uint8_t xattr_prefix_count;
  uint32_t xattr_prefix_start;
  uint64_t packed_nid;
  uint8_t xattr_filter_reserved;
  uint8_t reserved[23];  // NOLINT(modernize-avoid-c-arrays)
};
static_assert(sizeof(SuperBlock) == 128);

enum class DataLayout : uint16_t { kFlatPlain = 0, kFlatInline = 2, kChunkBased = 4 };
inline constexpr uint16_t kExtendedInode = 1;
constexpr uint16_t format_of(DataLayout layout) {
  return static_cast<uint16_t>(kExtendedInode | static_cast<uint16_t>(layout) << 1U);
}

struct Inode {  // of the extended form
  uint16_t i_format;
  uint16_t i_xattr_icount;
  uint16_t i_mode;
  uint16_t i_reserved;
  uint64_t i_size;
  uint32_t i_u;  // first block, device number, or chunk format
  uint32_t i_ino;
  uint32_t i_uid;
  uint32_t i_gid;
  int64_t i_mtime;
  uint32_t i_mtime_nsec;
  uint32_t i_nlink;
  uint8_t i_reserved2[16];  // NOLINT(modernize-avoid-c-arrays)
};
static_assert(sizeof(Inode) == 64);

/// Attributes follow their inode: this, then entries, each at a multiple of four.
struct XattrHeader {
  uint32_t h_name_filter;
  uint8_t h_shared_count;
  uint8_t h_reserved2[7];  // NOLINT(modernize-avoid-c-arrays)
};
static_assert(sizeof(XattrHeader) == 12);
struct XattrEntry {
  uint8_t e_name_len;  // without the prefix that the index stands for
  uint8_t e_name_index;
  uint16_t e_value_size;
};
static_assert(sizeof(XattrEntry) == 4);
inline constexpr uint64_t kMaxXattrBytes = sizeof(XattrHeader) + 4UL * (0xFFFF - 1);

/// A directory's blocks: records first, then their names; sorted by name over all of them.
struct Dirent {
  uint64_t nid;
  uint16_t nameoff;
  uint8_t file_type;
  uint8_t reserved;
} __attribute__((packed));
static_assert(sizeof(Dirent) == 12);

enum class FileType : uint8_t {
  kRegular = 1,
  kDirectory = 2,
  kCharDevice = 3,
  kBlockDevice = 4,
  kFifo = 5,
  kSymlink = 7
};

}  // namespace fluyt::image::erofs
