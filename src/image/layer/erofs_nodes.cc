#include "image/layer/erofs_nodes.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/strings.h"
#include "image/layer/erofs_format.h"
#include "image/layer/name.h"

namespace fluyt::image::erofs {

namespace {

constexpr int kMaxHops = 40;         // what the kernel allows a path
constexpr uint64_t kNameBytes = 96;  // what a name costs in a map, beside its bytes
constexpr unsigned kMinChunkBits = 12;
constexpr unsigned kMaxChunkBits = 26;
constexpr uint64_t kMostChunks = 1UL << 18U;  // of one file: more, and chunks become larger

using Kind = Node::Kind;

// The kernel's own form of a device number (include/linux/kdev_t.h, new_encode_dev).
uint32_t device_number(uint32_t major, uint32_t minor) {
  return (minor & 0xFFU) | major << 8U | (minor & ~0xFFU) << 12U;
}

Kind kind_of(const TarEntry& entry) {
  switch (entry.type) {
    case TarType::kDirectory:
      return Kind::kDirectory;
    case TarType::kSymlink:
      return Kind::kSymlink;
    case TarType::kCharDevice:
      return Kind::kCharDevice;
    case TarType::kBlockDevice:
      return Kind::kBlockDevice;
    case TarType::kFifo:
      return Kind::kFifo;
    case TarType::kFile:
    case TarType::kHardLink:
      break;
  }
  return Kind::kFile;
}

uint32_t type_bits(Kind kind) {
  switch (kind) {
    case Kind::kDirectory:
      return S_IFDIR;
    case Kind::kSymlink:
      return S_IFLNK;
    case Kind::kCharDevice:
    case Kind::kWhiteout:
      return S_IFCHR;
    case Kind::kBlockDevice:
      return S_IFBLK;
    case Kind::kFifo:
      return S_IFIFO;
    case Kind::kFile:
    case Kind::kLowerLink:
      break;
  }
  return S_IFREG;
}

Error no_file(std::string_view target) {
  return Error(Code::kInvalidArgument, cat("hard link target ", quote(target), " is not a file"));
}

std::string path_of(const Node& directory) {
  const Node* at = &directory;
  std::vector<std::string_view> parts;
  for (; at->directory->parent != at; at = at->directory->parent) {
    parts.push_back(at->directory->name);
  }
  std::string out;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) out = join_path(out, *part);
  return out;
}

}  // namespace

Nodes::Nodes(TreeLimits limits, ChunkSink& chunks) : limits_(limits), chunk_sink_(chunks) {
  root_ = &nodes_.emplace_back();
  root_->kind = Kind::kDirectory;
  root_->mode = S_IFDIR | 0755;
  root_->directory = std::make_unique<Directory>();
  root_->directory->parent = root_;
}

Nodes::~Nodes() = default;

Result<> Nodes::charge(uint64_t bytes) {
  charged_bytes_ += bytes;
  if (charged_bytes_ <= limits_.max_node_bytes) return {};
  return Error(Code::kResourceExhausted,
               cat("names, inodes and attributes of more than ", limits_.max_node_bytes, " bytes"));
}

Result<Node*> Nodes::make_node(Kind kind) {
  FLUYT_TRY(charge(sizeof(Node)));
  Node& node = nodes_.emplace_back();
  node.kind = kind;
  node.mode = static_cast<uint16_t>(type_bits(kind));
  return &node;
}

// Whatever had the name before: the later entry wins.
Result<> Nodes::put(Node& parent, const std::string& name, Node& node) {
  Node*& slot = parent.directory->children[name];
  if (slot != nullptr && (slot->kind == Kind::kDirectory || slot->kind == Kind::kSymlink)) {
    last_parent_ = nullptr;  // it may have been reached through what goes now
  }
  const bool fresh = slot == nullptr;
  slot = &node;
  return fresh ? charge(name.size() + kNameBytes) : Result<>();
}

Result<Node*> Nodes::make_directory_in(Node& parent, const std::string& name) {
  Node* made = FLUYT_TRY(make_node(Kind::kDirectory));
  made->mode = S_IFDIR | 0755;
  made->directory = std::make_unique<Directory>();
  made->directory->parent = &parent;
  made->directory->name = name;
  FLUYT_TRY(put(parent, name, *made));
  return made;
}

Result<Node*> Nodes::directory(std::string_view path, Missing missing) {
  int hops = 0;
  return follow(*root_, path, missing, hops);
}

Result<Node*> Nodes::parent_of_entry(std::string_view path) {
  const std::string_view parent = parent_of(path);
  if (last_parent_ != nullptr && parent == last_parent_path_) return last_parent_;
  Node* found = FLUYT_TRY(directory(parent, Missing::kMake));
  last_parent_path_ = parent;
  last_parent_ = found;
  return found;
}

// "/" and ".." are kept within the root, as the kernel does for a process whose root it is.
Result<Node*> Nodes::follow(Node& from, std::string_view target, Missing missing, int& hops) {
  Node* at = target.starts_with('/') ? root_ : &from;
  for (const std::string_view part : split(target, '/')) {
    if (part.empty() || part == ".") continue;
    FLUYT_TRY(walk_.spend(1));
    if (part == "..") {
      at = at->directory->parent;
      continue;
    }
    at = FLUYT_TRY(enter(*at, std::string(part), missing, hops));
    if (at == nullptr) return at;
  }
  return at;
}

// The directory `name` in `at`, by way of symlinks; where nothing is, one is made (then implied) or
// null is the answer. A whiteout gives way: the directory below is gone, a new one comes.
Result<Node*> Nodes::enter(Node& at, const std::string& name, Missing missing, int& hops) {
  const auto found = at.directory->children.find(name);
  const Kind kind = found == at.directory->children.end() ? Kind::kLowerLink : found->second->kind;
  if (kind == Kind::kDirectory) return found->second;
  if (kind == Kind::kSymlink) {
    if (++hops > kMaxHops) {
      return Error(Code::kInvalidArgument,
                   cat("parent ", quote(name), ": more than ", kMaxHops, " symlinks"));
    }
    return follow(at, std::string(found->second->link), missing, hops);
  }
  if (kind != Kind::kLowerLink && kind != Kind::kWhiteout) {
    return Error(Code::kInvalidArgument,
                 cat("parent ", quote(join_path(path_of(at), name)), " is not a directory"));
  }
  if (missing == Missing::kNone) return static_cast<Node*>(nullptr);
  if (path_of(at).size() + 1 + name.size() > kMaxPathBytes) {
    return Error(Code::kInvalidArgument,
                 cat("directory ", quote(name), ": path is longer than ", kMaxPathBytes));
  }
  Node* made = FLUYT_TRY(make_directory_in(at, name));
  if (kind == Kind::kWhiteout) made->directory->opaque = made->directory->replaces = true;
  return made;
}

Result<> Nodes::begin(TarEntry& entry) {
  if (++entries_ > limits_.max_entries) {
    return Error(Code::kResourceExhausted, cat("more than ", limits_.max_entries, " entries"));
  }
  walk_.grant(entry);
  file_ = nullptr;
  const std::string path = FLUYT_TRY(clean_name(entry.path));
  const ClassifiedName name = FLUYT_TRY(classify(path));
  if (name.kind == NameKind::kMetadata) {
    ++skipped_;
    return {};
  }
  newest_mtime_ = std::max(newest_mtime_, entry.mtime);
  if (path.empty()) {
    if (entry.type == TarType::kDirectory) return add_directory(*root_, "", entry);
    return Error(Code::kInvalidArgument, "the root of the layer is not a directory");
  }
  if (entry.type == TarType::kHardLink && name.kind == NameKind::kPlain) {
    return add_hard_link(path, entry);
  }
  Node* parent = FLUYT_TRY(parent_of_entry(path));
  if (name.kind == NameKind::kOpaque) {
    parent->directory->opaque = true;
    return {};
  }
  if (name.kind == NameKind::kWhiteout) return add_whiteout(*parent, name.hidden);
  const std::string base(base_of(path));
  if (entry.type == TarType::kDirectory) return add_directory(*parent, base, entry);
  return add_other(*parent, base, entry);
}

Result<> Nodes::take_xattrs(Node& node, Xattrs&& from) {
  std::erase_if(from, [&](const auto& attribute) {
    if (is_allowed_xattr(attribute.first)) return false;
    ++skipped_;
    return true;
  });
  for (const auto& [name, value] : from) FLUYT_TRY(charge(name.size() + value.size() + kNameBytes));
  node.xattrs = from.empty() ? nullptr : std::make_unique<Xattrs>(std::move(from));
  return {};
}

Result<> Nodes::add_directory(Node& parent, const std::string& name, TarEntry& entry) {
  Node* to = root_;
  if (!name.empty()) {
    const auto found = parent.directory->children.find(name);
    const bool there = found != parent.directory->children.end();
    if (there && found->second->kind == Kind::kDirectory) {
      to = found->second;
    } else {
      // The whiteout was for the directory below; this one starts empty.
      const bool over_whiteout = there && found->second->kind == Kind::kWhiteout;
      to = FLUYT_TRY(make_directory_in(parent, name));
      if (over_whiteout) to->directory->opaque = to->directory->replaces = true;
    }
  }
  to->directory->implied = false;
  to->mode = static_cast<uint16_t>(S_IFDIR | entry.mode);
  to->uid = entry.uid;
  to->gid = entry.gid;
  to->mtime = entry.mtime;
  to->mtime_ns = entry.mtime_ns;
  return take_xattrs(*to, std::move(entry.xattrs));
}

Result<> Nodes::add_other(Node& parent, const std::string& name, TarEntry& entry) {
  const bool is_device = entry.type == TarType::kCharDevice || entry.type == TarType::kBlockDevice;
  if (entry.type == TarType::kCharDevice && entry.device_major == 0 && entry.device_minor == 0) {
    ++skipped_;  // to overlayfs it would be a whiteout, which an image says with ".wh." alone
    return {};
  }
  if (entry.type == TarType::kSymlink &&
      (entry.link.empty() || entry.link.size() > kMaxPathBytes)) {
    return Error(Code::kInvalidArgument, cat("symlink target of ", entry.link.size(),
                                             " bytes: 1 to ", kMaxPathBytes, " are allowed"));
  }
  Node* node = FLUYT_TRY(make_node(kind_of(entry)));
  node->mode =
      static_cast<uint16_t>(node->mode | (entry.type == TarType::kSymlink ? 0777U : entry.mode));
  node->uid = entry.uid;
  node->gid = entry.gid;
  node->mtime = entry.mtime;
  node->mtime_ns = entry.mtime_ns;
  if (is_device) node->device = device_number(entry.device_major, entry.device_minor);
  if (entry.type == TarType::kSymlink) {
    node->link = std::move(entry.link);
    node->size = node->link.size();
    FLUYT_TRY(charge(node->size));
  }
  if (entry.type != TarType::kFile) {
    skipped_ += entry.xattrs.size();  // as in a tree of files: see TreeWriter::finish_node
    return put(parent, name, *node);
  }
  FLUYT_TRY(take_xattrs(*node, std::move(entry.xattrs)));
  node->size = entry.size;
  node->position = entry.body_position;
  if (entry.sparse) FLUYT_TRY(begin_sparse(*node));
  return put(parent, name, *node);
}

Result<> Nodes::begin_sparse(Node& node) {
  SparseFile file{.chunk_bits = kMinChunkBits, .chunks = {}};
  while (file.chunk_bits < kMaxChunkBits && node.size >> file.chunk_bits > kMostChunks) {
    ++file.chunk_bits;
  }
  if (node.size >> file.chunk_bits > kMostChunks) {
    return Error(Code::kResourceExhausted, cat("sparse file of ", node.size, " bytes: at most ",
                                               kMostChunks << kMaxChunkBits, " are taken"));
  }
  node.sparse = true;
  node.position = sparse_files_.size();
  sparse_files_.push_back(std::move(file));
  file_ = &node;
  return charge(sizeof(SparseFile));
}

// Of sparse files alone: the bytes of all others stay where they are in the archive.
Result<> Nodes::data(uint64_t offset, std::string_view bytes) {
  if (file_ == nullptr) return {};
  SparseFile& file = sparse_files_[file_->position];
  const uint64_t chunk_bytes = 1UL << file.chunk_bits;
  while (!bytes.empty()) {
    const auto [chunk, fresh] = file.chunks.try_emplace(offset >> file.chunk_bits);
    if (fresh) {
      FLUYT_TRY(charge(kNameBytes));
      chunk->second = FLUYT_TRY(chunk_sink_.add(chunk_bytes));
    }
    const uint64_t inside = offset & (chunk_bytes - 1);
    const std::string_view piece = bytes.substr(0, chunk_bytes - inside);
    FLUYT_TRY(chunk_sink_.write(chunk->second + inside, piece));
    bytes.remove_prefix(piece.size());
    offset += piece.size();
  }
  return {};
}

Result<> Nodes::end() {
  file_ = nullptr;
  return {};
}

Result<> Nodes::add_hard_link(const std::string& path, const TarEntry& entry) {
  const std::string target = FLUYT_TRY_CONTEXT(clean_name(entry.link), "hard link target");
  if (target.empty() || FLUYT_TRY(classify(target)).kind != NameKind::kPlain) {
    return no_file(entry.link);
  }
  const std::string target_name(base_of(target));
  Node* target_parent =
      FLUYT_TRY_CONTEXT(directory(parent_of(target), Missing::kNone), "hard link target");
  Node* parent = FLUYT_TRY(parent_of_entry(path));
  const std::string name(base_of(path));
  if (target_parent == parent && name == target_name) return {};
  if (target_parent != nullptr) {
    const auto found = target_parent->directory->children.find(target_name);
    if (found != target_parent->directory->children.end()) {
      const Kind kind = found->second->kind;
      if (kind == Kind::kDirectory || kind == Kind::kWhiteout) return no_file(entry.link);
      return put(*parent, name, *found->second);
    }
  }
  // In a layer below; resolved when the chain is known.
  Node* node = FLUYT_TRY(make_node(Kind::kLowerLink));
  node->link = target;
  return put(*parent, name, *node);
}

// Hides `hidden` of the layers below. What this same layer has under that name stays, whichever of
// the two came first (image-spec layer.md: whiteouts only apply to lower layers).
Result<> Nodes::add_whiteout(Node& parent, std::string_view hidden) {
  const std::string name(hidden);
  const auto found = parent.directory->children.find(name);
  if (found == parent.directory->children.end()) {
    parent.directory->has_whiteouts = true;
    return put(parent, name, *FLUYT_TRY(make_node(Kind::kWhiteout)));
  }
  if (found->second->kind == Kind::kDirectory) {
    found->second->directory->opaque = found->second->directory->replaces = true;
  }
  return {};
}

Result<> Nodes::report(TreeSummary& summary) {
  uint64_t bytes = 0;
  const auto count = [&](size_t more) -> Result<> {
    bytes += more;
    if (bytes <= limits_.max_reported_bytes) return {};
    return Error(Code::kResourceExhausted,
                 cat("more than ", limits_.max_reported_bytes,
                     " bytes of names of implied directories and lower links"));
  };
  struct Visit {
    Node* node;
    std::string path;
    bool hidden;  // a directory above is opaque
  };
  std::vector<Visit> open{{root_, "", false}};
  while (!open.empty()) {
    const Visit now = std::move(open.back());
    open.pop_back();
    const Directory& directory = *now.node->directory;
    if (directory.implied) {
      now.node->mtime = newest_mtime_;
      if (!directory.replaces && !now.hidden) {
        FLUYT_TRY(count(now.path.size() + 1));
        summary.implied_dirs.push_back(now.path);
      }
    }
    for (const auto& [name, child] : directory.children) {
      if (child->kind == Kind::kDirectory) {
        open.push_back({child, join_path(now.path, name), now.hidden || directory.opaque});
      } else if (child->kind == Kind::kLowerLink) {
        summary.lower_links.push_back({join_path(now.path, name), child->link});
        FLUYT_TRY(count(summary.lower_links.back().path.size() + child->link.size()));
      }
    }
  }
  std::sort(summary.implied_dirs.begin(), summary.implied_dirs.end());
  std::sort(summary.lower_links.begin(), summary.lower_links.end(),
            [](const LowerLink& a, const LowerLink& b) { return a.path < b.path; });
  return {};
}

Result<TreeSummary> Nodes::finish() {
  TreeSummary summary;
  summary.skipped = skipped_;
  summary.opaque_root = root_->directory->opaque;
  FLUYT_TRY(report(summary));
  return summary;
}

}  // namespace fluyt::image::erofs
