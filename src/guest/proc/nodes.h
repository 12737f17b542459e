#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "guest/vfs/file.h"
#include "guest/vfs/inode.h"

/// File systems that show what the kernel knows: folders, texts and links that are made when
/// somebody looks them up. procfs and sysfs are of these.
namespace fluyt::guest {

/// What all nodes of one such file system have in common. It outlives them.
struct NodeSystem {
  int64_t magic = 0;  // statfs(2)
  uint64_t device = 0;
  int64_t block_size = 4096;
  int64_t text_size = 0;  // what stat(2) says of a text
  /// Where a program hears that there is no text: proc's opens fail, sysfs's reads do.
  enum class Failure : uint8_t { kAtOpen, kAtRead } failure = Failure::kAtOpen;
};

class Node : public Inode {
 public:
  Node(const NodeSystem& system, uint32_t mode, uint64_t ino)
      : system_(system), mode_(mode), ino_(ino) {}
  uint32_t type() const override;
  ErrnoOr<Stat> stat() override;
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  ErrnoOr<StatfsBuffer> statfs() override;
  bool cacheable() const override { return false; }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;
  uint64_t ino() const { return ino_; }
  /// Root's, unless told otherwise before anybody sees it.
  void set_owner(uint32_t uid, uint32_t gid) {
    uid_ = uid;
    gid_ = gid;
  }
  const NodeSystem& system() const { return system_; }

 private:
  const NodeSystem& system_;
  uint32_t mode_;
  uint64_t ino_;
  uint32_t uid_ = 0;
  uint32_t gid_ = 0;
};

using Text = std::function<ErrnoOr<std::string>()>;
using TakeText = std::function<Errno(std::string_view)>;
/// As a write(2) of it: where in the file as well.
using TakeTextAt = std::function<Errno(std::string_view, int64_t offset)>;
/// An open file of a text that is made by now; what goes wrong with `text` is heard at reads.
FilePtr open_text(DentryPtr path, InodePtr inode, int flags, ErrnoOr<std::string> text,
                  TakeTextAt write);

/// A file whose text is made as it is opened. A null `write` makes writes EIO.
class TextNode : public Node {
 public:
  TextNode(const NodeSystem& system, uint32_t mode, uint64_t ino, Text text, TakeText write);
  Errno truncate(int64_t) override { return kOk; }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;

 private:
  Text text_;
  TakeText write_;
};

/// A link; with a `jump` a magic one.
class LinkNode : public Node {
 public:
  using Jump = std::function<ErrnoOr<DentryPtr>()>;
  LinkNode(const NodeSystem& system, uint64_t ino, Text target, Jump jump);
  ErrnoOr<std::string> readlink() override { return target_(); }
  ErrnoOr<DentryPtr> jump() override { return jump_ ? jump_() : DentryPtr(); }

 private:
  Text target_;
  Jump jump_;
};

/// Entries made when they are looked up.
class DirectoryNode : public Node {
 public:
  using Make = std::function<InodePtr()>;
  using Find = std::function<ErrnoOr<InodePtr>(std::string_view)>;
  using More = std::function<std::vector<DirEntry>()>;
  DirectoryNode(const NodeSystem& system, uint64_t ino, uint32_t mode);
  /// `type` is a DT_*.
  void add(std::string name, uint8_t type, Make make) {
    entries_.push_back({std::move(name), {type, std::move(make)}});
  }
  /// What is there besides: `find` one of them, or tell all.
  void add_dynamic(Find find, More more) {
    find_ = std::move(find);
    more_ = std::move(more);
  }
  ErrnoOr<InodePtr> lookup(std::string_view name) override;
  ErrnoOr<std::vector<DirEntry>> list() override;

 private:
  std::vector<std::pair<std::string, std::pair<uint8_t, Make>>> entries_;
  Find find_;
  More more_;
};

/// Appends what printf would, at most 511 bytes of it.
template <class... Values>
void print(std::string& to, const char* format, Values... values) {
  char line[512];
  const int length = std::snprintf(line, sizeof line, format, values...);
  if (length > 0) to.append(line, std::min(static_cast<size_t>(length), sizeof line - 1));
}

}  // namespace fluyt::guest
