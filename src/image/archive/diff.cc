#include "image/archive/diff.h"

#include "image/archive/tree.h"

namespace fluyt::image::archive {

Result<> write_diff(sys::FdRef upper, TarWriter& tar, const std::function<Result<>()>& stop) {
  return write_contents(upper, "", tar, {.form = TreeOptions::Form::kDiff, .stop = stop});
}

}  // namespace fluyt::image::archive
