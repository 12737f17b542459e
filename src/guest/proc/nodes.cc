#include "guest/proc/nodes.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

uint64_t number_of(std::string_view name) { return std::hash<std::string_view>()(name) >> 8 | 1; }

class DirFile final : public File {
 public:
  using File::File;
  ErrnoOr<std::vector<DirEntry>> list() override { return inode()->list(); }
};

/// Text as it was when the file was opened.
class TextFile final : public File {
 public:
  TextFile(DentryPtr path, InodePtr inode, int flags, ErrnoOr<std::string> text, TakeTextAt write)
      : File(std::move(path), std::move(inode), flags),
        failure_(text.error()),
        text_(std::move(text).value()),
        write_(std::move(write)) {}
  ErrnoOr<size_t> read(Caller&, std::span<std::byte> to, int64_t* offset) override {
    GUEST_TRY(failure_);
    if (*offset < 0) return Errno(EINVAL);
    if (*offset >= static_cast<int64_t>(text_.size())) return size_t{0};
    const size_t count = std::min(to.size(), text_.size() - static_cast<size_t>(*offset));
    std::memcpy(to.data(), text_.data() + *offset, count);
    *offset += static_cast<int64_t>(count);
    return count;
  }
  ErrnoOr<size_t> write(Caller&, std::span<const std::byte> from, int64_t* offset) override {
    if (!write_) return Errno(EIO);
    GUEST_TRY(write_({reinterpret_cast<const char*>(from.data()), from.size()}, *offset));
    *offset += static_cast<int64_t>(from.size());
    return from.size();
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_END) return Errno(EINVAL);
    return seek_within(offset, whence, static_cast<int64_t>(text_.size()));
  }

 private:
  Errno failure_;
  std::string text_;
  TakeTextAt write_;
};

}  // namespace

FilePtr open_text(DentryPtr path, InodePtr inode, int flags, ErrnoOr<std::string> text,
                  TakeTextAt write) {
  return std::make_shared<TextFile>(std::move(path), std::move(inode), flags, std::move(text),
                                    std::move(write));
}

uint32_t Node::type() const { return mode_ & S_IFMT; }

ErrnoOr<Stat> Node::stat() {
  Stat out;
  out.dev = system_.device;
  out.ino = ino_;
  out.mode = mode_;
  out.uid = uid_;
  out.gid = gid_;
  out.nlink = is_dir() ? 2 : 1;
  out.block_size = system_.block_size;
  if (S_ISREG(mode_)) out.size = system_.text_size;
  const int64_t now = host::clock_ns(0);
  out.accessed = out.modified = out.changed = {now / 1'000'000'000, 0};
  return out;
}

ErrnoOr<StatfsBuffer> Node::statfs() {
  StatfsBuffer out;
  out.type = system_.magic;
  return out;
}

ErrnoOr<FilePtr> Node::open(DentryPtr path, int flags) {
  return FilePtr(std::make_shared<DirFile>(std::move(path), shared_from_this(), flags));
}

TextNode::TextNode(const NodeSystem& system, uint32_t mode, uint64_t ino, Text text, TakeText write)
    : Node(system, S_IFREG | mode, ino), text_(std::move(text)), write_(std::move(write)) {}

ErrnoOr<FilePtr> TextNode::open(DentryPtr path, int flags) {
  ErrnoOr<std::string> text = text_();
  if (!text.ok() && system().failure == NodeSystem::Failure::kAtOpen) return text.error();
  TakeTextAt take;
  if (write_) take = [write = write_](std::string_view given, int64_t) { return write(given); };
  return open_text(std::move(path), shared_from_this(), flags, std::move(text), std::move(take));
}

LinkNode::LinkNode(const NodeSystem& system, uint64_t ino, Text target, Jump jump)
    : Node(system, S_IFLNK | 0777, ino), target_(std::move(target)), jump_(std::move(jump)) {}

DirectoryNode::DirectoryNode(const NodeSystem& system, uint64_t ino, uint32_t mode)
    : Node(system, S_IFDIR | mode, ino) {}

ErrnoOr<InodePtr> DirectoryNode::lookup(std::string_view name) {
  for (const auto& [own, entry] : entries_)
    if (own == name) return entry.second();
  if (find_) return find_(name);
  return Errno(ENOENT);
}

ErrnoOr<std::vector<DirEntry>> DirectoryNode::list() {
  std::vector<DirEntry> out;
  for (const auto& [name, entry] : entries_)
    out.push_back({name, number_of(name) ^ ino(), entry.first});
  if (more_)
    for (DirEntry& entry : more_()) out.push_back(std::move(entry));
  return out;
}

}  // namespace fluyt::guest
