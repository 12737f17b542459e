#pragma once

namespace fluyt::sys {

/// Puts the calling thread, and what it starts, behind others that want the processor (nice 10,
/// setpriority(2)): for work of seconds beside calls of milliseconds. With nobody else it is as
/// fast. The thread shall end with that work: it cannot be taken back without CAP_SYS_NICE.
void step_back();

}  // namespace fluyt::sys
