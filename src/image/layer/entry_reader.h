#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/result.h"
#include "image/layer/manifest.h"
#include "sys/fd.h"

namespace fluyt::image {

/// What is done between two steps of reading a tree, an entry or 256 KiB of a file; an error of its
/// ends the reading. May be empty.
using BetweenSteps = std::function<Result<>()>;

/// What the disk says when it cannot give back what was put there; or never had it, for a path that
/// leaves the tree, or is too long.
bool is_loss(int error);

/// Reads what lies in a tree as a manifest has it.
class EntryReader {
 public:
  explicit EntryReader(BetweenSteps between_steps = {})
      : between_steps_(std::move(between_steps)) {}
  /// Of `name` in `parent`, a file's bytes included; never as a further name of another file.
  /// `path` is the entry's.
  Result<ManifestEntry> read(sys::FdRef parent, const std::string& name, std::string path);

 private:
  Result<uint64_t> content_of(sys::FdRef file, uint64_t size);
  BetweenSteps between_steps_;
  std::string buffer_;
};

/// A sum over the attributes that an image gave, and overlayfs's opaque mark. Left out are those
/// that the host may give or change: security labels other than capabilities, and ACLs, which the
/// kernel keeps in a form of its own (what they grant the group shows in the mode).
Result<uint64_t> attributes_of(sys::FdRef fd);

}  // namespace fluyt::image
