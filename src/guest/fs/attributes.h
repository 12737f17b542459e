#pragma once

#include <sys/stat.h>

#include "guest/platform/host/io.h"
#include "guest/vfs/inode.h"

namespace fluyt::guest {

/// CLOCK_REALTIME.
inline Timestamp now() {
  const int64_t ns = host::clock_ns(0);
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

/// What chmod(2), chown(2) and utimensat(2) do to a file whose attributes are the guest kernel's
/// own. Its type stays, and it has changed now.
inline void apply(const SetAttributes& change, Stat& stat) {
  if (change.mode) stat.mode = (stat.mode & S_IFMT) | (*change.mode & 07777);
  if (change.uid) stat.uid = *change.uid;
  if (change.gid) stat.gid = *change.gid;
  if (change.accessed) stat.accessed = *change.accessed;
  if (change.modified) stat.modified = *change.modified;
  stat.changed = now();
}

}  // namespace fluyt::guest
