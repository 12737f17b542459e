#include "image/archive/tar_writer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "base/strings.h"

namespace fluyt::image::archive {

namespace {

constexpr size_t kBlock = 512;
constexpr uint64_t kMaxOctalSize = 077777777777;
constexpr uint64_t kMaxOctalId = 07777777;
// Offsets of ustar (POSIX.1-1988); the name is at 0.
constexpr size_t kMode = 100;
constexpr size_t kUid = 108;
constexpr size_t kGid = 116;
constexpr size_t kSize = 124;
constexpr size_t kTime = 136;
constexpr size_t kChecksum = 148;
constexpr size_t kType = 156;
constexpr size_t kLink = 157;
constexpr size_t kMagic = 257;
constexpr size_t kMajor = 329;
constexpr size_t kMinor = 337;
constexpr size_t kMaxName = 100;

using Block = std::array<char, kBlock>;

// `digits` octal digits and a NUL behind them.
void put_octal(Block& block, size_t at, int digits, uint64_t value) {
  std::array<char, 32> text;
  (void)std::snprintf(text.data(), text.size(), "%0*llo", digits,
                      static_cast<unsigned long long>(value));
  std::memcpy(&block.at(at), text.data(), static_cast<size_t>(digits) + 1);
}

void put_size(Block& block, uint64_t size) {
  if (size <= kMaxOctalSize) return put_octal(block, kSize, 11, size);
  block.at(kSize) = static_cast<char>(0x80);
  for (size_t i = 0; i < 8; ++i) {
    block.at(kSize + 11 - i) = static_cast<char>(size & 0xFFU);
    size >>= 8U;
  }
}

// "30 path=…\n": the number counts its own digits, too.
std::string pax_record(std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t size = rest + 1;
  while (rest + std::to_string(size).size() != size) ++size;
  return cat(size, " ", key, "=", value, "\n");
}

}  // namespace

/// What the old header has no room for goes before it, as PAX (POSIX.1-2001).
Result<> TarWriter::extension(const TarMember& entry) {
  std::string records;
  if (entry.name.size() > kMaxName) records += pax_record("path", entry.name);
  if (entry.link.size() > kMaxName) records += pax_record("linkpath", entry.link);
  if (entry.uid > kMaxOctalId) records += pax_record("uid", std::to_string(entry.uid));
  if (entry.gid > kMaxOctalId) records += pax_record("gid", std::to_string(entry.gid));
  if (entry.mtime < 0) records += pax_record("mtime", std::to_string(entry.mtime));
  for (const auto& [name, value] : entry.xattrs) {
    records += pax_record(cat("SCHILY.xattr.", name), value);
  }
  if (records.empty()) return {};
  TarMember pax;
  pax.name = "pax";
  pax.type = 'x';
  pax.size = records.size();
  FLUYT_TRY(header(pax));
  FLUYT_TRY(sink_(records));
  return pad(records.size());
}

Result<> TarWriter::header(const TarMember& entry) {
  const auto within = [](uint64_t value, uint64_t most) { return value > most ? 0 : value; };
  Block block{};
  std::memcpy(block.data(), entry.name.data(), std::min(entry.name.size(), kMaxName));
  put_octal(block, kMode, 7, entry.mode);
  put_octal(block, kUid, 7, within(entry.uid, kMaxOctalId));
  put_octal(block, kGid, 7, within(entry.gid, kMaxOctalId));
  put_size(block, entry.size);
  put_octal(block, kTime, 11, entry.mtime < 0 ? 0 : static_cast<uint64_t>(entry.mtime));
  std::memset(&block.at(kChecksum), ' ', 8);
  block.at(kType) = entry.type;
  std::memcpy(&block.at(kLink), entry.link.data(), std::min(entry.link.size(), kMaxName));
  std::memcpy(&block.at(kMagic),
              "ustar\0"
              "00",
              8);
  if (entry.type == '3' || entry.type == '4') {
    put_octal(block, kMajor, 7, within(entry.major, kMaxOctalId));
    put_octal(block, kMinor, 7, within(entry.minor, kMaxOctalId));
  }
  uint64_t sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  put_octal(block, kChecksum, 6, sum);
  return sink_({block.data(), block.size()});
}

Result<> TarWriter::entry(const TarMember& entry) {
  size_ = left_ = entry.size;
  FLUYT_TRY(extension(entry));
  return header(entry);
}

Result<> TarWriter::folder(const std::string& name) {
  TarMember folder;
  folder.name = name;
  folder.type = '5';
  folder.mode = 0755;
  return entry(folder);
}

Result<> TarWriter::file(const std::string& name, std::string_view content) {
  FLUYT_TRY(begin_file(name, content.size()));
  FLUYT_TRY(data(content));
  return end_file();
}

Result<> TarWriter::begin_file(const std::string& name, uint64_t size) {
  TarMember file;
  file.name = name;
  file.size = size;
  return entry(file);
}

Result<> TarWriter::data(std::string_view bytes) {
  if (bytes.size() > left_) {
    return Error(Code::kInternal, "tar: a file has more bytes than were announced");
  }
  left_ -= bytes.size();
  return bytes.empty() ? Result<>() : sink_(bytes);
}

Result<> TarWriter::end_file() {
  if (left_ != 0) return Error(Code::kInternal, cat("tar: a file lacks ", left_, " bytes"));
  return pad(size_);
}

Result<> TarWriter::pad(uint64_t size) {
  const size_t over = size % kBlock;
  if (over == 0) return {};
  const Block zeros{};
  return sink_({zeros.data(), kBlock - over});
}

Result<> TarWriter::finish() {
  const std::array<char, 2 * kBlock> zeros{};
  return sink_({zeros.data(), zeros.size()});
}

}  // namespace fluyt::image::archive
