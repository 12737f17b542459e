#include "image/archive/members_unpack.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "image/archive/members.h"
#include "image/blob/hasher.h"
#include "image/layer/inflate.h"
#include "image/layer/tar.h"
#include "image/layer/unpack.h"
#include "sys/file.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kChunk = 256UL << 10U;
// A report is these records' fields, each ended by a NUL; or an error, which begins with a "{".
constexpr std::string_view kFile = "file";  // name, number, size, digest
constexpr std::string_view kLink = "link";  // name, target
constexpr size_t kMaxFields = 5 * kMaxMembers;

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

bool has_nul(const TarEntry& entry) {
  return (entry.path + entry.link).find('\0') != std::string::npos;
}

// Writes each regular file of a tar to scratch/<number>, hashing it.
class Unpacker final : public TarSink {
 public:
  explicit Unpacker(sys::FdRef scratch) : scratch_(scratch) {}
  MemberTable take() { return std::move(table_); }

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
    if (!name.has_value() || name->empty() || has_nul(entry)) return {};  // nothing asks for it
    if (entry.type == TarType::kSymlink || entry.type == TarType::kHardLink) {
      table_.files.erase(*name);  // the last of a name is the one
      table_.links.erase(*name);
      if (auto target = target_of(*name, entry)) table_.links[*name] = std::move(*target);
      return {};
    }
    if (entry.type != TarType::kFile) return {};
    name_ = *name;
    fd_ = FLUYT_TRY(sys::open(scratch_, std::to_string(count_), O_WRONLY | O_CREAT | O_EXCL, 0600));
    hasher_.emplace(FLUYT_TRY(Hasher::create("sha256")));
    size_ = 0;
    return {};
  }

  Result<> data(uint64_t offset, std::string_view bytes) override {
    if (!name_.has_value()) return {};
    if (offset != size_) {
      return Error(Code::kInvalidArgument, cat("archive: ", quote(*name_), ": is a sparse file"));
    }
    size_ += bytes.size();
    FLUYT_TRY(hasher_->update(bytes));
    return sys::write_all(fd_, bytes);
  }

  Result<> end() override {
    if (!name_.has_value()) return {};
    fd_.reset();
    table_.links.erase(*name_);
    MemberInfo info{size_, FLUYT_TRY(hasher_->finish())};
    table_.files.insert_or_assign(*name_, Member{count_, std::move(info)});
    name_.reset();
    return {};
  }

 private:
  sys::FdRef scratch_;
  size_t count_ = 0;
  uint64_t name_bytes_ = 0;
  MemberTable table_;
  std::optional<std::string> name_;  // of the file under way
  sys::Fd fd_;
  std::optional<Hasher> hasher_;
  uint64_t size_ = 0;
};

}  // namespace

Result<MemberTable> unpack_members(sys::FdRef in, sys::FdRef scratch, uint64_t limit_bytes) {
  Unpacker unpacker(scratch);
  TarParser parser(unpacker);
  // All of it counts, members that are passed over too: what is not written takes time.
  uint64_t left = limit_bytes;
  Inflater inflater([&](std::string_view bytes) -> Result<> {
    if (bytes.size() > left) {
      return Error(Code::kResourceExhausted,
                   cat("archive: unpacks to more than the ", limit_bytes, " bytes that fit"));
    }
    left -= bytes.size();
    return parser.push(bytes);
  });
  std::string buffer(kChunk, '\0');
  while (const size_t got = FLUYT_TRY(sys::read_some(in, buffer))) {
    FLUYT_TRY(inflater.push(std::string_view(buffer).substr(0, got)));
  }
  FLUYT_TRY(inflater.finish());
  FLUYT_TRY(parser.finish());
  return unpacker.take();
}

std::string to_report(const Result<MemberTable>& outcome) {
  if (!outcome.ok()) return image::to_report(Result<LayerInfo>(outcome.error()));
  std::string out;
  const auto field = [&](std::string_view text) {
    out += text;
    out += '\0';
  };
  for (const auto& [name, member] : outcome->files) {
    field(kFile);
    field(name);
    field(std::to_string(member.number));
    field(std::to_string(member.info.size));
    field(member.info.digest.text());
  }
  for (const auto& [name, target] : outcome->links) {
    field(kLink);
    field(name);
    field(target);
  }
  return out;
}

// The worker had the hostile bytes in its hands: what it reports is checked like anything from
// outside.
Result<MemberTable> parse_members_report(std::string_view report) {
  if (report.starts_with('{')) {
    auto parsed = parse_report(report);
    if (!parsed.ok()) return std::move(parsed).error();
  }
  MemberTable table;
  const Error bad(Code::kInternal, "the unpacker's report is not one of an archive's members");
  // Before it is split, which takes 16 bytes a field.
  if (static_cast<size_t>(std::ranges::count(report, '\0')) > kMaxFields) return bad;
  std::vector<std::string_view> fields = split(report, '\0');
  if (fields.back() != "") return bad;
  fields.pop_back();
  for (size_t at = 0; at < fields.size();) {
    if (fields[at] == kFile && fields.size() - at >= 5) {
      const auto number = parse_number<size_t>(fields[at + 2]);
      const auto size = parse_number<uint64_t>(fields[at + 3]);
      auto digest = oci::Digest::parse(fields[at + 4]);
      if (!number || *number > kMaxMembers || !size || !digest.ok()) return bad;
      table.files.insert_or_assign(std::string(fields[at + 1]),
                                   Member{*number, {*size, std::move(*digest)}});
      at += 5;
    } else if (fields[at] == kLink && fields.size() - at >= 3) {
      table.links.insert_or_assign(std::string(fields[at + 1]), std::string(fields[at + 2]));
      at += 3;
    } else {
      return bad;
    }
  }
  return table;
}

}  // namespace fluyt::image::archive
