#pragma once

#include <functional>

#include "base/trace.h"

namespace fluyt::trace {

/// Has each walk that ends on this thread told to `heard` too, whether or not it is known whose it
/// was, until another call. An empty one ends it.
void listen_on_this_thread(std::function<void(const Walk&)> heard);

}  // namespace fluyt::trace
