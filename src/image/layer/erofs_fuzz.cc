// A tar as a layer may be, laid out as an EROFS image: what is written is the same whatever pieces
// the archive came in, and holds for a reader who believes none of it, which the kernel has to be.

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/blob/hasher.h"
#include "image/layer/erofs_format.h"
#include "image/layer/erofs_image.h"
#include "image/layer/tar.h"
#include "image/layer/tar_mutator.h"
#include "sys/file.h"

namespace {

using namespace fluyt;
namespace erofs = image::erofs;

constexpr uint64_t kMaxImageBytes = 16UL << 20U;

void must(bool holds) {
  if (!holds) std::abort();
}

struct Written {
  sys::Fd file;
  erofs::ImageSummary summary;
  std::string bytes;
};

// As a worker does it; nothing where the layer is refused.
std::optional<Written> write(std::string_view tar, size_t piece, const oci::Digest& diff_id) {
  static const sys::TempDir folder =
      sys::TempDir::create(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp").value();
  static const sys::Fd scratch = sys::open(folder.path(), O_RDONLY | O_DIRECTORY).value();
  sys::Fd file(memfd_create("image", MFD_CLOEXEC));
  must(file.valid());
  erofs::ImageWriter writer(file, scratch, image::TreeLimits(),
                            image::DiskRoom(scratch, kMaxImageBytes, 0));
  image::TarParser parser(writer.sink());
  while (!tar.empty()) {
    const std::string_view now = tar.substr(0, piece);
    if (!writer.append(now).ok() || !parser.push(now).ok()) return std::nullopt;
    tar.remove_prefix(now.size());
  }
  if (!parser.finish().ok()) return std::nullopt;
  auto summary = writer.finish(diff_id);
  if (!summary.ok()) return std::nullopt;
  must(lseek(file.raw(), 0, SEEK_SET) == 0);
  std::string bytes = sys::read_all(file, 2 * kMaxImageBytes).value();
  return Written{std::move(file), std::move(*summary), std::move(bytes)};
}

// Reads an image from its root on, and ends with the first thing that is not as it has to be.
class Reader {
 public:
  Reader(std::string_view image, uint64_t archive_bytes)
      : image_(image), archive_end_(erofs::kArchiveOffset + archive_bytes) {}

  void run() {
    super_ = at<erofs::SuperBlock>(erofs::kSuperOffset);
    must(super_.magic == erofs::kMagic && super_.blkszbits == erofs::kBlockBits);
    must(static_cast<uint64_t>(super_.blocks) << erofs::kBlockBits == image_.size());
    meta_ = static_cast<uint64_t>(super_.meta_blkaddr) << erofs::kBlockBits;
    must(meta_ >= archive_end_);
    open_.emplace_back(super_.root_nid, super_.root_nid);
    seen_[super_.root_nid].names = 0;
    while (!open_.empty()) {
      const auto [nid, parent] = open_.back();
      open_.pop_back();
      directory(nid, parent);
    }
    must(seen_.size() == super_.inos);
    for (const auto& [nid, seen] : seen_) {
      const auto inode = inode_of(nid);
      if (S_ISDIR(inode.i_mode)) {
        must(inode.i_nlink == 2 + seen.folders);
        must(seen.names == (nid == super_.root_nid ? 0 : 1));
      } else {
        must(inode.i_nlink == seen.names);
      }
    }
  }

 private:
  struct Seen {
    uint32_t names = 0;
    uint32_t folders = 0;  // in it
  };

  std::string_view piece(uint64_t from, uint64_t bytes) const {
    must(from <= image_.size() && bytes <= image_.size() - from);
    return image_.substr(from, bytes);
  }
  template <class Value>
  Value at(uint64_t from) const {
    Value out;
    std::memcpy(&out, piece(from, sizeof out).data(), sizeof out);
    return out;
  }
  uint64_t place_of(uint64_t nid) const { return meta_ + nid * erofs::kSlot; }
  erofs::Inode inode_of(uint64_t nid) const { return at<erofs::Inode>(place_of(nid)); }
  static uint64_t xattr_bytes(const erofs::Inode& inode) {
    if (inode.i_xattr_icount == 0) return 0;
    return sizeof(erofs::XattrHeader) + 4UL * (inode.i_xattr_icount - 1U);
  }

  void xattrs(uint64_t nid, const erofs::Inode& inode) const {
    std::string_view left = piece(place_of(nid) + sizeof inode, xattr_bytes(inode));
    if (left.empty()) return;
    must(left.find_first_not_of('\0') >= sizeof(erofs::XattrHeader));  // none of them is shared
    left.remove_prefix(sizeof(erofs::XattrHeader));
    must(!left.empty());
    while (!left.empty()) {
      erofs::XattrEntry entry{};
      must(left.size() >= sizeof entry);
      std::memcpy(&entry, left.data(), sizeof entry);
      const uint64_t bytes = (sizeof entry + entry.e_name_len + entry.e_value_size + 3U) & ~3UL;
      must(bytes <= left.size());
      must(entry.e_name_index >= 1 && entry.e_name_index <= 6 && entry.e_name_index != 5);
      left.remove_prefix(bytes);
    }
  }

  // Where a file's or a link's bytes lie, each inode once.
  void content(uint64_t nid, const erofs::Inode& inode) const {
    const uint64_t behind = place_of(nid) + sizeof inode + xattr_bytes(inode);
    const auto layout = static_cast<erofs::DataLayout>(inode.i_format >> 1U);
    const uint64_t first = static_cast<uint64_t>(inode.i_u) << erofs::kBlockBits;
    if (S_ISLNK(inode.i_mode)) {
      must(inode.i_size > 0 && inode.i_size <= 4095);
      const bool is_inline = layout == erofs::DataLayout::kFlatInline;
      const std::string_view target = piece(is_inline ? behind : first, inode.i_size);
      must(!is_inline ||
           place_of(nid) / erofs::kBlock == (behind + inode.i_size - 1) / erofs::kBlock);
      must(is_inline || first >= meta_);
      must(target.find('\0') == std::string_view::npos);
    } else if (S_ISREG(inode.i_mode) && layout == erofs::DataLayout::kChunkBased) {
      must((super_.feature_incompat & erofs::kIncompatChunkedFile) != 0);
      const uint64_t chunk = erofs::kBlock << inode.i_u;
      must(inode.i_u <= 0x1F && behind % 4 == 0);
      const uint64_t count = inode.i_size / chunk + (inode.i_size % chunk != 0 ? 1 : 0);
      for (uint64_t i = 0; i < count; ++i) {
        const auto block = at<uint32_t>(behind + 4 * i);
        if (block == erofs::kNullAddress) continue;
        const uint64_t from = static_cast<uint64_t>(block) << erofs::kBlockBits;
        must(from >= archive_end_ && from + chunk <= meta_);
      }
    } else if (S_ISREG(inode.i_mode)) {
      must(layout == erofs::DataLayout::kFlatPlain);
      must(inode.i_size == 0 || (first >= erofs::kArchiveOffset && first < archive_end_ &&
                                 inode.i_size <= archive_end_ - first));
    } else {
      must(inode.i_size == 0);
    }
  }

  static uint8_t type_of(const erofs::Inode& inode) {
    switch (inode.i_mode & S_IFMT) {
      case S_IFDIR:
        return 2;
      case S_IFCHR:
        return 3;
      case S_IFBLK:
        return 4;
      case S_IFIFO:
        return 5;
      case S_IFLNK:
        return 7;
      default:
        must(S_ISREG(inode.i_mode));
        return 1;
    }
  }

  void name(uint64_t directory, uint64_t parent, std::string_view text, erofs::Dirent dirent) {
    must(!text.empty() && text.size() <= 255);
    must(text.find('/') == std::string_view::npos && text.find('\0') == std::string_view::npos);
    if (text == ".") must(dirent.nid == directory);
    if (text == "..") must(dirent.nid == parent);
    const auto inode = inode_of(dirent.nid);
    must(dirent.file_type == type_of(inode));
    if (text == "." || text == "..") return;
    const auto [seen, is_new] = seen_.try_emplace(dirent.nid);
    ++seen->second.names;
    if (S_ISDIR(inode.i_mode)) {
      must(is_new);
      ++seen_[directory].folders;
      open_.emplace_back(dirent.nid, directory);
    } else if (is_new) {
      must((inode.i_format & 1U) == erofs::kExtendedInode);
      xattrs(dirent.nid, inode);
      content(dirent.nid, inode);
    }
  }

  void directory(uint64_t nid, uint64_t parent) {
    const auto inode = inode_of(nid);
    must(S_ISDIR(inode.i_mode) &&
         inode.i_format == erofs::format_of(erofs::DataLayout::kFlatPlain));
    xattrs(nid, inode);
    const uint64_t first = static_cast<uint64_t>(inode.i_u) << erofs::kBlockBits;
    must(first >= meta_);
    const std::string_view all = piece(first, inode.i_size);
    std::string last;
    size_t dots = 0;
    for (size_t from = 0; from < all.size(); from += erofs::kBlock) {
      const std::string_view block = all.substr(from, erofs::kBlock);
      const auto dirent_at = [&](size_t i) {
        erofs::Dirent out{};
        must((i + 1) * sizeof out <= block.size());
        std::memcpy(&out, block.data() + i * sizeof out, sizeof out);
        return out;
      };
      const size_t count = dirent_at(0).nameoff / sizeof(erofs::Dirent);
      must(count > 0 && dirent_at(0).nameoff % sizeof(erofs::Dirent) == 0);
      for (size_t i = 0; i < count; ++i) {
        const erofs::Dirent dirent = dirent_at(i);
        const size_t end = i + 1 < count ? dirent_at(i + 1).nameoff : block.size();
        must(dirent.nameoff < end && end <= block.size());
        std::string_view text = block.substr(dirent.nameoff, end - dirent.nameoff);
        if (i + 1 == count) text = text.substr(0, text.find('\0'));  // a block's end is zeros
        must(last < text);
        last = text;
        if (text == "." || text == "..") ++dots;
        name(nid, parent, text, dirent);
      }
    }
    must(dots == 2);
  }

  const std::string_view image_;
  const uint64_t archive_end_;
  erofs::SuperBlock super_{};
  uint64_t meta_ = 0;
  std::map<uint64_t, Seen> seen_;                    // by number, the root too
  std::vector<std::pair<uint64_t, uint64_t>> open_;  // directories with those they are in
};

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  return image::mutate_tar(data, size, max_size, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view tar(reinterpret_cast<const char*>(data), size);
  const oci::Digest diff_id = image::digest_of("sha256", tar).value();
  const auto whole = write(tar, SIZE_MAX, diff_id);
  const auto pieces = write(tar, 333, diff_id);
  must(whole.has_value() == pieces.has_value());
  if (!whole) return 0;
  must(whole->bytes == pieces->bytes);
  must(whole->bytes.size() == whole->summary.image_bytes);
  must(std::string_view(whole->bytes).substr(erofs::kArchiveOffset, size) == tar);
  Reader(whole->bytes, size).run();
  image::LayerInfo info{.diff_id = diff_id, .blob_digest = diff_id};
  info.unpacked_bytes = size;
  info.disk_bytes = whole->summary.image_bytes;
  info.metadata_digest = whole->summary.metadata_digest.text();
  must(erofs::check_image(whole->file, info).ok());
  return 0;
}
