#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

namespace fluyt::sys {

struct SocketPair {
  Fd first;
  Fd second;
};
/// socketpair(2) of AF_UNIX with SOCK_CLOEXEC; `type` is SOCK_STREAM or SOCK_SEQPACKET.
Result<SocketPair> make_socketpair(int type);

/// A listening unix socket at `path`, made with `mode` from birth: bound under a temporary name
/// with umask 0777 & ~mode, then renamed into place. A socket that somebody still answers on is
/// kAlreadyExists; a dead one is replaced.
Result<Fd> listen_unix(const std::string& path, int type, mode_t mode, int backlog = 128);
/// Longer paths than sun_path holds go through /proc/self/fd of their folder.
Result<Fd> connect_unix(const std::string& path, int type);
Result<Fd> accept_from(FdRef listener);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
Result<PeerCredentials> peer_of(FdRef socket);

/// Sends all of `data` on a stream or as one packet, `fds` with its first byte (SCM_RIGHTS). Never
/// raises SIGPIPE.
Result<> send_with_fds(FdRef socket, std::string_view data, const std::vector<FdRef>& fds);
struct Received {
  size_t size;          // 0 at end of stream
  std::vector<Fd> fds;  // close-on-exec
};
inline constexpr size_t kMaxPassedFds = 32;
/// One recvmsg(2). More than kMaxPassedFds descriptors is an error, none of them kept.
Result<Received> receive_with_fds(FdRef socket, char* buffer, size_t size);

}  // namespace fluyt::sys
