#pragma once

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::runtime {

/// "tmpcopyup": copies what is in directory `from` into directory `to`, with modes and owners:
/// files, directories, links, FIFOs and devices. No link is followed and no mount crossed.
Result<> copy_tree(sys::FdRef from, sys::FdRef to);

}  // namespace fluyt::runtime
