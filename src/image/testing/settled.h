#pragma once

#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/time.h"
#include "sys/file.h"

namespace fluyt::image::testing {

/// The names in a folder of the store, once what is on its way out is gone: a root that is removed
/// has a name that begins with "@" until it was taken apart, behind whoever removed it, and what is
/// in the trash is to go altogether. None when there is no folder.
inline std::vector<std::string> settled_names(const std::string& folder) {
  const Deadline deadline = Deadline::after_ms(20'000);
  while (true) {
    auto names = sys::list_dir(folder);
    if (!names.ok()) return {};
    const bool is_trash = folder.ends_with("/trash");
    const bool settled = std::none_of(names->begin(), names->end(), [&](const auto& name) {
      return is_trash || name.starts_with('@');
    });
    if (settled || deadline.passed()) return *names;
    usleep(5'000);
  }
}

}  // namespace fluyt::image::testing
