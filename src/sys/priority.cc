#include "sys/priority.h"

#include <sys/resource.h>
#include <unistd.h>

namespace fluyt::sys {

void step_back() {
  constexpr int kNice = 10;
  // On Linux it is a thread's, whatever POSIX says of processes.
  (void)::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
}

}  // namespace fluyt::sys
