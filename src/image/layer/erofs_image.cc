#include "image/layer/erofs_image.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <deque>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/erofs_format.h"
#include "image/layer/name.h"
#include "sys/file.h"

static_assert(std::endian::native == std::endian::little,
              "EROFS's numbers are written as they are");

namespace fluyt::image::erofs {

namespace {

using Kind = Node::Kind;

constexpr uint64_t kWriteBytes = 256UL << 10U;
/// Chunks of sparse files: a layer that wants more of them than this has no good use for it.
constexpr uint64_t kMaxChunkBytes = 4UL << 30U;
/// The root's number has 16 bits in the superblock, and 0 is no inode number for readdir(3).
constexpr uint64_t kFirstInode = kSlot;

constexpr uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
constexpr uint32_t block_of(uint64_t position) {
  return static_cast<uint32_t>(position >> kBlockBits);
}

Result<> pwrite_all(sys::FdRef fd, uint64_t at, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd.raw(), bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, "pwrite(image)");
    at += static_cast<uint64_t>(put);
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

template <class Value>
std::string_view bytes_of(const Value& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Appends to the image, and hashes what it appends.
class Out {
 public:
  Out(sys::FdRef file, uint64_t at, Hasher hasher)
      : file_(file), at_(at), hasher_(std::move(hasher)) {}

  uint64_t position() const { return at_ + buffer_.size(); }

  Result<> put(std::string_view bytes) {
    buffer_ += bytes;
    return buffer_.size() < kWriteBytes ? Result<>() : flush();
  }
  Result<> pad_to(uint64_t position) {
    while (this->position() < position) {
      FLUYT_TRY(put(std::string(std::min(position - this->position(), kWriteBytes), '\0')));
    }
    return {};
  }
  Result<> flush() {
    FLUYT_TRY(pwrite_all(file_, at_, buffer_));
    FLUYT_TRY(hasher_.update(buffer_));
    at_ += buffer_.size();
    buffer_.clear();
    return {};
  }
  // What is before the archive comes last, when all is known.
  Result<oci::Digest> finish(std::string_view head) {
    FLUYT_TRY(flush());
    FLUYT_TRY(pwrite_all(file_, 0, head));
    FLUYT_TRY(hasher_.update(head));
    return hasher_.finish();
  }

 private:
  sys::FdRef file_;
  uint64_t at_;
  Hasher hasher_;
  std::string buffer_;
};

struct Prefix {
  std::string_view text;
  uint8_t index;
  bool whole;  // the name is the prefix and nothing else
};
constexpr std::array<Prefix, 5> kPrefixes{{{"user.", 1, false},
                                           {"system.posix_acl_access", 2, true},
                                           {"system.posix_acl_default", 3, true},
                                           {"trusted.", 4, false},
                                           {"security.", 6, false}}};

// Header and entries, as they follow the inode; empty without attributes.
Result<std::string> encode_xattrs(const Node& node, bool is_root) {
  std::string out;
  const auto add = [&](std::string_view name, std::string_view value) -> Result<> {
    const auto* prefix = std::find_if(kPrefixes.begin(), kPrefixes.end(), [&](const Prefix& known) {
      return known.whole ? name == known.text : name.starts_with(known.text);
    });
    const std::string_view rest =
        prefix == kPrefixes.end() ? name : name.substr(prefix->text.size());
    if (prefix == kPrefixes.end() || rest.size() > 0xFF || value.size() > 0xFFFF) {
      return Error(Code::kInvalidArgument,
                   cat("attribute ", quote(name), " of ", value.size(), " bytes cannot be kept"));
    }
    if (out.empty()) out.assign(sizeof(XattrHeader), '\0');
    out += bytes_of(XattrEntry{.e_name_len = static_cast<uint8_t>(rest.size()),
                               .e_name_index = prefix->index,
                               .e_value_size = static_cast<uint16_t>(value.size())});
    out += rest;
    out += value;
    out.resize(round_up(out.size(), 4));
    if (out.size() <= kMaxXattrBytes) return {};
    return Error(Code::kInvalidArgument, "attributes have more bytes than an inode can keep");
  };
  if (node.xattrs) {
    for (const auto& [name, value] : *node.xattrs) FLUYT_TRY(add(name, value));
  }
  // overlayfs does not look for the mark on a layer's root; who stacks the layers is told instead.
  if (node.directory && node.directory->opaque && !is_root) {
    FLUYT_TRY(add("trusted.overlay.opaque", "y"));
  }
  // As in a tree of files: see TreeWriter::finish_directory.
  if (node.directory && node.directory->has_whiteouts && !is_root) {
    FLUYT_TRY(add(kOverlayOrigin, ""));
  }
  return out;
}

FileType file_type(const Node& node) {
  switch (node.kind) {
    case Kind::kDirectory:
      return FileType::kDirectory;
    case Kind::kSymlink:
      return FileType::kSymlink;
    case Kind::kCharDevice:
    case Kind::kWhiteout:
      return FileType::kCharDevice;
    case Kind::kBlockDevice:
      return FileType::kBlockDevice;
    case Kind::kFifo:
      return FileType::kFifo;
    case Kind::kFile:
    case Kind::kLowerLink:
      break;
  }
  return FileType::kRegular;
}

struct Name {
  std::string_view text;
  const Node* node;
};

// What the directory's blocks hold, in their order.
std::vector<Name> names_of(const Node& directory) {
  std::vector<Name> names;
  names.reserve(directory.directory->children.size() + 2);
  for (const auto& [name, child] : directory.directory->children) {
    if (child->kind != Kind::kLowerLink) names.push_back({name, child});
  }
  const auto insert = [&](std::string_view text, const Node* node) {
    names.insert(std::upper_bound(names.begin(), names.end(), text,
                                  [](std::string_view a, const Name& b) { return a < b.text; }),
                 {text, node});
  };
  insert(".", &directory);
  insert("..", directory.directory->parent);
  return names;
}

// Calls `block(first, last)` for each block's worth of names; the bytes of the whole directory.
template <class Block>
Result<uint64_t> for_each_block(const std::vector<Name>& names, Block block) {
  uint64_t total = 0;
  size_t first = 0;
  while (first < names.size()) {
    uint64_t bytes = 0;
    size_t last = first;
    while (last < names.size() && bytes + sizeof(Dirent) + names[last].text.size() <= kBlock) {
      bytes += sizeof(Dirent) + names[last].text.size();
      ++last;
    }
    FLUYT_TRY(block(first, last));
    total += last == names.size() ? bytes : kBlock;
    first = last;
  }
  return total;
}

// Where everything goes, and then writes it there.
class Layout {
 public:
  Layout(Nodes& nodes, uint64_t chunks_at, uint64_t meta_at)
      : nodes_(nodes), chunks_at_(chunks_at), meta_at_(meta_at), next_(kFirstInode) {}

  Result<> plan() {
    FLUYT_TRY(place(nodes_.root()));
    for (size_t i = 0; i < order_.size(); ++i) {
      if (order_[i]->kind == Kind::kDirectory) FLUYT_TRY(plan_directory(*order_[i]));
    }
    uint64_t at = round_up(meta_at_ + next_, kBlock);
    for (Node* node : order_) {
      const bool has_blocks = node->kind == Kind::kDirectory || is_long_link(*node);
      if (!has_blocks) continue;
      node->first_block = block_of(at);
      at += round_up(node->size, kBlock);
    }
    end_ = round_up(at, kArchiveOffset);
    if (end_ >> kBlockBits < kMaxBlocks) return {};
    return Error(Code::kResourceExhausted, cat("an image of ", end_, " bytes: at most ",
                                               kMaxBlocks << kBlockBits, " can be"));
  }

  Result<> write(Out& out) const {
    for (const Node* node : order_) FLUYT_TRY(write_inode(out, *node));
    for (const Node* node : order_) {
      const bool has_blocks = node->kind == Kind::kDirectory || is_long_link(*node);
      if (!has_blocks) continue;
      FLUYT_TRY(out.pad_to(static_cast<uint64_t>(node->first_block) << kBlockBits));
      if (node->kind == Kind::kDirectory) {
        FLUYT_TRY(write_directory(out, *node));
      } else {
        FLUYT_TRY(out.put(node->link));
      }
    }
    return out.pad_to(end_);
  }

  SuperBlock super_block() const {
    SuperBlock super{};
    super.magic = kMagic;
    super.feature_compat = kCompatMtime;
    super.blkszbits = kBlockBits;
    super.root_nid = static_cast<uint16_t>(nodes_root().nid);
    super.inos = order_.size();
    super.blocks = block_of(end_);
    super.meta_blkaddr = block_of(meta_at_);
    super.xattr_blkaddr = block_of(meta_at_);
    super.feature_incompat = has_chunks_ ? kIncompatChunkedFile : 0;
    return super;
  }

  uint64_t end() const { return end_; }

 private:
  const Node& nodes_root() const { return *order_.front(); }

  // With its inode in one block: longer ones get blocks of their own.
  static bool is_long_link(const Node& node) {
    return node.kind == Kind::kSymlink && sizeof(Inode) + node.size > kBlock;
  }

  uint64_t chunk_list_bytes(const Node& node) const {
    if (!node.sparse) return 0;
    const unsigned bits = nodes_.sparse_file(node).chunk_bits;
    return 4 * (round_up(node.size, 1UL << bits) >> bits);
  }

  Result<> place(Node& node) {
    const std::string xattrs = FLUYT_TRY(encode_xattrs(node, order_.empty()));
    uint64_t together = sizeof(Inode);  // in one block
    if (node.kind == Kind::kSymlink && !is_long_link(node)) together += node.size;
    if (next_ % kBlock + together > kBlock) next_ = round_up(next_, kBlock);
    node.nid = next_ / kSlot;
    has_chunks_ = has_chunks_ || node.sparse;
    const uint64_t behind = node.kind == Kind::kSymlink ? together - sizeof(Inode)
                                                        : xattrs.size() + chunk_list_bytes(node);
    next_ = round_up(next_ + sizeof(Inode) + behind, kSlot);
    order_.push_back(&node);
    return {};
  }

  Result<> plan_directory(Node& directory) {
    directory.links = 2;
    for (const auto& [name, child] : directory.directory->children) {
      if (child->kind == Kind::kLowerLink) continue;
      if (child->kind == Kind::kDirectory) {
        ++directory.links;
      } else {
        ++child->links;
      }
      if (child->nid == 0) FLUYT_TRY(place(*child));
    }
    directory.size =
        FLUYT_TRY(for_each_block(names_of(directory), [](size_t, size_t) { return Result<>(); }));
    return {};
  }

  Result<> write_inode(Out& out, const Node& node) const {
    FLUYT_TRY(out.pad_to(meta_at_ + node.nid * kSlot));
    const std::string xattrs = FLUYT_TRY(encode_xattrs(node, &node == order_.front()));
    Inode inode{};
    DataLayout layout = DataLayout::kFlatPlain;
    inode.i_xattr_icount =
        static_cast<uint16_t>(xattrs.empty() ? 0 : (xattrs.size() - sizeof(XattrHeader)) / 4 + 1);
    inode.i_mode = node.mode;
    inode.i_size = node.size;
    inode.i_ino = static_cast<uint32_t>(node.nid);
    inode.i_uid = node.uid;
    inode.i_gid = node.gid;
    inode.i_mtime = node.mtime;
    inode.i_mtime_nsec = node.mtime_ns;
    inode.i_nlink = node.links;
    switch (node.kind) {
      case Kind::kFile:
        if (node.sparse) {
          layout = DataLayout::kChunkBased;
          inode.i_u = nodes_.sparse_file(node).chunk_bits - kBlockBits;
        } else if (node.size != 0) {
          inode.i_u = block_of(kArchiveOffset + node.position);
        }
        break;
      case Kind::kDirectory:
        inode.i_u = node.first_block;
        break;
      case Kind::kSymlink:
        if (is_long_link(node)) {
          inode.i_u = node.first_block;
        } else {
          layout = DataLayout::kFlatInline;
        }
        break;
      case Kind::kCharDevice:
      case Kind::kBlockDevice:
        inode.i_u = node.device;
        break;
      case Kind::kFifo:
      case Kind::kWhiteout:
      case Kind::kLowerLink:
        break;
    }
    inode.i_format = format_of(layout);
    FLUYT_TRY(out.put(bytes_of(inode)));
    FLUYT_TRY(out.put(xattrs));
    if (layout == DataLayout::kFlatInline) return out.put(node.link);
    return layout == DataLayout::kChunkBased ? write_chunk_list(out, node) : Result<>();
  }

  Result<> write_chunk_list(Out& out, const Node& node) const {
    const SparseFile& file = nodes_.sparse_file(node);
    const uint64_t count = chunk_list_bytes(node) / 4;
    for (uint64_t i = 0; i < count; ++i) {
      const auto found = file.chunks.find(i);
      const uint32_t block =
          found == file.chunks.end() ? kNullAddress : block_of(chunks_at_ + found->second);
      FLUYT_TRY(out.put(bytes_of(block)));
    }
    return {};
  }

  static Result<> write_directory(Out& out, const Node& directory) {
    const std::vector<Name> names = names_of(directory);
    const auto write_block = [&](size_t first, size_t last) -> Result<> {
      const uint64_t start = out.position();
      uint64_t name_at = (last - first) * sizeof(Dirent);
      for (size_t i = first; i < last; ++i) {
        FLUYT_TRY(
            out.put(bytes_of(Dirent{.nid = names[i].node->nid,
                                    .nameoff = static_cast<uint16_t>(name_at),
                                    .file_type = static_cast<uint8_t>(file_type(*names[i].node)),
                                    .reserved = 0})));
        name_at += names[i].text.size();
      }
      for (size_t i = first; i < last; ++i) FLUYT_TRY(out.put(names[i].text));
      return last == names.size() ? Result<>() : out.pad_to(start + kBlock);
    };
    FLUYT_TRY(for_each_block(names, write_block));
    return {};
  }

  Nodes& nodes_;
  const uint64_t chunks_at_;
  const uint64_t meta_at_;
  uint64_t next_;  // behind meta_at_
  uint64_t end_ = 0;
  bool has_chunks_ = false;
  std::deque<Node*> order_;
};

}  // namespace

ImageWriter::ImageWriter(sys::FdRef file, sys::FdRef scratch, TreeLimits limits, DiskRoom room)
    : file_(file), scratch_(scratch), room_(room), nodes_(limits, *this) {}

Result<> ImageWriter::append(std::string_view bytes) {
  FLUYT_TRY(room_.take(bytes.size()));
  FLUYT_TRY(pwrite_all(file_, kArchiveOffset + archive_bytes_, bytes));
  archive_bytes_ += bytes.size();
  return {};
}

Result<uint64_t> ImageWriter::add(uint64_t chunk_bytes) {
  if (!chunks_.valid()) {
    chunks_ = sys::Fd(openat(scratch_.raw(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!chunks_.valid()) return Error::from_errno(errno, "openat(O_TMPFILE)");
  }
  const uint64_t position = chunk_bytes_;
  chunk_bytes_ += chunk_bytes;
  if (chunk_bytes_ > kMaxChunkBytes) {
    return Error(Code::kResourceExhausted,
                 cat("sparse files take more than ", kMaxChunkBytes, " bytes"));
  }
  FLUYT_TRY(room_.take(chunk_bytes));
  return position;
}

Result<> ImageWriter::write(uint64_t position, std::string_view bytes) {
  return pwrite_all(chunks_, position, bytes);
}

Result<ImageSummary> ImageWriter::finish(const oci::Digest& diff_id) {
  TreeSummary tree = FLUYT_TRY(nodes_.finish());
  const uint64_t chunks_at = round_up(kArchiveOffset + archive_bytes_, kArchiveOffset);
  const uint64_t meta_at = chunks_at + round_up(chunk_bytes_, kArchiveOffset);
  Layout layout(nodes_, chunks_at, meta_at);
  FLUYT_TRY(layout.plan());
  FLUYT_TRY(room_.take(layout.end() - (kArchiveOffset + archive_bytes_)));
  Out out(file_, kArchiveOffset + archive_bytes_, FLUYT_TRY(Hasher::create("sha256")));
  FLUYT_TRY(out.pad_to(chunks_at));
  std::string buffer(kWriteBytes, '\0');
  for (uint64_t done = 0; done < chunk_bytes_;) {
    const size_t wanted = std::min<uint64_t>(kWriteBytes, chunk_bytes_ - done);
    std::fill(buffer.begin(), buffer.end(), '\0');
    // The end of the last chunk may never have been written.
    if (pread(chunks_.raw(), buffer.data(), wanted, static_cast<off_t>(done)) < 0) {
      return Error::from_errno(errno, "pread(chunks)");
    }
    FLUYT_TRY(out.put({buffer.data(), wanted}));
    done += wanted;
  }
  FLUYT_TRY(out.pad_to(meta_at));
  FLUYT_TRY(layout.write(out));
  SuperBlock super = layout.super_block();
  const std::string hex(diff_id.hex());
  for (size_t i = 0; i < sizeof super.uuid; ++i) {
    super.uuid[i] = parse_number<uint8_t>(std::string_view(hex).substr(2 * i, 2), 16).value_or(0);
  }
  std::string head(kArchiveOffset, '\0');
  head.replace(kSuperOffset, sizeof super, bytes_of(super));
  const oci::Digest digest = FLUYT_TRY(out.finish(head));
  tree.inodes = 1;
  tree.disk_bytes = layout.end();
  return ImageSummary{std::move(tree), layout.end(), digest};
}

Result<> check_image(sys::FdRef file, const LayerInfo& info, const BetweenSteps& between_steps) {
  const uint64_t archive_end = kArchiveOffset + info.unpacked_bytes;
  const auto bytes = static_cast<uint64_t>(FLUYT_TRY(sys::stat_of(file)).st_size);
  if (bytes != info.disk_bytes || bytes < archive_end) {
    return Error(Code::kDataLoss,
                 cat("its image has ", bytes, " bytes, expected ", info.disk_bytes));
  }
  std::string buffer(kWriteBytes, '\0');
  const auto hash = [&](Hasher& hasher, uint64_t at, uint64_t end) -> Result<> {
    while (at < end) {
      if (between_steps) FLUYT_TRY(between_steps());
      const ssize_t got = pread(file.raw(), buffer.data(),
                                std::min<uint64_t>(kWriteBytes, end - at), static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error::from_errno(errno, "pread(image)").with_code(Code::kDataLoss);
      if (got == 0) return Error(Code::kDataLoss, "its image ends early");
      FLUYT_TRY(hasher.update({buffer.data(), static_cast<size_t>(got)}));
      at += static_cast<uint64_t>(got);
    }
    return {};
  };
  Hasher archive = FLUYT_TRY(Hasher::create(info.diff_id.algorithm()));
  FLUYT_TRY(hash(archive, kArchiveOffset, archive_end));
  if (FLUYT_TRY(archive.finish()) != info.diff_id) {
    return Error(Code::kDataLoss, "the archive in its image has another digest");
  }
  Hasher rest = FLUYT_TRY(Hasher::create("sha256"));
  FLUYT_TRY(hash(rest, archive_end, bytes));
  FLUYT_TRY(hash(rest, 0, kArchiveOffset));
  if (FLUYT_TRY(rest.finish()).text() != info.metadata_digest) {
    return Error(Code::kDataLoss, "the metadata in its image have another digest");
  }
  return {};
}

}  // namespace fluyt::image::erofs
