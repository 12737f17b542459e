#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "image/layer/disk_room.h"
#include "image/layer/entry_reader.h"
#include "image/layer/file_filler.h"
#include "image/layer/info.h"
#include "image/layer/manifest.h"
#include "image/layer/tar.h"
#include "image/layer/walk_budget.h"
#include "sys/fd.h"

namespace fluyt::image {

struct TreeLimits {
  uint64_t max_entries = 10'000'000;  // in the tar; directories are held to the same number
  uint64_t max_directory_name_bytes = 128UL << 20U;  // held in memory until the end
  uint64_t max_reported_bytes = 16UL << 20U;         // names of implied directories and lower links
  uint64_t max_node_bytes = 512UL << 20U;            // for an image: all inodes are held in memory
};

/// What the tree came to.
struct TreeSummary {
  uint64_t inodes = 0;
  uint64_t disk_bytes = 0;
  uint64_t skipped = 0;
  bool opaque_root = false;
  std::string manifest_digest;  // empty: none was wanted
  std::vector<std::string> implied_dirs;
  std::vector<LowerLink> lower_links;
};

/// Makes a layer's tree below an empty directory, for overlayfs to stack: whiteouts become 0:0
/// devices, opaque directories get trusted.overlay.opaque. Every object is made through a
/// descriptor of its parent directory and one name, no symlink followed; a symlink among the
/// parents is resolved here, within the tree. Of two entries of one name the last wins, directories
/// merge. Directories get owner, mode, attributes and times last of all, in finish(), so that none
/// of them (setgid, default ACLs) rubs off on what is made inside. Needs root, and a umask of 0,
/// which is the program's to set.
/// The manifest is written on the way, of what is done and not of what is read back. Where a later
/// entry took an earlier one's place it is written in the end, from the tree.
class TreeWriter final : public TarSink {
 public:
  /// Borrowed: an empty directory, and an empty file for the manifest where one is wanted. `room`
  /// is asked for each block of a file, for one a directory, and for the manifest. What small files
  /// hold is written by `filler`, where there is one; it has to be finished before finish().
  TreeWriter(sys::FdRef root, TreeLimits limits, DiskRoom room = {}, sys::FdRef manifest = {},
             FileFiller* filler = nullptr);
  ~TreeWriter() override;

  Result<> begin(TarEntry& entry) override;
  Result<> data(uint64_t offset, std::string_view bytes) override;
  Result<> end() override;
  Result<TreeSummary> finish();

 private:
  static constexpr uint64_t kDiskBlock = 4096;
  using Xattrs = std::vector<std::pair<std::string, std::string>>;
  /// An open directory and its path with no symlink in it.
  struct Dir {
    sys::Fd fd;
    std::string path;
  };
  using DirPtr = std::shared_ptr<Dir>;  // shared: the cache may let go of one that is in use
  /// What a directory is to get in the end.
  struct DirRecord {
    uint32_t mode = 0755;
    uint32_t uid = 0;
    uint32_t gid = 0;
    int64_t mtime = 0;
    uint32_t mtime_ns = 0;
    bool implied = true;
    bool opaque = false;
    bool replaces = false;  // a whiteout said that the one below goes: nothing is inherited from it
    bool has_whiteouts = false;
    bool hidden = false;  // found in finish(): a directory above is opaque
    std::unique_ptr<Xattrs> xattrs;
  };

  // tree_dirs.cc
  Result<DirPtr> parent_dir(std::string_view path);
  Result<DirPtr> dir(std::string_view path);
  Result<DirPtr> find_dir(std::string_view path);
  Result<DirPtr> open_dir(std::string_view path);
  Result<DirPtr> enter(const Dir& parent, const std::string& name, const std::string& path);
  Result<DirPtr> enter_other(const Dir& parent, const std::string& name, const std::string& path);
  Result<std::string> follow(const Dir& parent, const std::string& name);
  Result<DirPtr> make_implied(const Dir& parent, const std::string& name, const std::string& path);
  Result<DirPtr> reopen(const std::string& path);
  DirPtr keep(sys::Fd fd, const std::string& path);
  void alias(const std::string& path, const std::string& real);
  Result<DirRecord*> record(const std::string& path);
  void forget_dirs();

  Result<> take_room(uint64_t bytes);
  Result<> count_directory();
  Result<> make_directory(const Dir& parent, const std::string& name, TarEntry& entry);
  Result<> make_file(const Dir& parent, const std::string& name, TarEntry& entry);
  Result<> make_symlink(const Dir& parent, const std::string& name, const TarEntry& entry);
  Result<> make_node(const Dir& parent, const std::string& name, const TarEntry& entry);
  Result<> make_hard_link(const std::string& path, const TarEntry& entry);
  Result<> make_whiteout(const Dir& parent, std::string_view hidden);
  Result<> clear_way(const Dir& parent, const std::string& name);
  Result<> finish_node(const Dir& parent, const std::string& name, const TarEntry& entry);
  static Result<> read_back(sys::FdRef fd, ManifestEntry& entry);
  Result<> list(const ManifestEntry& entry);

  // tree_finish.cc
  Result<> finish_directory(const std::string& path, const DirRecord& record);
  Result<> count_files(sys::FdRef directory);
  Result<> list_directory(sys::FdRef fd, const std::string& path, const DirRecord& record);
  Result<> list_files(sys::FdRef directory, const std::string& path);
  Result<> set_xattrs(sys::FdRef fd, const Xattrs& xattrs, std::string_view path);
  Result<> report(TreeSummary& summary);

  const sys::FdRef root_;
  const TreeLimits limits_;
  DiskRoom room_;
  WalkBudget walk_;
  DirPtr root_dir_;
  std::unordered_map<std::string, DirPtr> open_dirs_;     // by path without symlinks
  std::deque<std::string> opened_;                        // the same paths, the oldest first
  std::unordered_map<std::string, std::string> aliases_;  // a path through symlinks → one without
  std::string last_parent_;
  DirPtr last_dir_;
  int hops_ = 0;
  bool create_missing_ = true;

  std::map<std::string, DirRecord> records_;  // every directory, by path without symlinks
  uint64_t record_name_bytes_ = 0;
  std::map<std::string, std::string> lower_links_;
  uint64_t entries_ = 0;
  int64_t newest_mtime_ = 0;
  TreeSummary summary_;
  bool count_again_ = false;  // something went that summary_ counts
  struct Names {
    uint64_t count = 0;
    uint64_t disk_bytes = 0;  // of the file, for each of its names
  };
  std::map<nlink_t, Names> names_;  // found in finish(): by how many names their files have

  std::optional<ManifestWriter> manifest_;
  bool list_again_ = false;      // something went that it lists: nothing is added until finish()
  bool list_from_tree_ = false;  // finish() begins it anew
  EntryReader reader_;
  std::unordered_map<ino_t, std::string> first_names_;  // found in finish(): of files with several
  uint64_t first_name_bytes_ = 0;

  FileFiller* const filler_;
  TarEntry file_;  // the one that data() writes to
  std::string file_path_;
  Checksum file_checksum_;
  sys::Fd file_fd_;
  bool file_is_small_ = false;    // it is the filler's
  uint64_t file_written_ = 0;     // end of the last piece
  uint64_t file_blocks_end_ = 0;  // and of the blocks that were counted
};

}  // namespace fluyt::image
