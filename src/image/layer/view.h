#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::image {

/// Layers as one read-only tree, through a detached overlay mount that no mount table shows. With
/// one directory there is no mount. Needs CAP_SYS_ADMIN for more than one.
class LayerView {
 public:
  /// `lower_dirs` topmost first, at least one.
  static Result<LayerView> open(const std::vector<std::string>& lower_dirs);
  /// A directory to hand to sys::open_in.
  sys::FdRef root() const { return root_; }
  /// The content of a regular file, resolved within the root; nothing when it is not there or is
  /// not a regular file; more than `limit` bytes is kResourceExhausted.
  Result<std::optional<std::string>> read_file(std::string_view path, size_t limit) const;

 private:
  explicit LayerView(sys::Fd root) : root_(std::move(root)) {}
  sys::Fd root_;
};

}  // namespace fluyt::image
