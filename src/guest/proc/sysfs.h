#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "guest/net/interfaces.h"
#include "guest/platform/host/memory.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// What a sysfs shows.
struct SysfsView {
  std::vector<Interface> interfaces;
  unsigned processors = 1;  // numbered from 0
  /// The host's transparent huge pages, which the memory of guests has: the files' names to their
  /// texts. Empty: it has none, and neither have we.
  std::map<std::string, std::string> huge_pages;
  std::function<host::MemoryFigures()> memory;
};
/// Those of SysfsView::huge_pages that are looked for, in this folder of the host's sysfs.
std::vector<std::string> huge_page_settings();
inline constexpr const char* kHugePagesFolder = "kernel/mm/transparent_hugepage";

/// sysfs(5): network devices, processors, one node of memory, and the folders that programs expect
/// to be there though nothing is in them. Nothing can be written.
InodePtr make_sysfs(SysfsView view);

}  // namespace fluyt::guest
