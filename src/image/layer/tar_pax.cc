#include <algorithm>
#include <array>

#include "base/strings.h"
#include "image/layer/tar.h"
#include "image/layer/tar_number.h"

namespace fluyt::image {

namespace {

Error bad(std::string_view what) {
  return Error(Code::kInvalidArgument, cat("tar: PAX header: ", what));
}

bool names_something(std::string_view key) {
  constexpr std::array<std::string_view, 5> kNames = {"path", "linkpath", "uname", "gname",
                                                      "GNU.sparse.name"};
  return std::find(kNames.begin(), kNames.end(), key) != kNames.end();
}

std::optional<unsigned> base64_digit(char c) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const size_t at = kDigits.find(c);
  if (at == std::string_view::npos) return std::nullopt;
  return static_cast<unsigned>(at);
}

// With or without padding, as libarchive writes it.
std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  unsigned bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const auto digit = base64_digit(c);
    if (!digit) return std::nullopt;
    bits = (bits << 6U | *digit) & 0xFFFFU;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>(bits >> held & 0xFFU);
    }
  }
  return out;
}

std::optional<std::string> decode_percent(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const auto byte = parse_number<uint8_t>(text.substr(i + 1, 2), 16);
    if (!byte || i + 2 >= text.size()) return std::nullopt;
    out += static_cast<char>(*byte);
    i += 2;
  }
  return out;
}

Result<int64_t> number_of(std::string_view key, std::string_view value) {
  const auto number = parse_number<int64_t>(value);
  if (number && *number >= 0) return *number;
  return bad(cat(quote(key, 64), " is ", quote(value, 64), ": not a number"));
}

Result<> add_xattr(std::string name, std::string value, PaxFields& fields) {
  if (name.empty() || name.find('\0') != std::string::npos)
    return bad("an attribute has no proper name");
  for (auto& [known, old] : fields.xattrs) {
    if (known != name) continue;
    old = std::move(value);  // the same attribute in two spellings
    return {};
  }
  if (fields.xattrs.size() >= kMaxTarXattrs) {
    return Error(Code::kResourceExhausted,
                 cat("tar: more than ", kMaxTarXattrs, " attributes on one entry"));
  }
  fields.xattrs.emplace_back(std::move(name), std::move(value));
  return {};
}

constexpr std::string_view kSchilyXattr = "SCHILY.xattr.";
constexpr std::string_view kLibarchiveXattr = "LIBARCHIVE.xattr.";

Result<bool> note_xattr(const std::string& key, const std::string& value, PaxFields& fields) {
  if (key.starts_with(kSchilyXattr)) {
    FLUYT_TRY(add_xattr(key.substr(kSchilyXattr.size()), value, fields));
    return true;
  }
  if (!key.starts_with(kLibarchiveXattr)) return false;
  auto name = decode_percent(std::string_view(key).substr(kLibarchiveXattr.size()));
  auto decoded = decode_base64(value);
  if (!name || !decoded) return bad(cat(quote(key, 64), " is not an attribute"));
  FLUYT_TRY(add_xattr(std::move(*name), std::move(*decoded), fields));
  return true;
}

// GNU tar's manual, "Storing Sparse Files", gathered over all records before it is understood.
struct GnuSparse {
  std::string major, minor, map, name, blocks;
  std::optional<uint64_t> size;
};

Result<> note_sparse(std::string_view key, const std::string& value, GnuSparse& sparse) {
  if (key == "GNU.sparse.major") sparse.major = value;
  if (key == "GNU.sparse.minor") sparse.minor = value;
  if (key == "GNU.sparse.name") sparse.name = value;
  if (key == "GNU.sparse.numblocks") sparse.blocks = value;
  if (key == "GNU.sparse.map") sparse.map = value;
  if (key == "GNU.sparse.size" || key == "GNU.sparse.realsize") {
    sparse.size = static_cast<uint64_t>(FLUYT_TRY(number_of(key, value)));
  }
  if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
    if (!sparse.map.empty()) sparse.map += ',';
    sparse.map += value;
  }
  return {};
}

Result<> apply_sparse(const GnuSparse& sparse, PaxFields& fields) {
  const bool one = sparse.major == "1" && sparse.minor == "0";
  const bool zero = sparse.major == "0" && (sparse.minor == "0" || sparse.minor == "1");
  const bool unnamed = sparse.major.empty() && sparse.minor.empty() &&
                       (!sparse.map.empty() || !sparse.blocks.empty());
  if (!one && !zero && !unnamed) return {};
  fields.sparse = true;
  fields.sparse_map_in_data = one;
  fields.real_size = sparse.size;
  if (!sparse.name.empty()) fields.path = sparse.name;
  if (one) return {};
  fields.sparse_map = sparse.map;
  const auto commas = static_cast<uint64_t>(std::count(sparse.map.begin(), sparse.map.end(), ','));
  const uint64_t blocks = sparse.map.empty() ? 0 : (commas + 1) / 2;
  if (sparse.blocks != std::to_string(blocks))
    return bad("GNU.sparse.numblocks does not match the map");
  return {};
}

Result<> note_field(const std::string& key, const std::string& value, PaxFields& fields) {
  if (key == "path") fields.path = value;
  if (key == "linkpath") fields.link = value;
  if (key == "uid") fields.uid = FLUYT_TRY(number_of(key, value));
  if (key == "gid") fields.gid = FLUYT_TRY(number_of(key, value));
  if (key == "size") fields.size = FLUYT_TRY(number_of(key, value));
  if (key == "mtime") {
    const auto time = parse_pax_time(value);
    if (!time) return bad(cat("mtime is ", quote(value, 64), ": not a time"));
    fields.mtime = time->seconds;
    fields.mtime_ns = time->nanoseconds;
  }
  return {};
}

}  // namespace

Result<PaxFields> read_pax_fields(const PaxRecords& records) {
  PaxFields fields;
  GnuSparse sparse;
  for (const auto& [key, value] : records) {
    if (FLUYT_TRY(note_xattr(key, value, fields))) continue;
    if (value.empty()) continue;  // takes the record back: the header's own field holds
    FLUYT_TRY(note_field(key, value, fields));
    FLUYT_TRY(note_sparse(key, value, sparse));
  }
  FLUYT_TRY(apply_sparse(sparse, fields));
  return fields;
}

// Each record is "LENGTH KEY=VALUE\n", LENGTH counting all of it (pax(1), "pax Extended Header").
Result<PaxRecords> parse_pax(std::string_view body) {
  PaxRecords out;
  while (!body.empty()) {
    const size_t space = body.find(' ');
    if (space == std::string_view::npos || space > 10) return bad("a record has no length");
    const auto length = parse_number<uint64_t>(body.substr(0, space));
    if (!length || *length > body.size() || *length < space + 3 || body[*length - 1] != '\n') {
      return bad(
          cat("record of length ", quote(body.substr(0, space)), " does not end where it says"));
    }
    const std::string_view record = body.substr(space + 1, *length - space - 2);
    body.remove_prefix(*length);
    const size_t equals = record.find('=');
    if (equals == 0 || equals == std::string_view::npos) {
      return bad(cat("record ", quote(record, 64), " has no key"));
    }
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    const std::string_view checked = names_something(key) ? value : key;
    if (checked.find('\0') != std::string_view::npos)
      return bad(cat(quote(key, 64), " holds a NUL"));
    out.emplace_back(key, value);
  }
  return out;
}

}  // namespace fluyt::image
