#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "image/archive/tar_writer.h"
#include "sys/fd.h"
#include "sys/id_range.h"

/// A tree as a tar. What lies there may be somebody's who changes it meanwhile: everything is
/// looked at by a descriptor that leads to the thing itself, no link is followed, and no device is
/// opened.
namespace fluyt::image::archive {

struct TreeOptions {
  enum class Form {
    kWhole,  // what is there, but for devices and sockets, which mean nothing elsewhere
    kDiff,   // an overlay's upper directory: devices too, and markers for what was removed
  } form = Form::kWhole;
  /// Where set, owners are said as they are inside: an id that has none is 65534.
  sys::IdMaps ids = {};
  /// Asked now and then; its error ends the walk.
  std::function<Result<>()> stop = [] { return Result<>(); };
};

/// `what`, opened with O_PATH, under the name `name`: a directory with everything below it. A file
/// that shrinks meanwhile is filled with zeros, one that grows ends where it ended. What lies on a
/// file system that the kernel makes up (procfs, sysfs, cgroups) is left out below a directory, and
/// kInvalidArgument itself; more than 500 directories in each other are kResourceExhausted, a file
/// that somebody keeps a lease on for 5 s is kUnavailable. Not the tar's end: that is the caller's
/// to write.
Result<> write_tree(sys::FdRef what, const std::string& name, TarWriter& tar,
                    const TreeOptions& options);
/// What lies in a directory, whose own name (`prefix`) ends in '/' or is empty.
Result<> write_contents(sys::FdRef directory, const std::string& prefix, TarWriter& tar,
                        const TreeOptions& options);

}  // namespace fluyt::image::archive
