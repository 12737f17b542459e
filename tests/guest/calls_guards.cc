#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <vector>

#include "calls.h"

// Ways round what guards a file, a process or the kernel itself: each is somebody's without rights.
namespace calls {
namespace {

constexpr uid_t kSomebody = 1000;

void become_somebody() {
  setgroups(0, nullptr);
  setresgid(kSomebody, kSomebody, kSomebody);
  setresuid(kSomebody, kSomebody, kSomebody);
}
void make_file(const char* path, mode_t mode, const char* text = "text") {
  const int file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
  write(file, text, strlen(text));
  fchmod(file, mode);
  close(file);
}
long mode_of(const char* path) {
  struct stat is{};
  return stat(path, &is) == 0 ? static_cast<long>(is.st_mode & 07777) : -1;
}
std::string text_of(const char* path) {
  char text[256];
  const int file = open(path, O_RDONLY);
  const ssize_t length = read(file, text, sizeof text);
  close(file);
  return length < 0 ? "" : std::string(text, static_cast<size_t>(length));
}
/// A file system in memory at the present folder's "own", in a mount namespace of the caller's.
bool own_tmpfs(const char* options = "") {
  if (unshare(CLONE_NEWNS) != 0) return false;
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  mkdir("own", 0777);
  return mount("own", "own", "tmpfs", 0, options) == 0 && chdir("own") == 0 &&
         chmod(".", 01777) == 0;
}

int offsets() {
  int ends[2];
  pipe(ends);
  const int in = open("/proc/self/status", O_RDONLY);
  for (const off_t from : {off_t{-1}, off_t{-256}, -(off_t{1} << 40)}) {
    off_t at = from;
    value("sendfile from before the start", sendfile(ends[1], in, &at, 256));
  }
  return 0;
}

int names() {
  make_file("readable", 0644);
  become_somebody();
  value("emptied by who may read it", open("readable", O_RDONLY | O_TRUNC));
  line("it has its text", text_of("readable"));
  return 0;
}

int names_in_memory() {
  if (!own_tmpfs()) return 1;
  make_file("readable", 0644);
  make_file("runs as another", 06777);
  make_file("capable", 0777);
  const unsigned char capability[20] = {1, 0, 0, 2, 0, 4};
  value("capability", setxattr("capable", "security.capability", capability, sizeof capability, 0));
  mkdir("group's", 0777);
  chown("group's", 0, 50);
  chmod("group's", 02777);
  mkdir("from", 0777);
  mkdir("to", 0777);
  for (const char* path : {"from", "to"}) chmod(path, 0777);
  mkdir("from/root's", 0755);
  const int writing = open("capable", O_WRONLY);
  write(writing, "x", 1);
  value("a capability behind a write", getxattr("capable", "security.capability", nullptr, 0));
  line("in a child", in_child([] {
         become_somebody();
         value("emptied by who may read it", open("readable", O_RDONLY | O_TRUNC));
         const int file = open("runs as another", O_WRONLY);
         write(file, "x", 1);
         value("mode behind a write", mode_of("runs as another"));
         close(open("group's/made", O_CREAT | O_WRONLY, 02777));
         value("made for a group that one is not in", mode_of("group's/made") & 02000);
         value("a folder that one may not write to, moved", rename("from/root's", "to/root's"));
         // Folders must not come to lie in each other.
         mkdir("to/a", 0777);
         mkdir("to/a/b", 0777);
         mkdir("to/a/b/c", 0777);
         constexpr unsigned kExchange = 2;
         value("exchanged for one above",
               renameat2(AT_FDCWD, "to/a/b/c", AT_FDCWD, "to/a", kExchange));
         value("exchanged for one below",
               renameat2(AT_FDCWD, "to/a", AT_FDCWD, "to/a/b/c", kExchange));
         value("moved onto one above", rename("to/a/b/c", "to/a"));
         value("still there", access("to/a/b/c", F_OK));
         return 0;
       }));
  line("emptied by who may write", result_of(truncate("readable", 0)));
  mkdir("bound", 0777);
  mkdir("bound/a", 0777);
  mkdir("bound/mnt", 0777);
  value("bind", mount("bound/a", "bound/mnt", nullptr, MS_BIND, nullptr));
  value("moved below itself by another mount", rename("bound/a", "bound/mnt/x"));
  make_file("bound/a/file", 0644);
  value("linked to from another mount", link("bound/a/file", "bound/mnt/other"));
  return 0;
}

int read_only() {
  if (!own_tmpfs()) return 1;
  make_file("file", 0666);
  value("remount", mount(nullptr, ".", nullptr, MS_REMOUNT | MS_RDONLY, nullptr));
  value("truncate", truncate("file", 0));
  value("open to empty", open("file", O_RDONLY | O_TRUNC));
  value("chmod", chmod("file", 0600));
  value("chown", chown("file", 1, 1));
  value("utimensat", utimensat(AT_FDCWD, "file", nullptr, 0));
  value("setxattr", setxattr("file", "user.x", "y", 1, 0));
  value("access to write", access("file", W_OK));
  value("access to read", access("file", R_OK));
  return 0;
}

int not_to_be_run() {
  if (unshare(CLONE_NEWNS) != 0) return 1;
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  mkdir("own", 0777);
  if (mount("own", "own", "tmpfs", MS_NOEXEC, nullptr) != 0 || chdir("own") != 0) return 2;
  make_file("file", 0777);
  const int file = open("file", O_RDONLY);
  const auto map = [&](int protection) {
    return mmap(nullptr, 4096, protection, MAP_PRIVATE, file, 0);
  };
  value("mapped to be run", map(PROT_READ | PROT_EXEC) == MAP_FAILED ? -1 : 0);
  void* at = map(PROT_READ);
  value("made to be run", mprotect(at, 4096, PROT_READ | PROT_EXEC));
  const int unnamed = open(".", O_TMPFILE | O_RDWR, 0700);
  write(unnamed, "text", 4);
  at = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, unnamed, 0);
  value("a file without a name", at == MAP_FAILED ? -1 : 0);
  return 0;
}

int identities() {
  static char secret[] = "not for everybody";
  value("dumpable", prctl(PR_GET_DUMPABLE));
  prctl(PR_SET_PDEATHSIG, SIGUSR1);
  setresuid(kSomebody, kSomebody, kSomebody);
  int told = -1;
  prctl(PR_GET_PDEATHSIG, &told);
  value("a signal at the parent's end", told);
  value("dumpable as somebody else", prctl(PR_GET_DUMPABLE));
  ok("its own descriptors", open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
  ok("what is told of them", open("/proc/self/fdinfo", O_RDONLY | O_DIRECTORY));
  const pid_t child = fork();
  if (child == 0) {
    char here[sizeof secret];
    const iovec ours{here, sizeof here};
    const iovec theirs{secret, sizeof secret};
    value("in its memory", process_vm_readv(getppid(), &ours, 1, &theirs, 1, 0));
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  return 0;
}

int file_identity() {
  make_file("root's", 0600);
  setfsuid(kSomebody);
  value("as somebody", open("root's", O_RDONLY));
  setfsuid(0);
  ok("as root again", open("root's", O_RDONLY));
  return 0;
}

int segments() {
  const int id = shmget(IPC_PRIVATE, 4096, 0644);
  const pid_t child = fork();
  if (child == 0) {
    become_somebody();
    void* at = shmat(id, nullptr, SHM_RDONLY);
    value("made writable", mprotect(at, 4096, PROT_READ | PROT_WRITE));
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  void* at = shmat(id, nullptr, 0);
  value("one's own", mprotect(at, 4096, PROT_READ | PROT_WRITE));
  shmctl(id, IPC_RMID, nullptr);
  return 0;
}

/// The whole of what several wrote, each by plain calls at the end of the file.
template <class Write>
long lines_of_four(const char* path, Write write_one) {
  constexpr int kEach = 400;
  pid_t children[4];
  for (pid_t& child : children) {
    child = fork();
    if (child != 0) continue;
    const int file = open(path, O_CREAT | O_WRONLY | O_APPEND, 0666);
    for (int i = 0; i < kEach; ++i) write_one(file);
    _exit(0);
  }
  for (const pid_t child : children) waitpid(child, nullptr, 0);
  const int file = open(path, O_RDONLY);
  std::string all;
  char part[4096];
  for (ssize_t got = 0; (got = read(file, part, sizeof part)) > 0;)
    all.append(part, static_cast<size_t>(got));
  close(file);
  long whole = 0;
  for (size_t at = 0; at < all.size();) {
    const size_t end = all.find('\n', at);
    if (end == std::string::npos) break;
    whole += all.substr(at, end - at) == "first and second" ? 1 : 0;
    at = end + 1;
  }
  return whole;
}
void write_parts(int file) {
  char first[] = "first and ";
  char second[] = "second\n";
  const iovec parts[] = {{first, 10}, {second, 7}};
  writev(file, parts, 2);
}

int appending() {
  make_file("changed", 0644, "0123456789");
  int file = open("changed", O_WRONLY);
  fcntl(file, F_SETFL, O_APPEND);
  write(file, "AB", 2);
  line("from now on", text_of("changed"));
  close(file);
  file = open("changed", O_WRONLY | O_APPEND);
  fcntl(file, F_SETFL, 0);
  pwrite(file, "ab", 2, 0);
  line("no longer", text_of("changed"));
  value("lines of a host's file", lines_of_four("lines", write_parts));
  if (!own_tmpfs()) return 1;
  value("lines of one in memory", lines_of_four("lines", write_parts));
  value("written at once",
        lines_of_four("more", [](int f) { write(f, "first and second\n", 17); }));
  return 0;
}

int one_operation() {
  int ends[2];
  pipe(ends);
  write(ends[1], "0123456789", 10);
  char first[10];
  char second[10];
  const iovec parts[] = {{first, 10}, {second, 10}};
  value("read as far as there is", readv(ends[0], parts, 2));
  std::vector<char> random(size_t{1} << 20);
  value("random bytes, as many as asked for",
        read(open("/dev/urandom", O_RDONLY), random.data(), random.size()));
  fcntl(ends[1], F_SETPIPE_SZ, 4096);
  std::vector<char> most(4096);
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  write(ends[1], most.data(), 2096);
  std::vector<char> half(1500);
  const iovec halves[] = {{half.data(), 1500}, {half.data(), 1500}};
  value("written whole or not at all", writev(ends[1], halves, 2));
  return 0;
}

int late_descriptors() {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::strcpy(at.sun_path + 1, "guards");
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
  bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof(sa_family_t) + 7);
  listen(listener, 4);
  const int client = socket(AF_UNIX, SOCK_STREAM, 0);
  value("connect", connect(client, reinterpret_cast<sockaddr*>(&at), sizeof(sa_family_t) + 7));
  rlimit few{static_cast<rlim_t>(client) + 1, 1024};
  setrlimit(RLIMIT_NOFILE, &few);
  for (int i = 0; i < client; ++i)
    if (fcntl(i, F_GETFD) == -1) dup2(client, i);
  value("accept without a number", accept(listener, nullptr, nullptr));
  value("made without a number", open("unmade", O_CREAT | O_EXCL | O_WRONLY, 0600));
  few.rlim_cur = 64;
  setrlimit(RLIMIT_NOFILE, &few);
  ok("it waits still", accept(listener, nullptr, nullptr));
  value("nothing was made", access("unmade", F_OK));
  return 0;
}

int locks_by_name() {
  make_file("locked", 0644);
  const int file = open("locked", O_RDWR);
  struct flock whole{};
  whole.l_type = F_WRLCK;
  fcntl(file, F_SETLK, &whole);
  close(open("locked", O_PATH));
  return in_child([] {
           struct flock asked{};
           asked.l_type = F_WRLCK;
           const int other = open("locked", O_RDWR);
           fcntl(other, F_GETLK, &asked);
           return asked.l_type == F_WRLCK ? 7 : 1;
         }) == "exit 7"
             ? 7
             : 1;
}

/// A listener that only a connection to itself holds: nobody can ever accept it.
int circles() {
  constexpr int kMost = 200;
  for (int round = 0; round < 100; ++round) {
    sockaddr_un at{};
    at.sun_family = AF_UNIX;
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof(sa_family_t));
    socklen_t length = sizeof at;
    getsockname(listener, reinterpret_cast<sockaddr*>(&at), &length);
    listen(listener, 4);
    const int client = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(client, reinterpret_cast<sockaddr*>(&at), length) != 0) return 1;
    for (int i = 0; i < kMost; i += 100) {
      char byte = 'x';
      iovec one{&byte, 1};
      alignas(cmsghdr) char control[CMSG_SPACE(100 * sizeof(int))];
      msghdr message{};
      message.msg_iov = &one;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(100 * sizeof(int));
      for (int j = 0; j < 100; ++j)
        std::memcpy(CMSG_DATA(header) + sizeof(int) * static_cast<size_t>(j), &listener,
                    sizeof(int));
      if (sendmsg(client, &message, 0) != 1) return errno == ETOOMANYREFS ? 2 : 3;
    }
    close(listener);
    close(client);
  }
  return 7;
}

/// What a copy of gigabytes or a child of vfork(2) does not hold up.
int endings() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  auto* sleeper = static_cast<std::atomic<pid_t>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  constexpr size_t kPiece = size_t{64} << 20;
  void* memory = mmap(nullptr, kPiece, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  const pid_t copier = fork();
  if (copier == 0) {
    std::vector<iovec> pieces(1024, iovec{memory, kPiece});
    for (;;) process_vm_readv(getpid(), pieces.data(), 1024, pieces.data(), 1024, 0);
  }
  const timespec moment{0, 50'000'000};
  nanosleep(&moment, nullptr);
  timespec before{};
  timespec after{};
  clock_gettime(CLOCK_MONOTONIC, &before);
  kill(copier, SIGKILL);
  waitpid(copier, nullptr, 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  truth("a copy is ended", after.tv_sec - before.tv_sec < 8);
  const pid_t executor = fork();
  if (executor == 0) {
    pthread_t thread{};
    pthread_create(
        &thread, nullptr,
        [](void* place) -> void* {
          if (vfork() == 0) {
            static_cast<std::atomic<pid_t>*>(place)->store(getpid());
            for (int i = 0; i < 400; ++i) {
              const timespec wait{0, 50'000'000};
              nanosleep(&wait, nullptr);
            }
            _exit(0);
          }
          return nullptr;
        },
        sleeper);
    while (sleeper->load() == 0) sched_yield();
    execl("/proc/self/exe", "guest_calls", "--leave", nullptr);
    _exit(99);
  }
  clock_gettime(CLOCK_MONOTONIC, &before);
  int status = 0;
  waitpid(executor, &status, 0);
  clock_gettime(CLOCK_MONOTONIC, &after);
  value("executed beside a vfork", WEXITSTATUS(status));
  truth("at once", after.tv_sec - before.tv_sec < 10);
  kill(sleeper->load(), SIGKILL);
  while (waitpid(-1, nullptr, 0) > 0) {
  }
  return 0;
}

std::atomic<int> alarms{0};

int timers() {
  signal(SIGALRM, [](int) { ++alarms; });
  const itimerval rare{{int64_t{1} << 47, 0}, {0, 1000}};
  setitimer(ITIMER_REAL, &rare, nullptr);
  const timespec moment{0, 60'000'000};
  nanosleep(&moment, nullptr);  // ends early
  nanosleep(&moment, nullptr);
  value("once, and again in ages", alarms.load());
  sigevent nobody{};
  nobody.sigev_notify = SIGEV_NONE;
  timer_t timer{};
  timer_create(CLOCK_MONOTONIC, &nobody, &timer);
  const itimerspec often{{0, 1}, {0, 1}};
  timer_settime(timer, 0, &often, nullptr);
  nanosleep(&moment, nullptr);
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  itimerspec left{};
  timer_gettime(timer, &left);
  truth("what nobody hears of runs on", left.it_value.tv_nsec == 1 && left.it_value.tv_sec == 0);
  const itimerspec once{{0, 0}, {0, 1}};
  timer_settime(timer, 0, &once, nullptr);
  nanosleep(&moment, nullptr);
  timer_gettime(timer, &left);
  truth("once, and over", left.it_value.tv_nsec == 0);
  return 0;
}

int blocked_signals() {
  signal(SIGUSR1, [](int) { ++alarms; });
  sigset_t blocked;
  sigset_t none;
  sigemptyset(&blocked);
  sigemptyset(&none);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  raise(SIGUSR1);
  const timespec now{0, 0};
  value("a look under another mask", ppoll(nullptr, 0, &now, &none));
  value("its signal came", alarms.load());
  // What such a file is never ready for.
  fd_set urgent;
  FD_ZERO(&urgent);
  FD_SET(0, &urgent);
  timeval shortly{0, 20000};
  value("nothing urgent", select(1, nullptr, nullptr, &urgent, &shortly));
  return 0;
}

}  // namespace

void guards() {
  begin("guards");
  line("offsets", in_child(offsets));
  line("names", in_child(names));
  line("names in memory", in_child(names_in_memory));
  line("read-only", in_child(read_only));
  line("noexec", in_child(not_to_be_run));
  line("identities", in_child(identities));
  line("file identity", in_child(file_identity));
  line("segments", in_child(segments));
  line("appending", in_child(appending));
  line("one operation", in_child(one_operation));
  line("late descriptors", in_child(late_descriptors));
  line("locks by name", in_child(locks_by_name));
  line("circles", in_child(circles));
  line("endings", in_child(endings));
  line("timers", in_child(timers));
  line("blocked signals", in_child(blocked_signals));
}

}  // namespace calls
