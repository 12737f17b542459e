#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "image/layer/info.h"
#include "image/layer/tar.h"
#include "image/layer/tree.h"

namespace fluyt::image::erofs {

using Xattrs = std::vector<std::pair<std::string, std::string>>;

struct Node;

/// What a directory has beside what every node has. The map's order is that of the image.
struct Directory {
  std::map<std::string, Node*> children;
  Node* parent = nullptr;  // the root's is itself
  std::string name;
  bool implied = true;
  bool opaque = false;
  bool replaces = false;  // a whiteout said that the one below goes: nothing is inherited from it
  bool has_whiteouts = false;
};

/// One inode to be. Names belong to directories; a hard link is a second name for one node.
struct Node {
  enum class Kind : uint8_t {
    kFile,
    kDirectory,
    kSymlink,
    kCharDevice,
    kBlockDevice,
    kFifo,
    kWhiteout,
    kLowerLink  // a hard link into a layer below: in no image, only told of
  };
  Kind kind = Kind::kFile;
  bool sparse = false;
  uint16_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mtime_ns = 0;
  uint32_t device = 0;  // as in the inode
  int64_t mtime = 0;
  uint64_t size = 0;
  uint64_t position = 0;  // of a file's data in the tar; of a sparse one, its number among them
  std::string link;       // of a symlink and a lower link: its target
  std::unique_ptr<Directory> directory;  // of a directory
  std::unique_ptr<Xattrs> xattrs;
  // Where layout puts it.
  uint32_t links = 0;
  uint32_t first_block = 0;
  uint64_t nid = 0;
};

/// The data of sparse files: the archive has it packed, so it is written once more, apart, in
/// chunks that keep the distance which data have in the file.
class ChunkSink {
 public:
  ChunkSink() = default;
  ChunkSink(const ChunkSink&) = delete;
  ChunkSink& operator=(const ChunkSink&) = delete;
  virtual ~ChunkSink() = default;
  /// The position, in bytes, of a new chunk of zeros.
  virtual Result<uint64_t> add(uint64_t chunk_bytes) = 0;
  virtual Result<> write(uint64_t position, std::string_view bytes) = 0;
};

struct SparseFile {
  unsigned chunk_bits = 0;
  /// Of the chunks that have data: which it is, and its position in the sink.
  std::map<uint64_t, uint64_t> chunks;
};

/// A layer's tree in memory, by the rules of TreeWriter, for an image in which files' data is the
/// archive itself: nothing is made on any disk. The two are compared by the same tests.
class Nodes final : public TarSink {
 public:
  Nodes(TreeLimits limits, ChunkSink& chunks);
  ~Nodes() override;

  Result<> begin(TarEntry& entry) override;
  Result<> data(uint64_t offset, std::string_view bytes) override;
  Result<> end() override;
  /// Directories that are only implied get their time; what a chain may change is told.
  Result<TreeSummary> finish();

  Node& root() { return *root_; }
  const SparseFile& sparse_file(const Node& node) const { return sparse_files_[node.position]; }

 private:
  enum class Missing { kMake, kNone };
  Result<Node*> directory(std::string_view path, Missing missing);
  Result<Node*> parent_of_entry(std::string_view path);
  Result<Node*> enter(Node& at, const std::string& name, Missing missing, int& hops);
  Result<Node*> follow(Node& from, std::string_view target, Missing missing, int& hops);
  Result<Node*> make_node(Node::Kind kind);
  Result<Node*> make_directory_in(Node& parent, const std::string& name);
  Result<> put(Node& parent, const std::string& name, Node& node);
  Result<> add_directory(Node& parent, const std::string& name, TarEntry& entry);
  Result<> begin_sparse(Node& node);
  Result<> add_other(Node& parent, const std::string& name, TarEntry& entry);
  Result<> add_hard_link(const std::string& path, const TarEntry& entry);
  Result<> add_whiteout(Node& parent, std::string_view hidden);
  Result<> take_xattrs(Node& node, Xattrs&& from);
  Result<> charge(uint64_t bytes);
  Result<> report(TreeSummary& summary);

  const TreeLimits limits_;
  WalkBudget walk_;
  ChunkSink& chunk_sink_;
  std::deque<Node> nodes_;  // nodes that lost all their names stay: a tar has few of them
  Node* root_;
  uint64_t entries_ = 0;
  uint64_t charged_bytes_ = 0;
  int64_t newest_mtime_ = 0;
  uint64_t skipped_ = 0;
  std::string last_parent_path_;
  Node* last_parent_ = nullptr;

  Node* file_ = nullptr;  // the sparse one that data() is for
  std::deque<SparseFile> sparse_files_;
};

}  // namespace fluyt::image::erofs
