#include "streaming/spdy/headers.h"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "streaming/spdy/dictionary.h"
#include "streaming/spdy/words.h"

namespace fluyt::streaming::spdy {
namespace {

Error broken(std::string_view what) {
  return Error(Code::kInvalidArgument, cat("header block: ", what));
}

Bytef* bytes_of(std::string_view text) {
  // zlib's older interface takes what it only reads without const.
  return reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
}

uInt size_of(std::string_view text) { return static_cast<uInt>(text.size()); }

/// A string with its length in front, taken from the start of `rest`.
Result<std::string_view> take_string(std::string_view& rest) {
  if (rest.size() < 4) return broken("expected a length");
  const size_t size = get_u32(rest, 0);
  rest.remove_prefix(4);
  if (size > rest.size()) return broken(cat("a string of ", size, " bytes does not fit"));
  const std::string_view text = rest.substr(0, size);
  rest.remove_prefix(size);
  return text;
}

bool has_upper_case(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

// Replies have no headers worth a window: a small one saves a quarter of a megabyte a connection.
constexpr int kDeflateWindowBits = 11;
constexpr int kDeflateMemory = 1;

}  // namespace

std::optional<std::string_view> find_header(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers) {
    if (key == name) return std::string_view(value).substr(0, value.find('\0'));
  }
  return std::nullopt;
}

std::string write_pairs(const Headers& headers) {
  std::string block;
  put_u32(block, static_cast<uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    put_u32(block, static_cast<uint32_t>(name.size()));
    block += name;
    put_u32(block, static_cast<uint32_t>(value.size()));
    block += value;
  }
  return block;
}

Result<Headers> read_pairs(std::string_view block) {
  if (block.size() < 4) return broken("expected a count");
  const size_t count = get_u32(block, 0);
  block.remove_prefix(4);
  if (count > kMaxHeaderCount) {
    return broken(cat(count, " headers: expected at most ", kMaxHeaderCount));
  }
  Headers headers;
  for (size_t i = 0; i < count; ++i) {
    const std::string_view name = FLUYT_TRY(take_string(block));
    const std::string_view value = FLUYT_TRY(take_string(block));
    if (name.empty() || has_upper_case(name)) {
      return broken(cat(quote(name, 64), ": expected a name in lower case"));
    }
    if (find_header(headers, name)) return broken(cat(quote(name, 64), ": comes twice"));
    headers.emplace_back(name, value);
  }
  if (!block.empty()) return broken(cat(block.size(), " bytes follow the last header"));
  return headers;
}

struct HeaderInflater::Stream {
  z_stream zlib{};
};

HeaderInflater::HeaderInflater() : stream_(std::make_unique<Stream>()) {
  (void)inflateInit(&stream_->zlib);  // what it could not get, inflate() says again
}

HeaderInflater::~HeaderInflater() { (void)inflateEnd(&stream_->zlib); }

Result<Headers> HeaderInflater::read(std::string_view block) {
  z_stream& zlib = stream_->zlib;
  std::string plain(kMaxHeaderBytes, '\0');
  zlib.next_in = bytes_of(block);
  zlib.avail_in = size_of(block);
  zlib.next_out = bytes_of(plain);
  zlib.avail_out = size_of(plain);
  int done = inflate(&zlib, Z_SYNC_FLUSH);
  if (done == Z_NEED_DICT) {
    const std::string& words = dictionary();
    if (inflateSetDictionary(&zlib, bytes_of(words), size_of(words)) != Z_OK) {
      return broken("it was compressed with another dictionary");
    }
    done = inflate(&zlib, Z_SYNC_FLUSH);
  }
  // Z_BUF_ERROR: no progress was possible, as with an empty block.
  if (done != Z_OK && done != Z_BUF_ERROR) return broken("it is not a zlib stream that goes on");
  if (zlib.avail_out == 0) {
    return broken(cat("expected less than ", kMaxHeaderBytes, " bytes once it is inflated"));
  }
  plain.resize(plain.size() - zlib.avail_out);
  return read_pairs(plain);
}

struct HeaderDeflater::Stream {
  z_stream zlib{};
};

HeaderDeflater::HeaderDeflater() : stream_(std::make_unique<Stream>()) {
  const std::string& words = dictionary();
  if (deflateInit2(&stream_->zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kDeflateWindowBits,
                   kDeflateMemory, Z_DEFAULT_STRATEGY) == Z_OK) {
    (void)deflateSetDictionary(&stream_->zlib, bytes_of(words), size_of(words));
  }
}

HeaderDeflater::~HeaderDeflater() { (void)deflateEnd(&stream_->zlib); }

std::string HeaderDeflater::write(const Headers& headers) {
  const std::string plain = write_pairs(headers);
  z_stream& zlib = stream_->zlib;
  zlib.next_in = bytes_of(plain);
  zlib.avail_in = size_of(plain);
  std::string block;
  std::array<char, 1024> piece{};
  do {
    zlib.next_out = bytes_of({piece.data(), piece.size()});
    zlib.avail_out = piece.size();
    if (deflate(&zlib, Z_SYNC_FLUSH) == Z_STREAM_ERROR) break;  // it could not be set up
    block.append(piece.data(), piece.size() - zlib.avail_out);
  } while (zlib.avail_out == 0);
  return block;
}

}  // namespace fluyt::streaming::spdy
