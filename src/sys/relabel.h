#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "sys/mount_table.h"

namespace fluyt::sys {

/// Places of the host whose label is nobody's to change: "/", "/etc", "/home" and so on. What is
/// below them may be relabelled.
const std::vector<std::string>& never_relabelled();

/// Which files such places are, by whatever name they are reached. A place that is a mount of its
/// own is looked at only when the file system that is mounted there is met elsewhere: a server that
/// is gone holds up nobody who has nothing to do with it.
class KeptPlaces {
 public:
  /// Links are followed. A place that is not there is none; one that cannot be looked at is an
  /// error.
  static Result<KeptPlaces> find(const std::vector<std::string>& places = never_relabelled());

  /// Before a file of the mount with the id `mount` is asked for.
  Result<> meet(uint64_t mount);
  bool has(dev_t device, ino_t inode) const { return kept_.contains({device, inode}); }

 private:
  struct Later {
    std::string path;
    std::string device;  // MountedAt::device
  };
  MountTable mounts_;
  std::vector<Later> later_;
  std::set<uint64_t> met_;
  std::set<std::pair<dev_t, ino_t>> kept_;
};

/// Gives `path`, a file or a directory with all that is below it, the SELinux label `label`. Links
/// on the way to `path` are followed; those below it are relabelled themselves and never followed.
/// What is mounted below is relabelled as well. A file system that has no labels, or one for all of
/// its files, is left as it is, and not walked through. What has the label already is not written
/// to. kInvalidArgument: `path`, or something mounted below it, is one of `kept`; null: there are
/// none. kNotFound: there is no `path`. kDeadlineExceeded names where it stood: what has a label by
/// then keeps it. What goes away meanwhile is passed over.
Result<> relabel(const std::string& path, const std::string& label, KeptPlaces* kept,
                 Deadline deadline);

}  // namespace fluyt::sys
