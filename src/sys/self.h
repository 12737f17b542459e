#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// Against a container that writes through /proc/PID/exe of what enters it (CVE-2019-5736).
namespace fluyt::sys {

/// Whether the file that we run from cannot be opened for writing through /proc: it lies in a
/// read-only mount, or is sealed memory.
Result<bool> runs_protected();

/// Makes what runs_protected() asks true without executing anything: maps our program's pages from
/// a detached read-only mount of its file, and names a sealed file in memory as what we run from
/// (PR_SET_MM_MAP, prctl(2): CAP_CHECKPOINT_RESTORE in our user namespace,
/// CONFIG_CHECKPOINT_RESTORE). Its children inherit it. On error nothing has changed that a program
/// could notice. For programs of one thread. The answer is that mount, of which nothing more is
/// needed: but the last close of it waits for an RCU grace period, which is best done while a
/// container is at work.
Result<Fd> protect_in_place();

/// Executes our own program again from a detached read-only mount of it (its pages stay shared), or
/// from a sealed copy in memory where mounts are refused. Returns only on error.
Error execute_protected(const std::vector<std::string>& args, char* const* env);

}  // namespace fluyt::sys
