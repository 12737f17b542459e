#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

/// What a call on a descriptor says while no descriptor is a socket.
ErrnoOr<uint64_t> not_a_socket(Task& task, uint64_t fd) {
  GUEST_TRY(task.files->get(as_int(fd)));
  return Errno(ENOTSOCK);
}

}  // namespace

ErrnoOr<uint64_t> sys_socket(Task&, Arguments) { return Errno(EAFNOSUPPORT); }
ErrnoOr<uint64_t> sys_socketpair(Task&, Arguments) { return Errno(EAFNOSUPPORT); }
ErrnoOr<uint64_t> sys_connect(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_accept(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_accept4(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_sendto(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_recvfrom(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_sendmsg(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_recvmsg(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_shutdown(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_bind(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_listen(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_getsockname(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_getpeername(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_setsockopt(Task& task, Arguments a) { return not_a_socket(task, a[0]); }
ErrnoOr<uint64_t> sys_getsockopt(Task& task, Arguments a) { return not_a_socket(task, a[0]); }

}  // namespace fluyt::guest
