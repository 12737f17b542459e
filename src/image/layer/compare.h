#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/layer/entry_reader.h"
#include "sys/fd.h"

namespace fluyt::image {

/// How one tree differs from another that should be the same, entry by entry: type, mode, owner,
/// size, times, attributes, links and content. Paths for messages, at most `limit` of them. Of any
/// depth, with few descriptors. An error of `between_steps` is returned.
Result<std::vector<std::string>> compare_trees(sys::FdRef found, sys::FdRef expected, size_t limit,
                                               const BetweenSteps& between_steps = {});

/// What a tree has, to be held against what was recorded when it was made.
struct TreeCount {
  uint64_t inodes = 0;      // below the tree's root, a file with several names once
  uint64_t file_bytes = 0;  // sizes of files, holes included
};
/// Of any depth. An error of `between_steps` is returned.
Result<TreeCount> count_tree(sys::FdRef tree, const BetweenSteps& between_steps = {});

}  // namespace fluyt::image
