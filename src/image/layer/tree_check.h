#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/layer/entry_reader.h"
#include "sys/fd.h"

namespace fluyt::image {

/// How a layer's tree differs from what its manifest says it was: names that are missing or do not
/// belong there, and of those that are there type, mode, owner, size, content, links and attributes
/// (times and ACLs are not in it). For messages, at most `limit`. Every file is read; what the disk
/// does not give is a difference, and so is a manifest that has not `digest` or cannot be one. An
/// error of `between_steps` is returned. Takes 8 bytes of memory a name.
Result<std::vector<std::string>> check_tree(sys::FdRef tree, sys::FdRef manifest,
                                            std::string_view digest, size_t limit,
                                            const BetweenSteps& between_steps = {});

}  // namespace fluyt::image
