#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// What a directory or file shows of itself beside its content and its times. overlayfs's own
/// attributes and security labels are no part of it: they are of one layer and never travel.
struct Attributes {
  mode_t mode = 0755;
  uid_t uid = 0;
  gid_t gid = 0;
  std::map<std::string, std::string> xattrs;
  bool operator==(const Attributes&) const = default;
};

/// `fd` is open for reading, not O_PATH; `path` is for messages.
Result<Attributes> read_attributes(sys::FdRef fd, std::string_view path);
Result<> write_attributes(sys::FdRef fd, const Attributes& attributes, std::string_view path);
/// Sets modification and access time of `to` to the modification time of `from`.
Result<> copy_times(sys::FdRef from, sys::FdRef to, std::string_view path);

}  // namespace fluyt::image
