#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image::archive {

/// A tar of regular files and folders, as it goes out: ustar, sizes of 8 GiB and more in binary as
/// GNU tar and Go write and read them, longer names in a PAX header. Owner 0:0 and time 0, so that
/// one content makes one archive.
class TarWriter {
 public:
  using Sink = std::function<Result<>(std::string_view)>;
  explicit TarWriter(Sink sink) : sink_(std::move(sink)) {}

  Result<> folder(const std::string& name);
  Result<> file(const std::string& name, std::string_view content);
  /// A file in pieces: begin, then data() until `size` bytes have gone, then end.
  Result<> begin_file(const std::string& name, uint64_t size);
  Result<> data(std::string_view bytes);
  Result<> end_file();
  /// The archive's end.
  Result<> finish();

 private:
  Result<> header(const std::string& name, uint64_t size, char type, unsigned mode);
  Result<> pad(uint64_t size);
  Sink sink_;
  uint64_t size_ = 0;  // of the file under way
  uint64_t left_ = 0;
};

}  // namespace fluyt::image::archive
