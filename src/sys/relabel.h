#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fluyt::sys {

/// Places of the host whose label is nobody's to change: "/", "/etc", "/home" and so on. What is
/// below them may be relabelled.
const std::vector<std::string>& never_relabelled();

/// Gives `path`, a file or a directory with all that is below it, the SELinux label `label`. Links
/// on the way to `path` are followed; those below it are relabelled themselves and never followed.
/// What is mounted below is relabelled as well. A file system that has no labels, or one for all of
/// its files, is left as it is. What has the label already is not written to.
/// kInvalidArgument: `path`, or something mounted below it, is one of `kept`, by whatever name.
/// kNotFound: there is no `path`. What goes away meanwhile is passed over.
Result<> relabel(const std::string& path, const std::string& label,
                 const std::vector<std::string>& kept = never_relabelled());

}  // namespace fluyt::sys
