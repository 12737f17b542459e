#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// What `fluyt cp` copies where.
namespace fluyt::cli {

/// One of its arguments. "CONTAINER:PATH"; here with an empty `container`: what begins with '/' or
/// '.', has no ':', or is "-", a tar as it is.
struct CopyPlace {
  std::string container;
  std::string path;
  bool is_here() const { return container.empty(); }
  bool is_tar() const { return container.empty() && path == "-"; }
  bool operator==(const CopyPlace&) const = default;
};
CopyPlace parse_copy_place(std::string_view text);

enum class CopyKind { kMissing, kFile, kDirectory };
struct CopySide {
  std::string path;  // as it was typed
  std::string base;  // what it is relative to, absolute
  CopyKind kind = CopyKind::kMissing;
};
/// Where the copy is made: in `folder`, absolute, under `name`; with an empty name what lies in the
/// source goes into the folder.
struct CopyPlan {
  std::string folder;
  std::string name;
  bool operator==(const CopyPlan&) const = default;
};
/// As cp(1) with -r: into a directory that is there, else under the target's own name; of a source
/// that ends in "/." its content. kInvalidArgument, kNotFound: it cannot be.
Result<CopyPlan> plan_copy(const CopySide& source, const CopySide& target);

}  // namespace fluyt::cli
