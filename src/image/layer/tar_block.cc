#include "image/layer/tar_block.h"

#include <algorithm>

#include "image/layer/tar_number.h"

namespace fluyt::image::tar {

namespace {

enum class Format { kV7, kUstar, kStar, kGnu };

Format format_of(const char* block) {
  const std::string_view magic = field(block, kMagic);
  if (magic == std::string_view("ustar\00000", 8)) {
    return field(block, kStarTrailer) == std::string_view("tar\0", 4) ? Format::kStar
                                                                      : Format::kUstar;
  }
  if (magic == std::string_view("ustar  \0", 8)) return Format::kGnu;
  return Format::kV7;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

}  // namespace

bool is_zero(const char* block) {
  return std::all_of(block, block + kBlock, [](char c) { return c == '\0'; });
}

// The sum of all bytes with the checksum itself read as spaces; some old writers summed signed
// bytes.
bool checksum_matches(const char* block) {
  const auto stored = parse_tar_number(field(block, kChecksum));
  if (!stored) return false;
  int64_t sum_unsigned = 0;
  int64_t sum_signed = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    const char c = own ? ' ' : block[i];
    sum_unsigned += static_cast<unsigned char>(c);
    sum_signed += static_cast<signed char>(c);
  }
  return *stored == sum_unsigned || *stored == sum_signed;
}

std::string_view prefix_of(const char* block) {
  switch (format_of(block)) {
    case Format::kUstar:
      return tar_text(field(block, kPrefix));
    case Format::kStar:
      return tar_text(field(block, kStarPrefix));
    case Format::kGnu: {
      // GNU headers have times here; but Go before 1.8 wrote a prefix under GNU's magic, and old
      // images are full of those. What cannot be times is read as the prefix it is.
      const bool times = parse_tar_number(field(block, kGnuAtime)).has_value() &&
                         parse_tar_number(field(block, kGnuCtime)).has_value();
      const std::string_view prefix = tar_text(field(block, kPrefix));
      return !times && is_ascii(prefix) ? prefix : std::string_view();
    }
    case Format::kV7:
      break;
  }
  return {};
}

Result<> read_old_pieces(const char* at, size_t count, std::vector<SparsePiece>& out) {
  constexpr size_t kNumber = 12;
  for (size_t i = 0; i < count && *at != '\0'; ++i, at += 2 * kNumber) {
    const auto offset = parse_tar_number({at, kNumber});
    const auto length = parse_tar_number({at + kNumber, kNumber});
    if (!offset || !length || *offset < 0 || *length < 0) {
      return Error(Code::kInvalidArgument, "tar: the sparse map is not numbers");
    }
    out.push_back({static_cast<uint64_t>(*offset), static_cast<uint64_t>(*length)});
  }
  return {};
}

}  // namespace fluyt::image::tar
