#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "image/archive/tar_writer.h"
#include "sys/fd.h"

namespace fluyt::image::archive {

/// Writes an overlay's upper directory as a layer's tar: what was made or changed, and markers
/// (.wh.NAME, .wh..wh..opq) for what was removed. Owners, modes, times, links, device nodes and
/// attributes as they are; sockets are left out, as a tar has none. The container may go on
/// writing: a file that shrinks meanwhile is filled with zeros, one that grows ends where it ended.
/// Not the tar's end: that is the caller's to write. `stop` is asked now and then; its error ends
/// it.
Result<> write_diff(sys::FdRef upper, TarWriter& tar, const std::function<Result<>()>& stop);

}  // namespace fluyt::image::archive
