#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "image/layer/disk_room.h"
#include "image/layer/info.h"
#include "image/layer/view.h"
#include "sys/fd.h"

namespace fluyt::image {

/// Builds in the empty directory `into` what a chain adds above the layer `info`, whose tree is
/// `own`:
///
/// * each implied directory whose owner, mode or attributes differ from those of the same path in
/// the
///   layers below (`below`, topmost first), with theirs; and the directories leading to it, as they
///   are;
/// * each hard link into the layers below, as a hard link to the very file where that can be had,
/// else
///   as a copy.
///
/// False when nothing was needed: `into` is then to be left out of the stack. kResourceExhausted:
/// more look-ups or more room for copies than allowed.
Result<bool> build_fixup(const LayerInfo& info, sys::FdRef own,
                         const std::vector<std::string>& below, sys::FdRef into, LookUps& look_ups,
                         DiskRoom& room);

}  // namespace fluyt::image
