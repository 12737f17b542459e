#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

/// Header blocks of SPDY/3 (draft 3.1, §2.6.10): pairs of length-prefixed strings, compressed by
/// one zlib stream a direction for the whole life of a connection.
namespace fluyt::streaming::spdy {

using Headers = std::vector<std::pair<std::string, std::string>>;
/// The first value of `name`; a value may be several with NUL between them.
std::optional<std::string_view> find_header(const Headers& headers, std::string_view name);

/// What a block may hold once it is inflated: a few dozen bytes can say a gigabyte.
inline constexpr size_t kMaxHeaderBytes = 16UL << 10U;
inline constexpr size_t kMaxHeaderCount = 64;

/// The name-value pairs as they are before compression.
std::string write_pairs(const Headers& headers);
/// Names are lower-case and come once.
Result<Headers> read_pairs(std::string_view block);

class HeaderInflater {
 public:
  HeaderInflater();
  ~HeaderInflater();
  HeaderInflater(const HeaderInflater&) = delete;
  HeaderInflater& operator=(const HeaderInflater&) = delete;
  /// Blocks in the order in which they came; after an error the connection is of no more use.
  Result<Headers> read(std::string_view block);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

class HeaderDeflater {
 public:
  HeaderDeflater();
  ~HeaderDeflater();
  HeaderDeflater(const HeaderDeflater&) = delete;
  HeaderDeflater& operator=(const HeaderDeflater&) = delete;
  std::string write(const Headers& headers);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

}  // namespace fluyt::streaming::spdy
