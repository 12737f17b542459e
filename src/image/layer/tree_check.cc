#include "image/layer/tree_check.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/strings.h"
#include "image/layer/entry_reader.h"
#include "image/layer/manifest.h"
#include "image/layer/name.h"
#include "sys/dir_stack.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

bool is_absence(int error) { return error == ENOENT || error == ENOTDIR || error == ELOOP; }

// What an error of reading the manifest tells of it; another is passed on.
Result<std::string> damage_of(const Error& error) {
  if (error.code() == Code::kDataLoss || is_loss(error.errno_value())) return error.message();
  return error;
}

uint64_t hash_of(std::string_view path) {
  Checksum checksum;
  checksum.update(path);
  return checksum.value();
}

class Check {
 public:
  Check(sys::FdRef tree, size_t limit, const BetweenSteps& between_steps)
      : tree_(tree), limit_(limit), between_steps_(between_steps), reader_(between_steps) {}

  Result<std::vector<std::string>> run(ManifestReader& manifest) {
    if (FLUYT_TRY(entries(manifest))) FLUYT_TRY(strays());
    return std::move(out_);
  }

 private:
  // Whether the manifest could be read to its end: what it does not say does not belong there then.
  Result<bool> entries(ManifestReader& manifest) {
    while (out_.size() < limit_) {
      FLUYT_TRY(step());
      const auto next = manifest.next();
      if (!next.ok()) {
        out_.push_back(FLUYT_TRY(damage_of(next.error())));
        return false;
      }
      const auto& entry = *next;
      if (!entry.has_value()) return true;
      paths_.push_back(hash_of(entry->path));
      auto checked = entry->target.empty() ? one(*entry) : further_name(*entry);
      if (!checked.ok()) FLUYT_TRY(note_error(entry->path, std::move(checked).error()));
    }
    return false;
  }

  // After all entries: what is there besides.
  Result<> strays() {
    std::ranges::sort(paths_);
    sys::DirStack at = FLUYT_TRY(sys::DirStack::open(tree_, "."));
    std::string folder;
    while (out_.size() < limit_) {
      FLUYT_TRY(step());
      const dirent* entry = FLUYT_TRY(at.read());
      if (entry == nullptr) {
        if (at.depth() == 1) return {};
        FLUYT_TRY(at.leave());
        folder = parent_of(folder);
        continue;
      }
      std::string path = join_path(folder, entry->d_name);
      if (!std::ranges::binary_search(paths_, hash_of(path))) {
        note(path, "does not belong there");
        continue;
      }
      if (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) continue;
      auto entered = at.enter();
      if (entered.ok()) {
        folder = std::move(path);
      } else if (!is_absence(entered.error().errno_value())) {
        FLUYT_TRY(note_error(path, std::move(entered).error()));
      }
    }
    return {};
  }

  void note(std::string_view path, std::string_view what) {
    if (out_.size() < limit_) out_.push_back(cat(quote(cat("/", path)), " ", what));
  }
  Result<> step() const { return between_steps_ ? between_steps_() : Result<>(); }

  // Passes on what is no property of the tree.
  Result<> note_error(const std::string& path, Error error) {
    if (is_absence(error.errno_value())) {
      note(path, "is missing");
    } else if (is_loss(error.errno_value())) {
      note(path, cat("cannot be read: ", error.message()));
    } else {
      return std::move(error).add_context(quote(cat("/", path)));
    }
    return {};
  }

  Result<> one(const ManifestEntry& was) {
    const sys::FdRef parent = FLUYT_TRY(folder(parent_of(was.path)));
    const std::string name = was.path.empty() ? "." : std::string(base_of(was.path));
    const ManifestEntry is = FLUYT_TRY(reader_.read(parent, name, was.path));
    if ((is.mode & S_IFMT) != (was.mode & S_IFMT)) {
      note(was.path, "is of another type");
      return {};
    }
    if (is.mode != was.mode) note(was.path, "has another mode");
    if (is.uid != was.uid || is.gid != was.gid) note(was.path, "has another owner");
    if (is.attributes != was.attributes) note(was.path, "has other attributes");
    if (is.size != was.size) {
      note(was.path, S_ISREG(is.mode) ? cat("has ", is.size, " bytes, expected ", was.size)
                                      : std::string("is another device"));
    } else if (is.content != was.content) {
      note(was.path, S_ISLNK(is.mode) ? "leads elsewhere" : "has other content");
    }
    return {};
  }

  Result<> further_name(const ManifestEntry& was) {
    const auto inode_of = [this](const std::string& path) -> Result<ino_t> {
      const sys::FdRef parent = FLUYT_TRY(folder(parent_of(path)));
      const auto found = FLUYT_TRY(sys::find_stat(parent, std::string(base_of(path))));
      if (found.has_value()) return found->st_ino;
      return Error::from_errno(ENOENT, cat("stat(", quote(path), ")"));
    };
    const ino_t is = FLUYT_TRY(inode_of(was.path));
    const auto first = inode_of(was.target);  // where it is missing, its own entry says so
    if (first.ok() && *first != is) note(was.path, cat("is not ", quote(cat("/", was.target))));
    return {};
  }

  // A path may be longer than the kernel takes: it is gone in steps.
  Result<sys::FdRef> folder(std::string_view path) {
    if (folder_.valid() && path == folder_path_) return sys::FdRef(folder_);
    sys::Fd at;
    std::string_view rest = path;
    do {
      const size_t cut = rest.size() > kMaxPathBytes ? rest.rfind('/', kMaxPathBytes) : rest.size();
      if (cut == std::string_view::npos)
        return Error::from_errno(ENAMETOOLONG, "a manifest's path");
      at = FLUYT_TRY(sys::open_in(at.valid() ? sys::FdRef(at) : tree_, rest.substr(0, cut),
                                  O_PATH | O_DIRECTORY, 0, sys::Resolve::kBeneath,
                                  RESOLVE_NO_SYMLINKS));
      rest.remove_prefix(std::min(rest.size(), cut + 1));
    } while (!rest.empty());
    folder_ = std::move(at);
    folder_path_ = path;
    return sys::FdRef(folder_);
  }

  const sys::FdRef tree_;
  const size_t limit_;
  const BetweenSteps& between_steps_;
  std::vector<std::string> out_;
  std::vector<uint64_t> paths_;  // hashes of all that belong there
  sys::Fd folder_;               // where the last entry was
  std::string folder_path_;
  EntryReader reader_;
};

}  // namespace

Result<std::vector<std::string>> check_tree(sys::FdRef tree, sys::FdRef manifest,
                                            std::string_view digest, size_t limit,
                                            const BetweenSteps& between_steps) {
  auto reader = ManifestReader::open(manifest, digest);
  if (!reader.ok()) return std::vector{FLUYT_TRY(damage_of(reader.error()))};
  return Check(tree, limit, between_steps).run(*reader);
}

}  // namespace fluyt::image
