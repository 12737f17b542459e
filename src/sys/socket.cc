#include "sys/socket.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/id.h"
#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

struct Address {
  sockaddr_un value{};
  socklen_t size = 0;
};

Result<Address> address_of(const std::string& path) {
  Address address;
  address.value.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.value.sun_path)) {
    return Error::from_errno(ENAMETOOLONG, cat("unix socket ", quote(path, 1024)));
  }
  memcpy(address.value.sun_path, path.c_str(), path.size() + 1);
  address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return address;
}

// The folder's descriptor and a path of at most 40 bytes through it.
struct ShortPath {
  Fd folder;
  std::string path;
};
Result<ShortPath> shorten(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  ShortPath out;
  out.folder = FLUYT_TRY(open(folder, O_PATH | O_DIRECTORY));
  out.path = cat("/proc/self/fd/", out.folder.raw(), "/",
                 slash == std::string::npos ? path : path.substr(slash + 1));
  return out;
}

}  // namespace

Result<SocketPair> make_socketpair(int type) {
  int fds[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) {
    return Error::from_errno(errno, "socketpair()");
  }
  return SocketPair{Fd(fds[0]), Fd(fds[1])};
}

Result<Fd> listen_unix(const std::string& path, int type, mode_t mode, int backlog) {
  auto live = connect_unix(path, type);
  if (live.ok()) {
    return Error(Code::kAlreadyExists,
                 cat("socket ", path, ": another process is listening on it"));
  }
  const int why = live.error().errno_value();
  if (why != ENOENT && why != ECONNREFUSED) return std::move(live).error();

  Fd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "socket(AF_UNIX)");
  // A bound socket gets the mode of the socket's inode less the umask, which is the whole process's
  // and not ours to change: so it is born with no more than asked, and widened before it has its
  // name.
  if (fchmod(fd.raw(), mode) != 0) return Error::from_errno(errno, "fchmod(socket)");
  const ShortPath place = FLUYT_TRY(shorten(path));
  const std::string temporary =
      cat(place.path.substr(0, place.path.rfind('/') + 1), ".", make_id().substr(0, 12));
  const Address address = FLUYT_TRY(address_of(temporary));
  if (bind(fd.raw(), reinterpret_cast<const sockaddr*>(&address.value), address.size) != 0) {
    return Error::from_errno(errno, cat("bind(", quote(path, 1024), ")"));
  }
  if (chmod(temporary.c_str(), mode) != 0 || listen(fd.raw(), backlog) != 0 ||
      rename(temporary.c_str(), place.path.c_str()) != 0) {
    Error error = Error::from_errno(errno, cat("listen(", quote(path, 1024), ")"));
    unlink(temporary.c_str());
    return error;
  }
  return fd;
}

Result<Fd> connect_unix(const std::string& path, int type) {
  Fd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error::from_errno(errno, "socket(AF_UNIX)");
  const ShortPath place = FLUYT_TRY(shorten(path));
  const Address address = FLUYT_TRY(address_of(place.path));
  int result = 0;
  do {
    result = connect(fd.raw(), reinterpret_cast<const sockaddr*>(&address.value), address.size);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Error::from_errno(errno, cat("connect(", quote(path, 1024), ")"));
  return fd;
}

Result<Fd> accept_from(FdRef listener) {
  int fd = -1;
  do {
    fd = accept4(listener.raw(), nullptr, nullptr, SOCK_CLOEXEC);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) return Error::from_errno(errno, "accept4()");
  return Fd(fd);
}

Result<PeerCredentials> peer_of(FdRef socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket.raw(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return Error::from_errno(errno, "getsockopt(SO_PEERCRED)");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<> send_with_fds(FdRef socket, std::string_view data, const std::vector<FdRef>& fds) {
  if (fds.size() > kMaxPassedFds) {
    return Error(Code::kInvalidArgument,
                 cat("send: ", fds.size(), " descriptors, at most ", kMaxPassedFds));
  }
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPassedFds)] = {};
  bool first = true;
  do {
    iovec piece{const_cast<char*>(data.data()), data.size()};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (first && !fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      for (size_t i = 0; i < fds.size(); ++i) {
        const int raw = fds[i].raw();
        memcpy(CMSG_DATA(header) + i * sizeof(int), &raw, sizeof raw);
      }
    }
    const ssize_t sent = sendmsg(socket.raw(), &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0)
      return Error::from_errno(errno,
                               cat("sendmsg([", socket.raw(), "], ", data.size(), " bytes)"));
    data.remove_prefix(static_cast<size_t>(sent));
    first = false;
  } while (!data.empty());
  return {};
}

Result<Received> receive_with_fds(FdRef socket, char* buffer, size_t size) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxPassedFds)];
  iovec piece{buffer, size};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do {
    got = recvmsg(socket.raw(), &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::from_errno(errno, cat("recvmsg([", socket.raw(), "])"));
  Received received{static_cast<size_t>(got), {}};
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int raw = -1;
      memcpy(&raw, CMSG_DATA(header) + i * sizeof(int), sizeof raw);
      received.fds.emplace_back(raw);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return Error(Code::kInvalidArgument, "recvmsg: more descriptors than are allowed");
  }
  return received;
}

}  // namespace fluyt::sys
