#include <map>
#include <utility>

#include "base/strings.h"
#include "image/archive/members.h"
#include "image/blob/hasher.h"
#include "image/layer/inflate.h"
#include "image/layer/tar.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kChunk = 256UL << 10U;
constexpr int kMaxLinkHops = 8;

struct Member {
  std::string file;  // of our naming, in the scratch folder
  MemberInfo info;
};

struct Table {
  std::map<std::string, Member> files;       // by clean name
  std::map<std::string, std::string> links;  // clean name to clean name
};

// The clean name that a link in `from` leads to; nothing when it leaves the archive.
std::optional<std::string> target_of(const std::string& from, const TarEntry& entry) {
  if (entry.type == TarType::kHardLink || entry.link.starts_with('/'))
    return clean_name(entry.link);
  std::vector<std::string> at;  // the folder of `from`
  for (const std::string_view piece : split(from, '/')) at.emplace_back(piece);
  at.pop_back();
  for (const std::string_view piece : split(entry.link, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece != "..") {
      at.emplace_back(piece);
    } else if (at.empty()) {
      return std::nullopt;
    } else {
      at.pop_back();
    }
  }
  return join(at, "/");
}

// Writes each regular file of a tar to scratch/<number>, hashing it.
class Unpacker final : public TarSink {
 public:
  Unpacker(sys::FdRef scratch, uint64_t limit_bytes) : scratch_(scratch), left_(limit_bytes) {}
  Table take() { return std::move(table_); }

  Result<> begin(TarEntry& entry) override {
    name_.reset();
    if (++count_ > kMaxMembers) {
      return Error(Code::kResourceExhausted, cat("archive: more than ", kMaxMembers, " members"));
    }
    if (entry.path.size() > kMaxMemberNameBytes || entry.link.size() > kMaxMemberNameBytes)
      return {};  // a path that no program gives a file
    name_bytes_ += entry.path.size() + entry.link.size();
    if (name_bytes_ > kMaxMemberNamesBytes) {
      return Error(Code::kResourceExhausted,
                   cat("archive: more than ", kMaxMemberNamesBytes, " bytes of members' names"));
    }
    const auto name = clean_name(entry.path);
    if (!name.has_value() || name->empty()) return {};  // nothing can ask for it
    if (entry.type == TarType::kSymlink || entry.type == TarType::kHardLink) {
      if (auto target = target_of(*name, entry)) table_.links[*name] = std::move(*target);
      return {};
    }
    if (entry.type != TarType::kFile) return {};
    name_ = *name;
    file_ = std::to_string(count_);
    fd_ = FLUYT_TRY(sys::open(scratch_, file_, O_WRONLY | O_CREAT | O_EXCL, 0600));
    hasher_.emplace(FLUYT_TRY(Hasher::create("sha256")));
    size_ = 0;
    return {};
  }

  Result<> data(uint64_t offset, std::string_view bytes) override {
    if (!name_.has_value()) return {};
    if (offset != size_) {
      return Error(Code::kInvalidArgument, cat("archive: ", quote(*name_), ": is a sparse file"));
    }
    if (bytes.size() > left_) {
      return Error(Code::kResourceExhausted,
                   cat("archive: ", quote(*name_), ": does not fit on the disk any more"));
    }
    left_ -= bytes.size();
    size_ += bytes.size();
    FLUYT_TRY(hasher_->update(bytes));
    return sys::write_all(fd_, bytes);
  }

  Result<> end() override {
    if (!name_.has_value()) return {};
    fd_.reset();
    table_.links.erase(*name_);
    MemberInfo info{size_, FLUYT_TRY(hasher_->finish())};
    table_.files.insert_or_assign(*name_, Member{file_, std::move(info)});
    name_.reset();
    return {};
  }

 private:
  sys::FdRef scratch_;
  uint64_t left_;
  size_t count_ = 0;
  uint64_t name_bytes_ = 0;
  Table table_;
  std::optional<std::string> name_;  // of the file under way
  std::string file_;
  sys::Fd fd_;
  std::optional<Hasher> hasher_;
  uint64_t size_ = 0;
};

class Tar final : public Members {
 public:
  Tar(sys::TempDir scratch, sys::Fd folder, Table table)
      : scratch_(std::move(scratch)), folder_(std::move(folder)), table_(std::move(table)) {}

  Result<bool> has(const std::string& name) const override { return find(name).ok(); }

  Result<sys::Fd> open(const std::string& name) const override {
    return sys::open(folder_, FLUYT_TRY(find(name))->file, O_RDONLY | O_NOFOLLOW);
  }

  Result<MemberInfo> info(const std::string& name) const override {
    return FLUYT_TRY(find(name))->info;
  }

 private:
  Result<const Member*> find(const std::string& name) const {
    std::string at = clean_name(name).value_or("");
    for (int hops = 0; hops <= kMaxLinkHops; ++hops) {
      if (const auto file = table_.files.find(at); file != table_.files.end()) return &file->second;
      const auto link = table_.links.find(at);
      if (link == table_.links.end()) break;
      at = link->second;
    }
    return Error(Code::kNotFound, cat("archive: ", quote(name), ": no such file in it"));
  }

  sys::TempDir scratch_;
  sys::Fd folder_;
  Table table_;
};

Result<Table> unpack(const std::string& path, sys::FdRef scratch, uint64_t limit_bytes) {
  const sys::Fd input = FLUYT_TRY(sys::open(path, O_RDONLY));
  Unpacker unpacker(scratch, limit_bytes);
  TarParser parser(unpacker);
  Inflater inflater([&](std::string_view bytes) { return parser.push(bytes); });
  std::string buffer(kChunk, '\0');
  while (const size_t got = FLUYT_TRY(sys::read_some(input, buffer))) {
    FLUYT_TRY(inflater.push(std::string_view(buffer).substr(0, got)));
  }
  FLUYT_TRY(inflater.finish());
  FLUYT_TRY(parser.finish());
  return unpacker.take();
}

}  // namespace

Result<std::unique_ptr<Members>> open_tar(const std::string& path, const std::string& scratch,
                                          uint64_t limit_bytes) {
  sys::TempDir folder = FLUYT_TRY(sys::TempDir::create(scratch));
  sys::Fd fd = FLUYT_TRY(sys::open(folder.path(), O_PATH | O_DIRECTORY));
  Table table = FLUYT_TRY_CONTEXT(unpack(path, fd, limit_bytes), quote(path));
  return std::unique_ptr<Members>(
      std::make_unique<Tar>(std::move(folder), std::move(fd), std::move(table)));
}

std::optional<std::string> clean_name(std::string_view name) {
  std::vector<std::string> out;
  for (const std::string_view piece : split(name, '/')) {
    if (piece == "..") return std::nullopt;
    if (!piece.empty() && piece != ".") out.emplace_back(piece);
  }
  return join(out, "/");
}

}  // namespace fluyt::image::archive
