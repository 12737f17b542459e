#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image::archive {

/// An entry with everything that it can say of itself.
struct TarMember {
  std::string name;
  char type = '0';  // '0' file, '1' hard link, '2' link, '3' and '4' devices, '5' folder, '6' fifo
  uint32_t mode = 0644;
  uint64_t uid = 0;
  uint64_t gid = 0;
  int64_t mtime = 0;   // seconds since 1970
  uint64_t size = 0;   // of a file: that many bytes follow as data()
  std::string link;    // target of either kind of link
  uint64_t major = 0;  // of a device
  uint64_t minor = 0;
  std::map<std::string, std::string> xattrs;
};

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
  /// What is not a plain file or folder of ours. A file's content follows, as after begin_file().
  Result<> entry(const TarMember& entry);
  /// The archive's end.
  Result<> finish();

 private:
  Result<> header(const TarMember& entry);
  Result<> extension(const TarMember& entry);
  Result<> pad(uint64_t size);
  Sink sink_;
  uint64_t size_ = 0;  // of the file under way
  uint64_t left_ = 0;
};

}  // namespace fluyt::image::archive
