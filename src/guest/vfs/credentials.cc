#include "guest/vfs/credentials.h"

#include <sys/stat.h>

namespace fluyt::guest {

Credentials over_exec(Credentials who, const ExecFile& file, bool& secure) {
  secure = false;
  if (file.changes_ids) {
    if ((file.mode & S_ISUID) != 0 && file.uid != who.euid) {
      who.euid = file.uid;
      secure = true;
    }
    if ((file.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && file.gid != who.egid) {
      who.egid = file.gid;
      secure = true;
    }
  }
  // Without SECBIT_NOROOT root's programs count as if they had every capability.
  const bool root_counts = (who.secure_bits & kSecureNoRoot) == 0;
  const bool as_root = root_counts && (who.euid == 0 || who.uid == 0);
  who.suid = who.fsuid = who.euid;
  who.sgid = who.fsgid = who.egid;
  if (secure) who.ambient = 0;
  who.permitted = who.ambient;
  if (as_root) who.permitted |= who.bounding | who.inheritable;
  who.effective = root_counts && who.euid == 0 ? who.permitted : who.ambient;
  who.secure_bits &= ~kSecureKeepCaps;
  return who;
}

}  // namespace fluyt::guest
