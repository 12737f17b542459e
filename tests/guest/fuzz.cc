// A guest that asks for anything: random system calls with arguments of the right kind, from
// several processes and threads at once. usage: guest_fuzz SEED SECONDS [WORKERS]
//
// What a worker asks for follows from SEED, its number and how many went before it; what the others
// do meanwhile does not. The first process only makes and ends workers. Run as the first process of
// a sandbox, or natively in a container of its own that may be lost.
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

// --- Chance
// ------------------------------------------------------------------------------------------------------------------

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 0x632be59bd9b4e019U) {}
  uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
  bool one_in(uint64_t count) { return below(count) == 0; }
  template <class T>
  T of(std::initializer_list<T> all) {
    return all.begin()[below(all.size())];
  }

 private:
  uint64_t state_;
};

// --- The calls that the guest kernel has
// ---------------------------------------------------------------------------------------

struct Call {
  int number;
  const char* name;
  const char* kinds;  // of arguments: f descriptor, p pointer, s path, d number, x flags
};
constexpr Call kCalls[] = {
#define CALL(number, name, support, kinds, missing) {number, #name, kinds},
#include "guest/sys/calls.inc"
#undef CALL
};
constexpr size_t kCallCount = sizeof kCalls / sizeof kCalls[0];

/// Numbers that mean something at a place of a call; where nothing is said, any number does.
struct Choice {
  int number;
  int argument;
  std::initializer_list<uint64_t> values;
};
constexpr uint64_t kSmall[] = {0,    1,    2,    3,    4,    5,     6,    7,   8,
                               16,   32,   64,   100,  128,  255,   256,  512, 1000,
                               1024, 4095, 4096, 4097, 8192, 65535, 65536};
const Choice kChoices[] = {
    {SYS_open,
     1,
     {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC,
      O_CREAT | O_EXCL | O_WRONLY, O_RDWR | O_APPEND, O_DIRECTORY, O_PATH, O_NOFOLLOW, O_NONBLOCK,
      O_RDWR | O_NONBLOCK, O_PATH | O_NOFOLLOW, O_TMPFILE | O_RDWR}},
    {SYS_openat,
     2,
     {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC,
      O_CREAT | O_EXCL | O_WRONLY, O_RDWR | O_APPEND | O_CREAT, O_DIRECTORY, O_PATH, O_NOFOLLOW,
      O_NONBLOCK, O_RDWR | O_NONBLOCK, O_PATH | O_NOFOLLOW, O_TMPFILE | O_RDWR}},
    {SYS_fcntl, 1, {F_DUPFD,     F_GETFD,     F_SETFD,         F_GETFL,      F_SETFL,
                    F_GETLK,     F_SETLK,     F_SETLKW,        F_SETOWN,     F_GETOWN,
                    F_SETSIG,    F_GETSIG,    F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ,
                    F_ADD_SEALS, F_GET_SEALS, F_OFD_SETLK,     F_OFD_GETLK,  F_OFD_SETLKW,
                    F_NOTIFY,    F_SETLEASE,  F_GETLEASE}},
    {SYS_ioctl, 1, {TCGETS,        TCSETS,          TCSETSW,      TCSETSF,       TIOCGWINSZ,
                    TIOCSWINSZ,    TIOCGPGRP,       TIOCSPGRP,    TIOCSCTTY,     TIOCNOTTY,
                    TIOCGSID,      FIONREAD,        FIONBIO,      FIOASYNC,      TIOCGPTN,
                    TIOCSPTLCK,    TIOCGPTPEER,     TIOCSTI,      TCFLSH,        TCXONC,
                    TCSBRK,        SIOCGIFCONF,     SIOCGIFFLAGS, SIOCGIFADDR,   SIOCGIFINDEX,
                    SIOCGIFNAME,   SIOCGIFHWADDR,   SIOCGIFMTU,   FIOCLEX,       FIONCLEX,
                    TIOCOUTQ,      TIOCEXCL,        TIOCPKT,      NS_GET_USERNS, NS_GET_PARENT,
                    NS_GET_NSTYPE, NS_GET_OWNER_UID}},
    {SYS_lseek, 2, {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 9}},
    {SYS_socket, 0, {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK, AF_ALG}},
    {SYS_socket,
     1,
     {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW, SOCK_STREAM | SOCK_NONBLOCK,
      SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC}},
    {SYS_socket, 2, {0, 0, 0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, 136}},
    {SYS_socketpair, 0, {AF_UNIX, AF_UNIX, AF_UNIX, AF_INET}},
    {SYS_socketpair,
     1,
     {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM | SOCK_NONBLOCK,
      SOCK_DGRAM | SOCK_NONBLOCK}},
    {SYS_socketpair, 2, {0, 0, 0, 1}},
    {SYS_setsockopt,
     1,
     {SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, 270}},
    {SYS_getsockopt,
     1,
     {SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, 270}},
    {SYS_shutdown, 1, {0, 1, 2, 3}},
    {SYS_mmap, 2, {0, 1, 2, 3, 4, 5, 7}},
    {SYS_mmap,
     3,
     {MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED,
      MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, MAP_SHARED | MAP_FIXED, MAP_PRIVATE | MAP_FIXED,
      MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, MAP_SHARED_VALIDATE}},
    {SYS_mprotect, 2, {0, 1, 2, 3, 4, 5, 7, PROT_GROWSDOWN | 3}},
    {SYS_mremap,
     3,
     {0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 8}},
    {SYS_madvise, 2, {0, 1, 2, 3, 4, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}},
    {SYS_msync, 2, {1, 2, 4, 6}},
    {SYS_futex, 1, {0,  1,  2,   3,   4,   5,   6,   7,   8,   9,       10,      11,
                    12, 13, 128, 129, 131, 132, 133, 137, 138, 128 + 6, 128 + 7, 256 + 137}},
    {SYS_prctl,
     0,
     {PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_KEEPCAPS,
      PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER,
      PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_TIMERSLACK, PR_SET_THP_DISABLE, PR_SET_MM,
      PR_SET_VMA, PR_SET_PTRACER, PR_SET_SECUREBITS, PR_GET_SECCOMP}},
    {SYS_unshare,
     0,
     {CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWNET,
      CLONE_FILES, CLONE_FS, CLONE_SYSVSEM, CLONE_NEWUSER | CLONE_NEWNS,
      CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS, CLONE_THREAD, CLONE_NEWCGROUP}},
    {SYS_setns,
     1,
     {0, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWNET}},
    {SYS_mount,
     3,
     {0, MS_BIND, MS_BIND | MS_REC, MS_REMOUNT, MS_REMOUNT | MS_RDONLY, MS_RDONLY, MS_MOVE,
      MS_PRIVATE, MS_SHARED | MS_REC, MS_NOSUID, MS_REMOUNT | MS_BIND | MS_NODEV}},
    {SYS_umount2, 1, {0, MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW, MNT_EXPIRE}},
    {SYS_epoll_ctl, 1, {EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL, 9}},
    {SYS_epoll_wait, 3, {0, 0, 1, 3}},
    {SYS_epoll_pwait, 3, {0, 0, 1, 3}},
    {SYS_poll, 2, {0, 0, 1, 3}},
    {SYS_shmget, 0, {0, 1, 2, 3}},
    {SYS_shmget, 2, {0600 | 01000, 0600, 03000, 0}},
    {SYS_shmctl, 1, {0, 1, 2, 3, 11, 12, 13, 14, 15}},
    {SYS_semget, 0, {0, 1, 2, 3}},
    {SYS_semget, 1, {0, 1, 2, 5, 250, 32000, 32001}},
    {SYS_semget, 2, {0600 | 01000, 0600, 03000, 0}},
    {SYS_semctl, 2, {0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}},
    {SYS_msgget, 0, {0, 1, 2, 3}},
    {SYS_msgget, 1, {0600 | 01000, 0600, 03000}},
    {SYS_msgctl, 1, {0, 1, 2, 3, 11, 12, 13}},
    {SYS_msgsnd, 3, {04000, 04000, 04000, 0}},
    {SYS_msgrcv, 4, {04000, 04000, 014000, 020000 | 04000, 040000 | 04000, 0}},
    {SYS_timer_create, 0, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12}},
    {SYS_timerfd_create, 0, {0, 1, 7, 8, 9}},
    {SYS_timerfd_create, 1, {TFD_NONBLOCK, 0, O_CLOEXEC}},
    {SYS_clock_nanosleep, 0, {0, 1, 2, 3, 4, 7}},
    {SYS_seccomp, 0, {0, 1, 2, 3, 9}},
    {SYS_waitid, 0, {0, 1, 2, 3}},
    {SYS_waitid,
     3,
     {WEXITED | WNOHANG, WEXITED | WSTOPPED | WNOHANG, WEXITED | WCONTINUED | WNOHANG | WNOWAIT,
      WEXITED}},
    {SYS_wait4, 2, {WNOHANG, WNOHANG | WUNTRACED, WNOHANG | WCONTINUED, 0x40000000 | WNOHANG, 0}},
    {SYS_flock, 1, {1 | 4, 2 | 4, 8, 2}},
    {SYS_memfd_create, 1, {0, 1, 2, 3, 4, 8, 0x10}},
    {SYS_inotify_add_watch,
     2,
     {IN_ALL_EVENTS, IN_CREATE | IN_DELETE, IN_MODIFY | IN_ONESHOT, IN_ONLYDIR | IN_MOVE,
      IN_MASK_ADD | IN_ACCESS}},
    {SYS_eventfd2, 1, {EFD_NONBLOCK, EFD_NONBLOCK | EFD_SEMAPHORE, 0, EFD_CLOEXEC}},
    {SYS_pipe2, 1, {O_NONBLOCK, O_NONBLOCK, O_CLOEXEC, 0, O_DIRECT}},
    {SYS_signalfd4, 3, {O_NONBLOCK, O_CLOEXEC, 0}},
    {SYS_renameat2, 4, {0, 1, 2, 4, 3}},
    {SYS_personality, 0, {0, 0xffffffff, 0x0040000, 8}},
    {SYS_kill,
     1,
     {0, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGSTOP, SIGTERM, SIGALRM, SIGPIPE, 40, 64, 65,
      SIGKILL, SIGTSTP, SIGTTIN}},
    {SYS_tkill, 1, {0, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGSTOP, SIGALRM, 40, 64, 65}},
    {SYS_tgkill, 2, {0, SIGUSR1, SIGUSR2, SIGCHLD, SIGCONT, SIGSTOP, SIGALRM, 40, 64, 65}},
    {SYS_fallocate, 1, {0, 1, 2, 3, 8, 16, 32, 64}},
    {SYS_ptrace, 0, {0,  1,  2,  3,      4,      5,      7,      8,      12,     13,
                     16, 17, 24, 0x4200, 0x4201, 0x4202, 0x4204, 0x4206, 0x4207, 0x4208}},
};

/// Where more would only fill the machine's memory: a number at such a place is at most this.
constexpr uint64_t kMostBytes = 1 << 20;
struct Bounded {
  int number;
  int argument;
};
constexpr Bounded kBounded[] = {
    {SYS_fallocate, 2}, {SYS_fallocate, 3}, {SYS_sendfile, 3}, {SYS_copy_file_range, 4},
    {SYS_splice, 4},    {SYS_tee, 2},       {SYS_mmap, 1},     {SYS_mremap, 1},
    {SYS_mremap, 2},    {SYS_shmget, 1},    {SYS_fcntl, 2}};

/// What a pointer leads to.
enum class Shape : uint8_t {
  kWords,  // of any meaning
  kVectors,
  kMessage,
  kMessages,
  kAddress,
  kLength,
  kTime,
  kTimes,
  kSet,
  kAction,
  kEvents,
  kPolls,
  kClone,
  kSemaphores,
  kLock,
  kFilter,
  kText,
  kSigevent,
};
struct Shaped {
  int number;
  int argument;
  Shape shape;
};
constexpr Shaped kShaped[] = {
    {SYS_readv, 1, Shape::kVectors},
    {SYS_writev, 1, Shape::kVectors},
    {SYS_preadv, 1, Shape::kVectors},
    {SYS_pwritev, 1, Shape::kVectors},
    {SYS_preadv2, 1, Shape::kVectors},
    {SYS_pwritev2, 1, Shape::kVectors},
    {SYS_vmsplice, 1, Shape::kVectors},
    {SYS_process_vm_readv, 1, Shape::kVectors},
    {SYS_process_vm_readv, 3, Shape::kVectors},
    {SYS_process_vm_writev, 1, Shape::kVectors},
    {SYS_process_vm_writev, 3, Shape::kVectors},
    {SYS_sendmsg, 1, Shape::kMessage},
    {SYS_recvmsg, 1, Shape::kMessage},
    {SYS_sendmmsg, 1, Shape::kMessages},
    {SYS_recvmmsg, 1, Shape::kMessages},
    {SYS_bind, 1, Shape::kAddress},
    {SYS_connect, 1, Shape::kAddress},
    {SYS_sendto, 4, Shape::kAddress},
    {SYS_recvfrom, 5, Shape::kLength},
    {SYS_accept, 2, Shape::kLength},
    {SYS_accept4, 2, Shape::kLength},
    {SYS_getsockname, 2, Shape::kLength},
    {SYS_getpeername, 2, Shape::kLength},
    {SYS_getsockopt, 4, Shape::kLength},
    {SYS_nanosleep, 0, Shape::kTime},
    {SYS_clock_nanosleep, 2, Shape::kTime},
    {SYS_futex, 3, Shape::kTime},
    {SYS_ppoll, 2, Shape::kTime},
    {SYS_pselect6, 4, Shape::kTime},
    {SYS_select, 4, Shape::kTime},
    {SYS_rt_sigtimedwait, 2, Shape::kTime},
    {SYS_semtimedop, 3, Shape::kTime},
    {SYS_recvmmsg, 4, Shape::kTime},
    {SYS_epoll_pwait2, 3, Shape::kTime},
    {SYS_utimensat, 2, Shape::kTimes},
    {SYS_timer_settime, 2, Shape::kTimes},
    {SYS_timerfd_settime, 2, Shape::kTimes},
    {SYS_setitimer, 1, Shape::kTimes},
    {SYS_rt_sigprocmask, 1, Shape::kSet},
    {SYS_rt_sigsuspend, 0, Shape::kSet},
    {SYS_rt_sigtimedwait, 0, Shape::kSet},
    {SYS_signalfd, 1, Shape::kSet},
    {SYS_signalfd4, 1, Shape::kSet},
    {SYS_ppoll, 3, Shape::kSet},
    {SYS_epoll_pwait, 4, Shape::kSet},
    {SYS_rt_sigaction, 1, Shape::kAction},
    {SYS_epoll_ctl, 3, Shape::kEvents},
    {SYS_poll, 0, Shape::kPolls},
    {SYS_ppoll, 0, Shape::kPolls},
    {SYS_clone3, 0, Shape::kClone},
    {SYS_semop, 1, Shape::kSemaphores},
    {SYS_semtimedop, 1, Shape::kSemaphores},
    {SYS_fcntl, 2, Shape::kLock},
    {SYS_seccomp, 2, Shape::kFilter},
    {SYS_timer_create, 1, Shape::kSigevent},
    {SYS_memfd_create, 0, Shape::kText},
    {SYS_sethostname, 0, Shape::kText},
};

// --- One caller
// --------------------------------------------------------------------------------------------------------------

constexpr size_t kArena = 64 << 10;
constexpr uint64_t kArea = 0x100000000000;  // where mappings are made and unmade
constexpr uint64_t kAreaSize = 4 << 20;
constexpr int kNumbers = 600;

/// What all processes share. Workers may write anything to it: nothing of it is trusted.
struct Board {
  std::atomic<uint64_t> steps[64];
  std::atomic<uint64_t> called[kNumbers];
  std::atomic<uint64_t> done[kNumbers];  // that gave no error
};
Board* board;
char* shared_arena;

/// Without errno, so without thread-local memory that a call may have moved.
long raw(long number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0,
         uint64_t e = 0, uint64_t f = 0) {
  long result = 0;
  register uint64_t r10 __asm__("r10") = d;
  register uint64_t r8 __asm__("r8") = e;
  register uint64_t r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

uint64_t address_of(const void* at) { return reinterpret_cast<uint64_t>(at); }

thread_local sigjmp_buf on_fault_go;
thread_local bool faults_come_back = false;
void on_fault(int signal) {
  if (faults_come_back) siglongjmp(on_fault_go, 1);
  _exit(100 + signal);
}
void on_signal(int /*signal*/) {}

/// Puts the machine's own words in a frame where others were: what sigreturn makes of them.
Chance* frame_chance = nullptr;
void on_frame(int /*signal*/, siginfo_t* /*info*/, void* context) {
  auto* words = static_cast<uint64_t*>(context);
  constexpr size_t kWords = sizeof(ucontext_t) / sizeof(uint64_t);
  const uint64_t changes = 1 + frame_chance->below(4);
  for (uint64_t i = 0; i < changes; ++i) {
    const uint64_t value = frame_chance->of<uint64_t>(
        {0, 1, ~uint64_t{0}, 0x7fff00000000, 0xffff800000000000, 0x8000000000000000,
         uint64_t{1} << frame_chance->below(64), frame_chance->next(),
         address_of(words) + frame_chance->below(4096)});
    words[frame_chance->below(kWords)] = value;
  }
}

class Caller {
 public:
  Caller(uint64_t seed, size_t slot, int depth) : chance_(seed), slot_(slot), depth_(depth) {
    void* made =
        mmap(nullptr, kArena + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) _exit(90);
    arena_ = static_cast<char*>(made);
    munmap(arena_ + kArena, 4096);  // to read or write beyond it is a fault
  }

  void run(uint64_t steps) {
    faults_come_back = true;
    for (steps_left_ = steps; steps_left_ != 0; --steps_left_) {
      if (sigsetjmp(on_fault_go, 1) == 0) step();
      board->steps[slot_].fetch_add(1, std::memory_order_relaxed);
    }
    faults_come_back = false;
  }

 private:
  void step() {
    switch (chance_.below(100)) {
      case 0:
      case 1:
      case 2:
        return in_child(
            [this] { Caller(chance_.next(), slot_, depth_ + 1).run(1 + chance_.below(60)); });
      case 3:
      case 4:
        return clone_something();
      case 5:
        return execute();
      case 6:
        if (chance_.one_in(2)) return own_users();
        return in_child([this] { return_wrongly(); });
      case 7:
        return in_child([this] { jump_into_the_stub(); });
      case 8:
      case 9:
      case 10:
      case 11:
      case 12:
      case 13:
      case 14:
      case 15:
      case 16:
      case 17:
        return change_mappings();
      case 18:
      case 19:
      case 20:
      case 21:
      case 22:
        return pass_descriptors();
      case 23:
      case 24:
      case 25:
        return meet_on_loopback();
      case 26:
        return tidy_up();
      case 27:
        return chance_.one_in(20) ? in_child([this] { go_deep(); }) : make_call();
      case 28:
      case 29:
        return use_program_file();
      default:
        return make_call();
    }
  }

  // Arguments.

  uint64_t descriptor() {
    switch (chance_.below(16)) {
      case 0:
        return chance_.of<uint64_t>(
            {~uint64_t{0}, static_cast<uint64_t>(AT_FDCWD), 1000, 0x7fffffff, 0x100000003});
      case 1:
        return static_cast<uint64_t>(AT_FDCWD);
      default:
        return chance_.below(40);
    }
  }
  uint64_t number() {
    switch (chance_.below(8)) {
      case 0:
        return chance_.next();
      case 1:
        return ~uint64_t{0} - chance_.below(16);
      case 2:
        return uint64_t{1} << chance_.below(64);
      case 3:
        return process();
      case 4:
        return descriptor();
      default:
        return kSmall[chance_.below(sizeof kSmall / sizeof kSmall[0])];
    }
  }
  uint64_t flags() {
    switch (chance_.below(8)) {
      case 0:
        return chance_.next();
      case 1:
        return (uint64_t{1} << chance_.below(32)) | (uint64_t{1} << chance_.below(32));
      case 2:
      case 3:
        return uint64_t{1} << chance_.below(32);
      case 4:
        return chance_.below(16);
      case 5:
        return chance_.of<uint64_t>({0600, 0644, 0755, 01777, 0, 04755, 02755});
      default:
        return 0;
    }
  }
  uint64_t process() {
    switch (chance_.below(6)) {
      case 0:
        return static_cast<uint64_t>(raw(SYS_getpid));
      case 1:
        return 0;
      case 2:
        return static_cast<uint64_t>(-static_cast<int64_t>(chance_.below(64)));
      default:
        return 1 + chance_.below(4000);
    }
  }
  char* place() {
    char* const base = chance_.one_in(3) ? shared_arena : arena_;
    return base + 8 * chance_.below(kArena / 8 - 512);
  }
  uint64_t odd_pointer() {
    static const char kReadOnly[64] = "what cannot be written";
    switch (chance_.below(8)) {
      case 0:
        return 0;
      case 1:
        return address_of(arena_) + kArena - chance_.below(64);
      case 2:
        return kArea + chance_.below(kAreaSize);
      case 3:
        return address_of(kReadOnly) + chance_.below(64);
      case 4:
        return 0x7fff00000000 + chance_.below(0x20000);
      case 5:
        return chance_.of<uint64_t>({~uint64_t{0}, 0xffffffff80000000, 0x800000000000,
                                     0x7ffffffff000, 1, 0x8000000000000000});
      case 6:
        return chance_.next();
      default:
        return address_of(&kReadOnly) & ~uint64_t{4095};
    }
  }
  const char* path() {
    static constexpr const char* kPaths[] = {"",
                                             ".",
                                             "..",
                                             "/",
                                             "/tmp",
                                             "/dev/null",
                                             "/dev/zero",
                                             "/dev/full",
                                             "/dev/tty",
                                             "/dev/ptmx",
                                             "/dev/pts/0",
                                             "/dev/shm",
                                             "/dev/random",
                                             "/proc",
                                             "/proc/self",
                                             "/proc/self/fd",
                                             "/proc/self/maps",
                                             "/proc/self/mem",
                                             "/proc/self/exe",
                                             "/proc/self/root",
                                             "/proc/self/cwd",
                                             "/proc/self/status",
                                             "/proc/self/stat",
                                             "/proc/self/task",
                                             "/proc/self/environ",
                                             "/proc/self/cmdline",
                                             "/proc/self/mounts",
                                             "/proc/self/mountinfo",
                                             "/proc/self/limits",
                                             "/proc/self/fdinfo",
                                             "/proc/self/oom_score_adj",
                                             "/proc/self/comm",
                                             "/proc/self/uid_map",
                                             "/proc/self/gid_map",
                                             "/proc/self/setgroups",
                                             "/proc/self/ns/pid",
                                             "/proc/self/ns/mnt",
                                             "/proc/self/ns/uts",
                                             "/proc/self/ns/ipc",
                                             "/proc/self/ns/user",
                                             "/proc/self/ns/net",
                                             "/proc/self/smaps",
                                             "/proc/self/io",
                                             "/proc/self/attr/current",
                                             "/proc/1/fd/1",
                                             "/proc/1/maps",
                                             "/proc/1/root",
                                             "/proc/meminfo",
                                             "/proc/stat",
                                             "/proc/cpuinfo",
                                             "/proc/loadavg",
                                             "/proc/net/tcp",
                                             "/proc/net/unix",
                                             "/proc/sys/kernel/hostname",
                                             "/proc/sys/kernel/pid_max",
                                             "/proc/sys/vm/overcommit_memory",
                                             "/proc/sysvipc/shm",
                                             "/proc/filesystems",
                                             "/proc/mounts",
                                             "/sys",
                                             "/sys/class/net/lo/mtu",
                                             "/sys/devices/system/cpu/online",
                                             "/sys/kernel/mm/transparent_hugepage/enabled",
                                             "/w",
                                             "/bin",
                                             "/bin/guest_fuzz",
                                             "/etc/passwd",
                                             "/no/such",
                                             "\x01\xff/\n"};
    char* at = place();
    switch (chance_.below(8)) {
      case 0:
      case 1:
        return kPaths[chance_.below(sizeof kPaths / sizeof kPaths[0])];
      case 2:
        std::snprintf(at, 64, "/proc/%d/%s", static_cast<int>(1 + chance_.below(600)),
                      chance_.of({"status", "stat", "maps", "fd", "fd/3", "ns/mnt", "root", "cwd",
                                  "exe", "task", "mem", "environ", "", "comm"}));
        return at;
      case 3: {
        size_t length = chance_.of<size_t>({1, 255, 256, 300, 4094, 4095});
        std::memset(at, chance_.one_in(2) ? 'n' : '/', std::min<size_t>(length, 4000));
        at[std::min<size_t>(length, 4000)] = 0;
        return at;
      }
      case 4:
        return reinterpret_cast<const char*>(chance_.one_in(4) ? odd_pointer() : address_of(at));
      default: {
        // A few names in a few folders: what one makes another removes.
        char* out = at;
        out = stpcpy(
            out, chance_.of({"", "", "/tmp/", "/tmp/", "/w/", "/w/", "/dev/shm/", "../", "./"}));
        for (uint64_t more = chance_.below(3);; --more) {
          *out++ = static_cast<char>('a' + chance_.below(6));
          *out = 0;
          if (more == 0) break;
          *out++ = '/';
        }
        return at;
      }
    }
  }

  uint64_t word() {
    switch (chance_.below(10)) {
      case 0:
        return chance_.next();
      case 1:
        return address_of(place());
      case 2:
        return odd_pointer();
      case 3:
        return chance_.below(40) | chance_.below(40) << 32;
      case 4:
        return ~uint64_t{0};
      case 5:
        return uint64_t{1} << chance_.below(64);
      default:
        return kSmall[chance_.below(sizeof kSmall / sizeof kSmall[0])];
    }
  }
  void put(char*& at, uint64_t value) {
    std::memcpy(at, &value, sizeof value);
    at += sizeof value;
  }
  void put_vectors(char* at, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      put(at, chance_.one_in(6) ? odd_pointer() : address_of(place()));
      put(at, chance_.one_in(10) ? number() : chance_.below(2000));
    }
  }
  socklen_t put_address(char* at) {
    switch (chance_.below(5)) {
      case 0: {
        sockaddr_in value{};
        value.sin_family = AF_INET;
        value.sin_port = htons(static_cast<uint16_t>(chance_.of({0, 7000, 7001, 7002, 53})));
        value.sin_addr.s_addr = htonl(static_cast<uint32_t>(
            chance_.of<uint64_t>({0x7f000001, 0, 0x7f000002, 0xe0000001, 0xffffffff, 0x0a000001})));
        std::memcpy(at, &value, sizeof value);
        return sizeof value;
      }
      case 1: {
        sockaddr_in6 value{};
        value.sin6_family = AF_INET6;
        value.sin6_port = htons(static_cast<uint16_t>(chance_.of({0, 7000, 7001, 7002})));
        value.sin6_addr = chance_.one_in(3) ? in6addr_any : in6addr_loopback;
        value.sin6_scope_id = static_cast<uint32_t>(chance_.below(3));
        std::memcpy(at, &value, sizeof value);
        return sizeof value;
      }
      case 2: {
        std::memset(at, 0, 12);
        at[0] = AF_NETLINK;
        return 12;
      }
      default: {
        sockaddr_un value{};
        value.sun_family = AF_UNIX;
        const bool abstract = chance_.one_in(2);
        std::snprintf(value.sun_path + (abstract ? 1 : 0), 20, abstract ? "%c" : "/tmp/%c",
                      static_cast<int>('a' + chance_.below(4)));
        std::memcpy(at, &value, sizeof value);
        return static_cast<socklen_t>(
            chance_.of<size_t>({sizeof value, 2, 3, offsetof(sockaddr_un, sun_path) + 7, 4}));
      }
    }
  }
  void put_message(char* at) {
    char* const name = place();
    char* const vectors = place();
    char* const control = place();
    const socklen_t length = put_address(name);
    const uint64_t count = chance_.below(5);
    put_vectors(vectors, count);
    msghdr message{};
    if (chance_.one_in(2)) {
      message.msg_name = name;
      message.msg_namelen = length;
    }
    message.msg_iov = reinterpret_cast<iovec*>(vectors);
    message.msg_iovlen = chance_.one_in(12) ? number() : count;
    if (chance_.one_in(2)) {
      message.msg_control = control;
      message.msg_controllen = chance_.one_in(8) ? number() : put_control(control);
    }
    message.msg_flags = static_cast<int>(flags());
    std::memcpy(at, &message, sizeof message);
  }
  size_t put_control(char* at) {
    size_t used = 0;
    for (uint64_t more = 1 + chance_.below(3); more != 0; --more) {
      cmsghdr header{};
      const size_t count = chance_.below(6);
      header.cmsg_len = chance_.one_in(10) ? chance_.below(100) : CMSG_LEN(count * 4);
      header.cmsg_level = chance_.of<int>({SOL_SOCKET, SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, 99});
      header.cmsg_type =
          chance_.of<int>({SCM_RIGHTS, SCM_RIGHTS, SCM_CREDENTIALS, 1, 2, 8, 50, 52, 67});
      std::memcpy(at + used, &header, sizeof header);
      for (size_t i = 0; i < count; ++i) {
        const int value = static_cast<int>(chance_.below(40));
        std::memcpy(at + used + sizeof header + 4 * i, &value, sizeof value);
      }
      used += CMSG_SPACE(count * 4);
    }
    return used;
  }
  void put_time(char*& at) {
    put(at, chance_.one_in(10) ? number() : 0);
    put(at, chance_.one_in(10) ? number() : chance_.below(2000000));
  }
  void put_shape(char* at, Shape shape) {
    switch (shape) {
      case Shape::kVectors:
        return put_vectors(at, 1 + chance_.below(8));
      case Shape::kMessage:
        return put_message(at);
      case Shape::kMessages:
        for (int i = 0; i < 4; ++i) put_message(at + 64 * i);
        return;
      case Shape::kAddress:
        (void)put_address(at);
        return;
      case Shape::kLength:
        return put(at, chance_.of<uint64_t>({0, 4, 16, 28, 110, 128, 0xffffffff, 0x7fffffff}));
      case Shape::kTime:
        return put_time(at);
      case Shape::kTimes:
        put_time(at);
        return put_time(at);
      case Shape::kSet:
        return put(at, chance_.of<uint64_t>(
                           {0, ~uint64_t{0}, uint64_t{1} << chance_.below(64), chance_.next()}));
      case Shape::kAction:
        put(at, chance_.of<uint64_t>(
                    {0, 1, address_of(reinterpret_cast<void*>(on_signal)), odd_pointer()}));
        put(at, chance_.of<uint64_t>({SA_RESTORER_, SA_RESTORER_ | SA_RESTART,
                                      SA_RESTORER_ | SA_ONSTACK, SA_RESTORER_ | SA_NODEFER,
                                      SA_RESTORER_ | SA_RESETHAND, 0, SA_NOCLDWAIT | SA_RESTORER_,
                                      chance_.next()}));
        put(at, address_of(reinterpret_cast<void*>(restore)));
        return put(at, chance_.one_in(2) ? 0 : chance_.next());
      case Shape::kEvents:
        for (int i = 0; i < 4; ++i) {
          const epoll_event event{static_cast<uint32_t>(chance_.of<uint64_t>(
                                      {EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLET, EPOLLIN | EPOLLONESHOT,
                                       EPOLLIN | EPOLLEXCLUSIVE, chance_.next()})),
                                  {.u64 = chance_.next()}};
          std::memcpy(at, &event, sizeof event);
          at += sizeof event;
        }
        return;
      case Shape::kPolls:
        for (int i = 0; i < 8; ++i) {
          const pollfd entry{static_cast<int>(chance_.below(40)),
                             static_cast<short>(chance_.next()), 0};
          std::memcpy(at, &entry, sizeof entry);
          at += sizeof entry;
        }
        return;
      case Shape::kSemaphores:
        for (int i = 0; i < 6; ++i) {
          const int16_t entry[3] = {
              static_cast<int16_t>(chance_.below(6)), static_cast<int16_t>(chance_.below(7) - 3),
              static_cast<int16_t>(chance_.of({04000, 014000, 04000, 010000, 0}))};
          std::memcpy(at, entry, sizeof entry);
          at += sizeof entry;
        }
        return;
      case Shape::kLock: {
        struct flock lock{};
        lock.l_type = static_cast<short>(chance_.of({F_RDLCK, F_WRLCK, F_UNLCK, 7}));
        lock.l_whence = static_cast<short>(chance_.of({SEEK_SET, SEEK_CUR, SEEK_END}));
        lock.l_start = static_cast<int64_t>(chance_.below(100));
        lock.l_len = static_cast<int64_t>(chance_.below(100)) - 10;
        std::memcpy(at, &lock, sizeof lock);
        return;
      }
      case Shape::kFilter: {
        char* const code = place();
        const uint64_t count = 1 + chance_.below(20);
        for (uint64_t i = 0; i < count; ++i) {
          const uint64_t instruction =
              chance_.of<uint64_t>({0x20, 0x15, 0x06, 0x54, 0x00, 0x01, 0x02, 0x60, 0x05, 0x35,
                                    0x80, chance_.below(65536)}) |
              chance_.below(8) << 16 | chance_.below(8) << 24 |
              chance_.of<uint64_t>(
                  {0, 4, 8, 16, 0x7fff0000, 0x50001, 64, chance_.next() & 0xffffffff})
                  << 32;
          std::memcpy(code + 8 * i, &instruction, 8);
        }
        const uint64_t allow = 0x7fff000000000006;
        std::memcpy(code + 8 * (count - 1), &allow, 8);
        put(at, chance_.one_in(10) ? number() : count);
        return put(at, address_of(code));
      }
      case Shape::kSigevent:
        put(at, chance_.next());
        put(at, chance_.of<uint64_t>({SIGUSR1, SIGALRM, 40, 64, 65, 0}) |
                    chance_.of<uint64_t>({0, 1, 2, 4, 5}) << 32);
        return put(at, process());
      case Shape::kText:
        std::snprintf(at, 16, "%c%u", static_cast<int>('a' + chance_.below(6)),
                      static_cast<unsigned>(chance_.below(1000)));
        return;
      case Shape::kClone:
      case Shape::kWords:
        break;
    }
    for (uint64_t count = 1 + chance_.below(24); count != 0; --count) put(at, word());
  }

  uint64_t argument(const Call& call, int index) {
    for (const Choice& choice : kChoices) {
      if (choice.number != call.number || choice.argument != index || chance_.one_in(12)) continue;
      return choice.values.begin()[chance_.below(choice.values.size())];
    }
    uint64_t value = 0;
    switch (call.kinds[index]) {
      case 'f':
        return descriptor();
      case 's':
        return address_of(path());
      case 'x':
        value = flags();
        break;
      case 'p':
        return pointer(call, index);
      default:
        value = number();
        // fcntl's and ioctl's last one is a number or leads to one.
        if (call.number == SYS_fcntl && chance_.one_in(2)) return pointer(call, index);
    }
    for (const Bounded& bounded : kBounded)
      if (bounded.number == call.number && bounded.argument == index) value = value % kMostBytes;
    return value;
  }
  uint64_t pointer(const Call& call, int index) {
    if (chance_.one_in(8)) return odd_pointer();
    if (index == 0 &&
        (call.number == SYS_mmap || call.number == SYS_munmap || call.number == SYS_mprotect ||
         call.number == SYS_madvise || call.number == SYS_mremap || call.number == SYS_msync ||
         call.number == SYS_shmat || call.number == SYS_mincore))
      return kArea + 4096 * chance_.below(kAreaSize / 4096);
    char* const at = place();
    Shape shape = Shape::kWords;
    for (const Shaped& known : kShaped)
      if (known.number == call.number && known.argument == index) shape = known.shape;
    put_shape(at, shape);
    return address_of(at);
  }

  void make_call() {
    const Call& call = kCalls[chance_.below(kCallCount)];
    switch (call.number) {
      case SYS_fork:
      case SYS_vfork:
      case SYS_clone:
      case SYS_clone3:
      case SYS_execve:
      case SYS_execveat:
      case SYS_rt_sigreturn:
        return;  // done in ways of their own
      case SYS_exit:
      case SYS_exit_group:
      case SYS_pause:
        if (!chance_.one_in(50)) return;
        break;
      default:
        break;
    }
    uint64_t values[6] = {};
    for (int i = 0; i < 6; ++i)
      values[i] =
          i < static_cast<int>(std::strlen(call.kinds)) ? argument(call, i) : chance_.next();
    call_now(call.number, values);
  }
  void call_now(int number, const uint64_t (&values)[6]) {
    board->called[number].fetch_add(1, std::memory_order_relaxed);
    const long result =
        raw(number, values[0], values[1], values[2], values[3], values[4], values[5]);
    if (result >= 0 || result < -4095) board->done[number].fetch_add(1, std::memory_order_relaxed);
    if (result == -EMFILE) raw(SYS_close, 3 + chance_.below(60));
  }

  // What takes more than one call.

  template <class Body>
  void in_child(Body body) {
    if (depth_ >= 3) return;
    const long child = raw(SYS_fork);
    board->called[SYS_fork].fetch_add(1, std::memory_order_relaxed);
    if (child < 0) return;
    board->done[SYS_fork].fetch_add(1, std::memory_order_relaxed);
    if (child == 0) {
      faults_come_back = false;
      body();
      raw(SYS_exit_group, 0);
    }
    // Some are waited for, some later or never.
    if (chance_.one_in(2))
      raw(SYS_wait4, static_cast<uint64_t>(child), 0, chance_.one_in(2) ? WNOHANG : 0, 0);
  }

  static void life_of_clone(void* argument) {
    auto* words = static_cast<uint64_t*>(argument);
    Chance chance(words[0]);
    for (int i = 0; i < 20; ++i) {
      const Call& call = kCalls[chance.below(kCallCount)];
      if (std::strchr(call.kinds, 's') != nullptr || call.number == SYS_fork ||
          call.number == SYS_vfork || call.number == SYS_clone || call.number == SYS_clone3 ||
          call.number == SYS_rt_sigreturn || call.number == SYS_pause ||
          call.number == SYS_rt_sigsuspend)
        continue;
      raw(call.number, chance.below(40), address_of(words), chance.below(64), chance.below(64),
          address_of(words), 0);
    }
  }
  /// A user namespace with maps, as unshare(1) makes them.
  void own_users() {
    const auto write_to = [](const char* path, const char* text) {
      const long got = raw(SYS_open, address_of(path), O_WRONLY);
      if (got < 0) return;
      const auto fd = static_cast<uint64_t>(got);
      raw(SYS_write, fd, address_of(text), std::strlen(text));
      raw(SYS_close, fd);
    };
    const uint64_t others = chance_.of<uint64_t>(
        {0, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWCGROUP,
         CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP});
    raw(SYS_unshare, CLONE_NEWUSER | others);
    if (!chance_.one_in(4)) write_to("/proc/self/setgroups", "deny");
    write_to("/proc/self/uid_map", chance_.one_in(4) ? "0 0 10\n20 30 5\n" : "0 0 1");
    write_to("/proc/self/gid_map", chance_.one_in(4) ? "5 0 2" : "0 0 1");
  }
  void clone_something() {
    if (depth_ >= 3) return;
    char* const room = static_cast<char*>(
        mmap(nullptr, 32768, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (room == MAP_FAILED) return;
    auto* words = reinterpret_cast<uint64_t*>(room);
    words[0] = chance_.next();
    auto* top = reinterpret_cast<uint64_t*>(room + 32768 - 64);
    top[0] = address_of(reinterpret_cast<void*>(life_of_clone));
    top[1] = address_of(words);
    uint64_t flags = chance_.of<uint64_t>(
        {SIGCHLD, SIGCHLD | CLONE_FS, SIGCHLD | CLONE_FILES, CLONE_VM | SIGCHLD,
         CLONE_VM | CLONE_VFORK | SIGCHLD, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD,
         CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
         CLONE_NEWPID | SIGCHLD, CLONE_NEWNS | SIGCHLD, CLONE_NEWUSER | SIGCHLD,
         CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD, CLONE_PARENT | SIGCHLD, 0, 65});
    if (chance_.one_in(4)) flags |= uint64_t{1} << chance_.below(40);
    if (chance_.one_in(4)) flags |= CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
    // One that has its parent's stack would return into it.
    uint64_t stack = address_of(top);
    uint64_t words_of[11] = {};
    long number = SYS_clone;
    uint64_t first = flags;
    uint64_t second = stack;
    uint64_t third = address_of(place());
    uint64_t fourth = address_of(place());
    uint64_t fifth = chance_.one_in(2) ? odd_pointer() : address_of(place());
    if (chance_.one_in(3)) {
      words_of[0] = flags & ~uint64_t{255};
      words_of[1] = address_of(place());  // pidfd
      words_of[2] = fourth;               // child_tid
      words_of[3] = third;                // parent_tid
      words_of[4] =
          (flags & CLONE_THREAD) != 0 ? 0 : chance_.of<uint64_t>({SIGCHLD, SIGCHLD, 0, 64, 65});
      words_of[5] = address_of(room);
      words_of[6] = stack - address_of(room);
      words_of[7] = fifth;                                             // tls
      if (chance_.one_in(8)) words_of[8 + chance_.below(3)] = word();  // set_tid, its size, cgroup
      number = SYS_clone3;
      first = address_of(words_of);
      second = chance_.one_in(10) ? kSmall[chance_.below(20)] : sizeof words_of;
      // The kernel takes the stack's end for where it begins.
      if (second < 64) return;
    }
    board->called[number].fetch_add(1, std::memory_order_relaxed);
    const long child = start(number, first, second, third, fourth, fifth);
    if (child <= 0) return;
    board->done[number].fetch_add(1, std::memory_order_relaxed);
    if (chance_.one_in(2)) raw(SYS_wait4, static_cast<uint64_t>(child), 0, WNOHANG | 0x40000000, 0);
  }
  /// The child has what it does, and with what, on top of its stack.
  static long start(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    long result = 0;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    __asm__ volatile(
        "syscall\n"
        "test %%rax, %%rax\n"
        "jnz 1f\n"
        "pop %%rax\n"
        "pop %%rdi\n"
        "xor %%ebp, %%ebp\n"
        "and $-16, %%rsp\n"
        "call *%%rax\n"
        "xor %%edi, %%edi\n"
        "mov $60, %%eax\n"
        "syscall\n"
        "hlt\n"
        "1:\n"
        : "=a"(result)
        : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
        : "rcx", "r11", "r9", "memory");
    return result;
  }

  void return_wrongly() {
    struct sigaction action{};
    action.sa_sigaction = on_frame;
    action.sa_flags = SA_SIGINFO | (chance_.one_in(2) ? SA_ONSTACK : 0);
    frame_chance = &chance_;
    sigaction(SIGUSR2, &action, nullptr);
    for (int i = 0; i < 10; ++i)
      raw(SYS_tgkill, static_cast<uint64_t>(raw(SYS_getpid)),
          static_cast<uint64_t>(raw(SYS_gettid)), SIGUSR2);
  }

  void jump_into_the_stub() {
    const uint64_t to = 0x7fff00000000 + chance_.below(0x1000);
    const uint64_t number =
        chance_.one_in(2) ? kCalls[chance_.below(kCallCount)].number : chance_.next();
    const uint64_t first = word();
    const uint64_t second = word();
    const uint64_t third = word();
    __asm__ volatile("jmp *%0"
                     :
                     : "r"(to), "a"(number), "D"(first), "S"(second), "d"(third)
                     : "memory");
  }

  void execute() {
    if (depth_ >= 3) return;
    in_child([this] {
      char seed[24];
      char depth[8];
      std::snprintf(seed, sizeof seed, "%llu", static_cast<unsigned long long>(chance_.next()));
      std::snprintf(depth, sizeof depth, "%d", depth_ + 2);
      char* arguments[] = {const_cast<char*>("guest_fuzz"), const_cast<char*>("again"), seed, depth,
                           nullptr};
      char* environment[] = {chance_.one_in(2) ? const_cast<char*>("A=b") : nullptr, nullptr};
      const uint64_t values[6] = {address_of(chance_.one_in(4) ? path() : "/proc/self/exe"),
                                  address_of(arguments),
                                  address_of(environment),
                                  0,
                                  0,
                                  0};
      call_now(SYS_execve, values);
    });
  }

  /// A program whose first bytes are not what they were, or a script.
  void use_program_file() {
    if (depth_ >= 3) return;
    in_child([this] {
      char name[] = "/tmp/program-x";
      name[sizeof name - 2] = static_cast<char>('a' + chance_.below(4));
      const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
      const int to = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
      char* const bytes = arena_;
      ssize_t length = from < 0 ? 0 : read(from, bytes, 8192);
      if (length < 64) length = 64;
      if (chance_.one_in(4)) {
        length = std::snprintf(bytes, 256, "#!%s%s%s\n", chance_.one_in(2) ? " " : "",
                               chance_.one_in(4) ? name : path(), chance_.one_in(2) ? " -x y" : "");
      } else {
        for (uint64_t changes = 1 + chance_.below(6); changes != 0; --changes) {
          // The header and the table behind it.
          const uint64_t at = chance_.below(64 + 56 * 12);
          if (chance_.one_in(2))
            bytes[at] = static_cast<char>(chance_.next());
          else
            *reinterpret_cast<uint64_t*>(bytes + (at & ~uint64_t{7})) = word();
        }
      }
      if (write(to, bytes, static_cast<size_t>(length)) < 0) return;
      if (chance_.one_in(2) && ftruncate(to, static_cast<off_t>(chance_.below(4 << 20))) != 0)
        return;
      close(to);
      char* arguments[] = {name, seed_text(), nullptr};
      const uint64_t values[6] = {
          address_of(name), address_of(arguments), address_of(arguments + 2), 0, 0, 0};
      call_now(SYS_execve, values);
    });
  }
  char* seed_text() {
    std::snprintf(text_, sizeof text_, "%u", static_cast<unsigned>(chance_.below(1000)));
    return text_;
  }

  void change_mappings() {
    const uint64_t at = kArea + 4096 * chance_.below(kAreaSize / 4096);
    const uint64_t length = 4096 * (1 + chance_.below(32));
    const uint64_t protection = chance_.of<uint64_t>({0, 1, 3, 3, 3, 5, 7});
    switch (chance_.below(8)) {
      case 0:
      case 1:
        raw(SYS_mmap, at, length, protection,
            (chance_.one_in(2) ? MAP_PRIVATE : MAP_SHARED) | MAP_ANONYMOUS | MAP_FIXED,
            ~uint64_t{0}, 0);
        break;
      case 2:
        raw(SYS_mmap, at, length, protection,
            (chance_.one_in(2) ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED, descriptor(),
            4096 * chance_.below(4));
        break;
      case 3:
        raw(SYS_munmap, at, length);
        break;
      case 4:
        raw(SYS_mprotect, at, length, protection);
        break;
      case 5:
        raw(SYS_mremap, at, length, 4096 * (1 + chance_.below(32)), chance_.below(4),
            kArea + 4096 * chance_.below(kAreaSize / 4096));
        break;
      case 6:
        raw(SYS_madvise, at, length, chance_.below(24));
        break;
      default: {
        auto* byte = reinterpret_cast<volatile char*>(at + chance_.below(length));
        if (chance_.one_in(2))
          *byte = static_cast<char>(chance_.next());
        else
          (void)*byte;
      }
    }
  }

  void pass_descriptors() {
    int ends[2] = {-1, -1};
    if (socketpair(AF_UNIX,
                   chance_.of<int>({SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) | SOCK_NONBLOCK, 0,
                   ends) != 0)
      return;
    for (uint64_t more = chance_.below(4); more != 0; --more) {
      char byte = 1;
      iovec data{&byte, 1};
      alignas(cmsghdr) char control[CMSG_SPACE(4 * 8)] = {};
      msghdr message{};
      message.msg_iov = &data;
      message.msg_iovlen = 1;
      message.msg_control = control;
      const size_t count = 1 + chance_.below(8);
      message.msg_controllen = CMSG_SPACE(4 * count);
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(4 * count);
      for (size_t i = 0; i < count; ++i) {
        // The sockets themselves among them: circles that only a collector ends.
        const int value =
            chance_.one_in(3) ? ends[chance_.below(2)] : static_cast<int>(chance_.below(40));
        std::memcpy(CMSG_DATA(header) + 4 * i, &value, sizeof value);
      }
      (void)sendmsg(ends[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (chance_.one_in(2)) {
      char* const at = place();
      put_message(at);
      raw(SYS_recvmsg, static_cast<uint64_t>(ends[1]), address_of(at),
          MSG_DONTWAIT | (chance_.one_in(3) ? MSG_PEEK : 0));
    }
    if (!chance_.one_in(8)) close(ends[0]);
    if (!chance_.one_in(8)) close(ends[1]);
  }

  void meet_on_loopback() {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(static_cast<uint16_t>(7000 + chance_.below(3)));
    const int type = chance_.one_in(3) ? SOCK_DGRAM : SOCK_STREAM;
    const int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, chance_.one_in(2) ? SO_REUSEADDR : SO_REUSEPORT, &on, sizeof on);
    if (chance_.one_in(3)) {
      (void)bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
      (void)listen(fd, static_cast<int>(chance_.below(4)));
      (void)accept4(fd, nullptr, nullptr, SOCK_NONBLOCK);
    } else {
      (void)connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at);
      (void)send(fd, arena_, chance_.below(20000), MSG_DONTWAIT | MSG_NOSIGNAL);
      (void)recv(fd, arena_, chance_.below(20000), MSG_DONTWAIT);
    }
    if (!chance_.one_in(6)) close(fd);
  }

  void tidy_up() {
    raw(SYS_close_range, 3 + chance_.below(40), ~0U, 0);
    remove_names(chance_.of({"/tmp", "/w", "/dev/shm"}), 0);
  }
  void remove_names(const char* folder, int level) {
    char name[128];
    for (char letter = 'a'; letter <= 'f'; ++letter) {
      std::snprintf(name, sizeof name, "%s/%c", folder, letter);
      if (raw(SYS_unlink, address_of(name)) != -EISDIR) continue;
      if (raw(SYS_rmdir, address_of(name)) == -ENOTEMPTY && level < 4) {
        remove_names(name, level + 1);
        raw(SYS_rmdir, address_of(name));
      }
    }
  }

  /// Folders within folders within folders, and out again.
  void go_deep() {
    if (chdir(chance_.of({"/tmp", "/w"})) != 0) return;
    char name[32];
    std::snprintf(name, sizeof name, "deep-%ld", raw(SYS_getpid));
    int depth = 0;
    for (const int most = static_cast<int>(chance_.below(400)); depth < most; ++depth) {
      if (mkdir(name, 0755) != 0 || chdir(name) != 0) break;
      board->steps[slot_].fetch_add(1, std::memory_order_relaxed);
    }
    raw(SYS_getcwd, address_of(arena_), kArena);
    for (; depth > 0; --depth)
      if (chdir("..") != 0 || rmdir(name) != 0) break;
  }

  static constexpr uint64_t SA_RESTORER_ = 0x04000000;
  static void restore();

  Chance chance_;
  uint64_t steps_left_ = 0;
  size_t slot_;
  int depth_;
  char* arena_ = nullptr;
  char text_[16] = {};
};

__attribute__((naked)) void Caller::restore() { __asm__("mov $15, %eax\n syscall\n"); }

// --- Processes
// ---------------------------------------------------------------------------------------------------------------

constexpr size_t kMaxWorkers = 32;
constexpr uint64_t kStepsOfOne = 3000;  // then another takes its place, with everything fresh

struct Second {
  uint64_t seed;
  size_t slot;
};
void* run_second(void* argument) {
  const auto* second = static_cast<const Second*>(argument);
  Caller(second->seed, second->slot, 1).run(kStepsOfOne);
  return nullptr;
}
/// Changes what the others' calls are about while they are carried out.
void* scribble(void* argument) {
  Chance chance(*static_cast<uint64_t*>(argument));
  for (;;) {
    for (int i = 0; i < 200; ++i) {
      auto* at = reinterpret_cast<volatile uint64_t*>(shared_arena + 8 * chance.below(kArena / 8));
      *at = chance.one_in(2) ? chance.next() : chance.below(64);
    }
    const timespec pause{0, 200000};
    nanosleep(&pause, nullptr);
  }
  return nullptr;
}

void handle_signals() {
  struct sigaction fault{};
  fault.sa_handler = on_fault;
  fault.sa_flags = SA_NODEFER | SA_ONSTACK;
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) sigaction(signal, &fault, nullptr);
  struct sigaction quiet{};
  quiet.sa_handler = on_signal;
  for (int signal :
       {SIGALRM, SIGUSR1, SIGUSR2, SIGIO, SIGHUP, SIGINT, SIGPIPE, SIGVTALRM, SIGPROF, SIGXFSZ})
    sigaction(signal, &quiet, nullptr);
  // Calls that sleep are woken.
  const itimerval often{{0, 20000}, {0, 20000}};
  setitimer(ITIMER_REAL, &often, nullptr);
}

/// Who may trace the first process may end it.
void give_up_tracing() {
  prctl(PR_CAPBSET_DROP, 19, 0, 0, 0);
  uint32_t header[2] = {0x20080522, 0};
  uint32_t sets[6] = {};
  if (raw(SYS_capget, address_of(header), address_of(sets)) != 0) return;
  for (int i = 0; i < 3; ++i) sets[i] &= ~(1U << 19);
  raw(SYS_capset, address_of(header), address_of(sets));
}

void lower_limits() {
  const rlimit files{64, 64};
  setrlimit(RLIMIT_NOFILE, &files);
  const rlimit core{0, 0};
  setrlimit(RLIMIT_CORE, &core);
}

[[noreturn]] void work(uint64_t seed, size_t slot) {
  setsid();
  const int nowhere = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd)
    if (nowhere >= 0) dup2(nowhere, fd);
  lower_limits();
  handle_signals();
  give_up_tracing();
  Chance chance(seed);
  if (chdir(chance.of({"/tmp", "/w", "/dev/shm", "/"})) != 0) _exit(91);
  if (chance.one_in(3) && setgid(1000) == 0 && setuid(1000) != 0) _exit(92);
  Second second{chance.next(), slot};
  uint64_t scribbler = chance.next();
  pthread_t thread;
  if (chance.one_in(2)) pthread_create(&thread, nullptr, run_second, &second);
  pthread_create(&thread, nullptr, scribble, &scribbler);
  Caller(chance.next(), slot, 0).run(kStepsOfOne);
  _exit(0);
}

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{1000} * now.tv_sec + now.tv_nsec / 1000000;
}

/// What is left in System V objects stays for good otherwise.
void remove_ipc() {
  for (uint64_t index = 0; index < 512; ++index) {
    char room[256];
    const long shared =
        raw(SYS_shmctl, index, 13, address_of(room));  // SHM_STAT: an index gives an id
    if (shared >= 0) raw(SYS_shmctl, static_cast<uint64_t>(shared), 0, 0);
  }
}

class Master {
 public:
  Master(uint64_t seed, size_t workers) : seed_(seed), workers_(workers) {}

  int run(int64_t seconds) {
    const int64_t end = now_ms() + 1000 * seconds;
    int64_t epoch = now_ms();
    while (now_ms() < end) {
      for (size_t slot = 0; slot < workers_; ++slot) look_after(slot);
      reap();
      const timespec pause{0, 20000000};
      nanosleep(&pause, nullptr);
      constexpr int64_t kEpochMs = 5000;
      if (now_ms() - epoch < kEpochMs) continue;
      if (!end_all()) return 3;
      epoch = now_ms();
    }
    if (!end_all()) return 3;
    for (const Call& call : kCalls)
      std::printf("%s %llu %llu\n", call.name,
                  static_cast<unsigned long long>(board->called[call.number].load()),
                  static_cast<unsigned long long>(board->done[call.number].load()));
    std::printf("survived: %llu workers\n", static_cast<unsigned long long>(started_));
    return 0;
  }

 private:
  struct Slot {
    pid_t pid = 0;
    uint64_t steps = 0;
    int64_t seen_ms = 0;
  };

  void look_after(size_t number) {
    Slot& slot = slots_[number];
    if (slot.pid == 0) {
      // Somebody may have lowered what we may have.
      const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
      for (int limit : {RLIMIT_NPROC, RLIMIT_AS, RLIMIT_DATA, RLIMIT_CPU})
        setrlimit(static_cast<__rlimit_resource>(limit), &all);
      const pid_t made = fork();
      if (made == 0) work(seed_ * 1000003 + number * 7919 + started_, number);
      if (made < 0) return;
      ++started_;
      slot = {made, board->steps[number].load(), now_ms()};
      return;
    }
    const uint64_t steps = board->steps[number].load();
    if (steps != slot.steps) {
      slot.steps = steps;
      slot.seen_ms = now_ms();
    } else if (constexpr int64_t kPatienceMs = 2000; now_ms() - slot.seen_ms > kPatienceMs) {
      kill(slot.pid, SIGKILL);
      slot.seen_ms = now_ms();
    }
  }

  void reap() {
    for (;;) {
      const pid_t gone = waitpid(-1, nullptr, WNOHANG);
      if (gone <= 0) return;
      for (Slot& slot : slots_)
        if (slot.pid == gone) slot.pid = 0;
    }
  }

  static void tell_who_is_left() {
    char text[512];
    for (int pid = 2; pid < 32768; ++pid) {
      std::snprintf(text, sizeof text, "/proc/%d/stat", pid);
      const int fd = open(text, O_RDONLY | O_CLOEXEC);
      if (fd < 0) continue;
      const ssize_t got = read(fd, text, sizeof text - 1);
      close(fd);
      std::printf("stuck: %.*s\n", static_cast<int>(std::max<ssize_t>(got, 0)), text);
    }
  }

  /// Everybody but us. False: some would not go.
  bool end_all() {
    constexpr int64_t kLimitMs = 60000;
    const int64_t begin = now_ms();
    for (;;) {
      kill(-1, SIGKILL);
      reap();
      if (waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD && kill(-1, 0) != 0) break;
      if (now_ms() - begin > kLimitMs) {
        std::printf("stuck: processes that SIGKILL does not end\n");
        tell_who_is_left();
        return false;
      }
      const timespec pause{0, 5000000};
      nanosleep(&pause, nullptr);
    }
    remove_ipc();
    uint64_t all = 0;
    for (const auto& count : board->called) all += count.load();
    std::printf("epoch %d: %llu calls, %llu workers\n", ++epochs_,
                static_cast<unsigned long long>(all), static_cast<unsigned long long>(started_));
    std::fflush(stdout);
    // Time for whoever counts what is left.
    const timespec pause{0, 300000000};
    nanosleep(&pause, nullptr);
    return true;
  }

  uint64_t seed_;
  size_t workers_;
  uint64_t started_ = 0;
  int epochs_ = 0;
  Slot slots_[kMaxWorkers];
};

/// Far from everything else: what is written too far does not come here.
constexpr uint64_t kBoard = 0x200000000000;

void* map_shared(size_t size, uint64_t at = 0) {
  void* made = mmap(reinterpret_cast<void*>(at), size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | (at != 0 ? MAP_FIXED : 0), -1, 0);
  if (made == MAP_FAILED) std::exit(2);
  return made;
}

/// From a copy that nobody can write to: a program whose text is taken away does not live on.
void execute_sealed(char** argv) {
  if (getenv("SEALED") != nullptr) return;
  const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  const int to = memfd_create("guest_fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  static char buffer[65536];
  for (ssize_t got = 0; (got = read(from, buffer, sizeof buffer)) > 0;)
    if (write(to, buffer, static_cast<size_t>(got)) != got) return;
  fchmod(to, 0755);
  if (fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) return;
  char mark[] = "SEALED=1";
  char* environment[] = {mark, nullptr};
  fexecve(to, argv, environment);
}

/// The host ends a process whose area for restartable sequences (rseq(2)) has nonsense in it, and
/// workers write nonsense into any memory that they can: not into the master's, which is to
/// survive.
void drop_rseq() {
  char* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  for (uint64_t length = 32; __rseq_size != 0 && length <= 1024; length += 32)
    if (syscall(SYS_rseq, area, length, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0) return;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  board = static_cast<Board*>(map_shared(sizeof(Board), kBoard));
  shared_arena = static_cast<char*>(map_shared(kArena));
  if (std::strcmp(argv[1], "again") == 0) {
    // Executed by one of us.
    handle_signals();
    Caller(std::strtoull(argv[2], nullptr, 10), 0, argc > 3 ? std::atoi(argv[3]) : 3).run(100);
    return 0;
  }
  const size_t workers = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 4;
  if (workers == 0 || workers > kMaxWorkers) return 2;
  mkdir("/w", 01777);
  chmod("/w", 01777);
  signal(SIGPIPE, SIG_IGN);
  execute_sealed(argv);
  drop_rseq();
  // What workers write to our streams is not to be taken for what the guest kernel says.
  const int nowhere = open("/dev/null", O_RDWR);
  dup2(nowhere, 2);
  return Master(std::strtoull(argv[1], nullptr, 10), workers).run(std::atoll(argv[2]));
}
