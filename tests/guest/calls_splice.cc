#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <string>

#include "calls.h"

namespace calls {
namespace {

struct Pipe {
  int ends[2] = {-1, -1};
  explicit Pipe(int flags = 0) {
    if (pipe2(ends, flags) != 0) _exit(9);
  }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  int out() const { return ends[0]; }
  int in() const { return ends[1]; }
  std::string drain() const {
    char bytes[256];
    fcntl(out(), F_SETFL, O_NONBLOCK);
    const ssize_t got = read(out(), bytes, sizeof bytes);
    fcntl(out(), F_SETFL, 0);
    return got < 0 ? result_of(-1) : std::string(bytes, static_cast<size_t>(got));
  }
};

int make(const char* name, const char* text) {
  const int fd = open(name, O_CREAT | O_TRUNC | O_RDWR, 0644);
  if (write(fd, text, std::strlen(text)) < 0) _exit(9);
  lseek(fd, 0, SEEK_SET);
  return fd;
}
std::string text_of(int fd) {
  char bytes[256];
  const ssize_t got = pread(fd, bytes, sizeof bytes, 0);
  return got < 0 ? result_of(-1) : std::string(bytes, static_cast<size_t>(got));
}
iovec vector_of(const char* text) { return {const_cast<char*>(text), std::strlen(text)}; }

void splices() {
  begin("splice");
  const Pipe one;
  const Pipe two;
  const int file = make("spliced", "0123456789");
  const int to = make("spliced to", "........");
  value("no length", splice(one.out(), nullptr, two.in(), nullptr, 0, 0));
  value("unknown flags", splice(one.out(), nullptr, two.in(), nullptr, 1, 1 << 20));
  value("no pipe", splice(file, nullptr, to, nullptr, 1, 0));
  value("the same pipe", splice(one.out(), nullptr, one.in(), nullptr, 1, 0));
  value("bad descriptor", splice(999, nullptr, one.in(), nullptr, 1, 0));
  value("the wrong end", splice(one.in(), nullptr, two.in(), nullptr, 1, 0));
  off64_t at = 2;
  value("offset of a pipe", splice(one.out(), &at, to, nullptr, 1, 0));
  value("nothing there", splice(one.out(), nullptr, two.in(), nullptr, 1, SPLICE_F_NONBLOCK));
  value("from a file", splice(file, nullptr, one.in(), nullptr, 4, 0));
  value("moves the position", lseek(file, 0, SEEK_CUR));
  value("at an offset", splice(file, &at, one.in(), nullptr, 3, 0));
  value("which moves", at);
  value("not the position", lseek(file, 0, SEEK_CUR));
  value("from pipe to pipe", splice(one.out(), nullptr, two.in(), nullptr, 5, 0));
  line("got", two.drain());
  line("left", one.drain());
  off64_t bad = -1;
  value("bad offset", splice(file, &bad, one.in(), nullptr, 1, 0));
  value("bad pointer", splice(file, reinterpret_cast<off64_t*>(8), one.in(), nullptr, 1, 0));
  at = 100;
  value("behind the end", splice(file, &at, one.in(), nullptr, 1, 0));
  ok("write", write(one.in(), "abcdef", 6));
  at = 3;
  value("into a file", splice(one.out(), nullptr, to, &at, 4, 0));
  line("file", text_of(to));
  value("all there is", splice(one.out(), nullptr, to, nullptr, 100, 0));
  line("file then", text_of(to));
  const int appends = open("spliced to", O_WRONLY | O_APPEND);
  value("to what appends", splice(one.out(), nullptr, appends, nullptr, 1, 0));
  const int read_only = open("spliced to", O_RDONLY);
  value("to read-only", splice(one.out(), nullptr, read_only, nullptr, 1, 0));
  line("to nobody", in_child([] {
         int ends[2];
         if (pipe(ends) != 0) return 9;
         close(ends[0]);
         const int from = open("spliced", O_RDONLY);
         return static_cast<int>(splice(from, nullptr, ends[1], nullptr, 1, 0));
       }));
  line("to nobody, deaf", in_child([] {
         int ends[2];
         signal(SIGPIPE, SIG_IGN);
         if (pipe(ends) != 0) return 9;
         close(ends[0]);
         const int from = open("spliced", O_RDONLY);
         return splice(from, nullptr, ends[1], nullptr, 1, 0) == -1 ? errno : 0;
       }));
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) _exit(9);
  ok("write", write(sockets[0], "socket", 6));
  value("from a socket", splice(sockets[1], nullptr, one.in(), nullptr, 100, 0));
  value("to a socket", splice(one.out(), nullptr, sockets[1], nullptr, 3, 0));
  char bytes[16] = {};
  value("arrives", read(sockets[0], bytes, sizeof bytes));
  line("is", bytes);
  line("rest", one.drain());
  // A full pipe takes no more, and nothing of the file is lost.
  line("a full one", in_child([] {
         const Pipe full(O_NONBLOCK);
         char page[4096] = {};
         while (write(full.in(), page, sizeof page) > 0) {
         }
         const int from = open("spliced", O_RDONLY);
         if (splice(from, nullptr, full.in(), nullptr, 4, SPLICE_F_NONBLOCK) != -1) return 1;
         return lseek(from, 0, SEEK_CUR) == 0 ? errno : 2;
       }));
  line("waits for bytes", in_child([] {
         const Pipe from;
         const Pipe sink;
         const pid_t child = fork();
         if (child == 0) {
           usleep(30'000);
           _exit(write(from.in(), "late", 4) == 4 ? 0 : 1);
         }
         const ssize_t got = splice(from.out(), nullptr, sink.in(), nullptr, 100, 0);
         waitpid(child, nullptr, 0);
         return static_cast<int>(got);
       }));
  line("a megabyte", in_child([] {
         const int big = open("big", O_CREAT | O_TRUNC | O_RDWR, 0600);
         std::string page(65536, 'x');
         for (int i = 0; i < 16; ++i) {
           page[0] = static_cast<char>('a' + i);
           if (write(big, page.data(), page.size()) != 65536) return 9;
         }
         lseek(big, 0, SEEK_SET);
         const Pipe way;
         const pid_t child = fork();
         if (child == 0) {
           close(way.in());
           const int copy = open("big copy", O_CREAT | O_TRUNC | O_RDWR, 0600);
           while (splice(way.out(), nullptr, copy, nullptr, 1 << 20, 0) > 0) {
           }
           _exit(0);
         }
         ssize_t sum = 0;
         for (ssize_t got = 1; got > 0; sum += got)
           got = splice(big, nullptr, way.in(), nullptr, 1 << 20, 0);
         close(way.ends[1]);
         waitpid(child, nullptr, 0);
         const int copy = open("big copy", O_RDONLY);
         for (int i = 0; i < 16; ++i) {
           if (read(copy, page.data(), page.size()) != 65536) return 8;
           if (page[0] != 'a' + i || page[65535] != 'x') return 7;
         }
         return sum == 1 << 20 ? 1 : 0;
       }));
  close(file);
  close(to);
  close(appends);
  close(read_only);
  close(sockets[0]);
  close(sockets[1]);
}

void tees() {
  begin("tee");
  const Pipe one;
  const Pipe two;
  ok("write", write(one.in(), "twice", 5));
  value("copies", tee(one.out(), two.in(), 3, 0));
  line("copy", two.drain());
  line("original", one.drain());
  value("nothing there", tee(one.out(), two.in(), 3, SPLICE_F_NONBLOCK));
  value("the same", tee(one.out(), one.in(), 3, 0));
  value("no length", tee(one.out(), two.in(), 0, 0));
  const int file = open("spliced", O_RDONLY);
  value("no pipe", tee(file, two.in(), 3, 0));
  close(one.ends[1]);
  value("the end", tee(one.out(), two.in(), 3, 0));
  close(file);
}

void vmsplices() {
  begin("vmsplice");
  const Pipe one;
  iovec vectors[3] = {vector_of("from "), vector_of(""), vector_of("memory")};
  value("in", vmsplice(one.in(), vectors, 3, 0));
  char first[4] = {};
  char second[32] = {};
  iovec to[2] = {{first, 3}, {second, sizeof second - 1}};
  value("out", vmsplice(one.out(), to, 2, 0));
  line("first", first);
  line("second", second);
  value("nothing", vmsplice(one.out(), to, 2, SPLICE_F_NONBLOCK));
  value("too many", vmsplice(one.in(), vectors, 1025, 0));
  vectors[0].iov_base = reinterpret_cast<void*>(8);
  value("bad memory", vmsplice(one.in(), vectors, 1, 0));
  const int file = open("spliced", O_RDONLY);
  value("no pipe", vmsplice(file, vectors, 1, 0));
  close(file);
}

void with_flags() {
  begin("preadv2");
  const int file = make("flags", "0123456789");
  char bytes[8] = {};
  const iovec into{bytes, 4};
  value("at an offset", preadv2(file, &into, 1, 6, 0));
  line("got", bytes);
  value("at the position", preadv2(file, &into, 1, -1, 0));
  value("which moves", lseek(file, 0, SEEK_CUR));
  value("now", preadv2(file, &into, 1, 0, RWF_NOWAIT));
  value("unknown flags", preadv2(file, &into, 1, 0, 1 << 30));
  value("before the start", preadv2(file, &into, 1, -2, 0));
  const Pipe pipe;
  value("pipe", preadv2(pipe.out(), &into, 1, -1, RWF_NOWAIT));
  value("pipe at an offset", preadv2(pipe.out(), &into, 1, 0, 0));
  begin("pwritev2");
  const iovec more = vector_of("more");
  value("appends", pwritev2(file, &more, 1, 0, RWF_APPEND));
  line("file", text_of(file));
  value("synced", pwritev2(file, &more, 1, 0, RWF_DSYNC));
  line("file then", text_of(file));
  value("at the position", pwritev2(file, &more, 1, -1, RWF_SYNC));
  value("which moves", lseek(file, 0, SEEK_CUR));
  value("both", pwritev2(file, &more, 1, 0, 0x10 | 0x20));
  value("unknown flags", pwritev2(file, &more, 1, 0, 1 << 30));
  close(file);
}

}  // namespace

void splicing() {
  splices();
  tees();
  vmsplices();
  with_flags();
}

}  // namespace calls
