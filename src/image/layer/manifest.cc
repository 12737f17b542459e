#include "image/layer/manifest.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/strings.h"
#include "image/layer/name.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr std::string_view kMagic = "FLUYTMF1";
constexpr size_t kBufferBytes = 64UL << 10U;
constexpr size_t kMaxTextBytes = 16UL << 10U;  // PATH_MAX and more: see TreeWriter::follow()
constexpr unsigned kGroupBits = 7;
constexpr unsigned kMoreFollow = 0x80;

std::string digest_text(const Checksum& checksum) {
  std::string out(22, '\0');
  std::snprintf(out.data(), out.size() + 1, "crc64:%016lx",
                static_cast<unsigned long>(checksum.value()));
  return out;
}

Error damaged(std::string_view what) {
  return {Code::kDataLoss, cat("the manifest of its files is damaged: ", what)};
}

Result<size_t> read_at(sys::FdRef file, uint64_t at, std::string& into) {
  while (true) {
    const ssize_t got = pread(file.raw(), into.data(), into.size(), static_cast<off_t>(at));
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return Error::from_errno(errno, "pread(manifest)");
  }
}

// What a name of a tree's own can be: below it, and the same by any way.
bool is_clean_path(std::string_view path) {
  if (path.find('\0') != std::string_view::npos) return false;
  return std::ranges::all_of(split(path, '/'), [](std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.size() <= kMaxNameBytes;
  });
}

}  // namespace

void ManifestWriter::number(uint64_t value) {
  for (; value >= kMoreFollow; value >>= kGroupBits)
    buffer_ += static_cast<char>((value & (kMoreFollow - 1)) | kMoreFollow);
  buffer_ += static_cast<char>(value);
}

void ManifestWriter::text(std::string_view bytes) {
  number(bytes.size());
  buffer_ += bytes;
}

Result<> ManifestWriter::flush() {
  checksum_.update(buffer_);
  if (room_ != nullptr) FLUYT_TRY_CONTEXT(room_->take(buffer_.size()), "the layer's manifest");
  FLUYT_TRY_CONTEXT(sys::write_all(file_, buffer_), "the layer's manifest");
  buffer_.clear();
  return {};
}

Result<> ManifestWriter::add(const ManifestEntry& entry) {
  if (!begun_) buffer_ += kMagic;
  begun_ = true;
  const auto [mine, its] = std::ranges::mismatch(entry.path, last_path_);
  const auto shared = static_cast<size_t>(mine - entry.path.begin());
  number(shared);
  text(std::string_view(entry.path).substr(shared));
  number(entry.target.empty() ? entry.mode : 0);
  if (!entry.target.empty()) {
    text(entry.target);
  } else {
    for (const uint64_t value :
         {uint64_t{entry.uid}, uint64_t{entry.gid}, entry.size, entry.content, entry.attributes}) {
      number(value);
    }
  }
  last_path_ = entry.path;
  return buffer_.size() < kBufferBytes ? Result<>() : flush();
}

Result<> ManifestWriter::restart() {
  if (ftruncate(file_.raw(), 0) != 0) return Error::from_errno(errno, "ftruncate(manifest)");
  if (lseek(file_.raw(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek(manifest)");
  *this = ManifestWriter(file_, room_);
  return {};
}

Result<std::string> ManifestWriter::finish() {
  FLUYT_TRY(flush());
  return digest_text(checksum_);
}

Result<ManifestReader> ManifestReader::open(sys::FdRef file, std::string_view digest) {
  ManifestReader reader(file);
  Checksum checksum;
  while (FLUYT_TRY(reader.fill())) {
    checksum.update(reader.buffer_);
    reader.at_ = reader.buffer_.size();
  }
  const std::string found = digest_text(checksum);
  if (found != digest) return damaged(cat("it is ", found, ", the record says ", digest));
  reader = ManifestReader(file);
  for (const char c : kMagic) {
    if (!FLUYT_TRY(reader.fill()) || reader.buffer_[reader.at_++] != c)
      return damaged("it does not begin as one");
  }
  return reader;
}

Result<bool> ManifestReader::fill() {
  if (at_ < buffer_.size()) return true;
  buffer_.resize(kBufferBytes);
  buffer_.resize(FLUYT_TRY(read_at(file_, read_, buffer_)));
  read_ += buffer_.size();
  at_ = 0;
  return !buffer_.empty();
}

Result<uint64_t> ManifestReader::number() {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += kGroupBits) {
    if (!FLUYT_TRY(fill())) return damaged("it ends in the middle of an entry");
    const auto byte = static_cast<unsigned char>(buffer_[at_++]);
    value |= static_cast<uint64_t>(byte & (kMoreFollow - 1)) << shift;
    if ((byte & kMoreFollow) == 0) return value;
  }
  return damaged("a number in it is too long");
}

Result<std::string> ManifestReader::text() {
  const uint64_t size = FLUYT_TRY(number());
  if (size > kMaxTextBytes) return damaged("a name in it is too long");
  std::string out;
  while (out.size() < size) {
    if (!FLUYT_TRY(fill())) return damaged("it ends in the middle of a name");
    const size_t piece = std::min(size - out.size(), buffer_.size() - at_);
    out.append(buffer_, at_, piece);
    at_ += piece;
  }
  return out;
}

Result<std::optional<ManifestEntry>> ManifestReader::next() {
  if (!FLUYT_TRY(fill())) return std::optional<ManifestEntry>();
  const uint64_t shared = FLUYT_TRY(number());
  if (shared > last_path_.size()) return damaged("a path in it is longer than the one before it");
  ManifestEntry entry;
  entry.path = last_path_.substr(0, shared) + FLUYT_TRY(text());
  if (entry.path.size() > kMaxTextBytes) return damaged("a path in it is too long");
  if (!entry.path.empty() && !is_clean_path(entry.path))
    return damaged("a path in it is none of a tree");
  last_path_ = entry.path;
  entry.mode = static_cast<mode_t>(FLUYT_TRY(number()));
  if (entry.mode == 0) {
    entry.target = FLUYT_TRY(text());
    if (!entry.target.empty() && !is_clean_path(entry.target))
      return damaged("a path in it is none of a tree");
    return std::optional(std::move(entry));
  }
  entry.uid = static_cast<uid_t>(FLUYT_TRY(number()));
  entry.gid = static_cast<gid_t>(FLUYT_TRY(number()));
  entry.size = FLUYT_TRY(number());
  entry.content = FLUYT_TRY(number());
  entry.attributes = FLUYT_TRY(number());
  return std::optional(std::move(entry));
}

}  // namespace fluyt::image
