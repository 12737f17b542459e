#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

void* const kBad = reinterpret_cast<void*>(8);
char buffer[1 << 20];

std::string polled(int fd) {
  pollfd entry{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
  poll(&entry, 1, 0);
  std::string out;
  const auto name = [&](int bit, const char* text) {
    if ((entry.revents & bit) != 0) out += out.empty() ? text : std::string("|") + text;
  };
  name(POLLIN, "IN");
  name(POLLOUT, "OUT");
  name(POLLERR, "ERR");
  name(POLLHUP, "HUP");
  name(POLLRDHUP, "RDHUP");
  return out.empty() ? "none" : out;
}

int option(int fd, int level, int what) {
  int out = -12345;
  socklen_t length = sizeof out;
  if (getsockopt(fd, level, what, &out, &length) != 0) return -errno;
  return out;
}
int set_option(int fd, int level, int what, int number) {
  return setsockopt(fd, level, what, &number, sizeof number);
}

struct Name {
  sockaddr_storage raw{};
  socklen_t length = sizeof raw;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&raw); }
};
Name unix_name(const std::string& path) {
  Name out;
  sockaddr_un raw{};
  raw.sun_family = AF_UNIX;
  std::memcpy(raw.sun_path, path.data(), path.size());
  std::memcpy(&out.raw, &raw, sizeof raw);
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  return out;
}
Name inet_name(uint32_t address, uint16_t port) {
  Name out;
  sockaddr_in raw{};
  raw.sin_family = AF_INET;
  raw.sin_addr.s_addr = htonl(address);
  raw.sin_port = htons(port);
  std::memcpy(&out.raw, &raw, sizeof raw);
  out.length = sizeof raw;
  return out;
}
Name inet6_name(const in6_addr& address, uint16_t port) {
  Name out;
  sockaddr_in6 raw{};
  raw.sin6_family = AF_INET6;
  raw.sin6_addr = address;
  raw.sin6_port = htons(port);
  std::memcpy(&out.raw, &raw, sizeof raw);
  out.length = sizeof raw;
  return out;
}
Name own_name(int fd) {
  Name out;
  getsockname(fd, out.get(), &out.length);
  return out;
}
uint16_t port_of(int fd) {
  const Name name = own_name(fd);
  sockaddr_in raw{};
  std::memcpy(&raw, &name.raw, sizeof raw);  // where both families have it
  return ntohs(raw.sin_port);
}
/// The address without its port.
std::string host_of(const Name& name) {
  char text[64] = {};
  if (name.raw.ss_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(name.raw).sin_addr, text, sizeof text);
  else if (name.raw.ss_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(name.raw).sin6_addr, text,
              sizeof text);
  else
    return "family " + std::to_string(name.raw.ss_family) + ", " + std::to_string(name.length);
  return text;
}

void making() {
  begin("socket");
  value("unknown family", socket(12345, SOCK_STREAM, 0));
  value("negative family", socket(-1, SOCK_STREAM, 0));
  value("unknown type", socket(AF_UNIX, 9, 0));
  value("type out of range", socket(AF_UNIX, 15, 0));
  value("unknown flags", socket(AF_UNIX, SOCK_STREAM | 0x100, 0));
  value("unknown protocol of AF_UNIX", socket(AF_UNIX, SOCK_STREAM, 5));
  value("UDP for a stream", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
  value("packets of AF_INET", socket(AF_INET, SOCK_SEQPACKET, 0));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  value("close on exec", fcntl(fd, F_GETFD));
  value("flags", fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE));
  struct stat s{};
  ok("fstat", fstat(fd, &s));
  value("mode", s.st_mode);
  char link[64] = {};
  if (readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), link, 63) < 0) link[0] = 0;
  truth("its link", std::strncmp(link, "socket:[", 8) == 0);
  value("lseek", lseek(fd, 0, SEEK_SET));
  value("pread", pread(fd, buffer, 1, 0));
  value("ftruncate", ftruncate(fd, 0));
  value("type", option(fd, SOL_SOCKET, SO_TYPE));
  value("domain", option(fd, SOL_SOCKET, SO_DOMAIN));
  value("protocol", option(fd, SOL_SOCKET, SO_PROTOCOL));
  close(fd);
  begin("socketpair");
  int pair[2];
  value("of AF_INET", socketpair(AF_INET, SOCK_STREAM, 0, pair));
  value("bad pointer", socketpair(AF_UNIX, SOCK_STREAM, 0, static_cast<int*>(kBad)));
  begin("calls on what is no socket");
  const int file = open(".", O_RDONLY);
  value("bind", bind(file, nullptr, 0));
  value("listen", listen(file, 1));
  value("accept", accept(file, nullptr, nullptr));
  value("send", send(file, "x", 1, 0));
  value("recv", recv(file, buffer, 1, 0));
  value("shutdown", shutdown(file, SHUT_RD));
  value("getsockopt", option(file, SOL_SOCKET, SO_TYPE));
  value("closed", send(999, "x", 1, 0));
  close(file);
}

void pairs(int type, const char* name) {
  begin(name);
  int s[2];
  ok("pair", socketpair(AF_UNIX, type, 0, s));
  line("new", polled(s[0]));
  value("nothing", recv(s[0], buffer, 10, MSG_DONTWAIT));
  value("send", send(s[0], "abcdef", 6, 0));
  value("send more", write(s[0], "gh", 2));
  line("with data", polled(s[1]));
  int count = 0;
  value("FIONREAD", ioctl(s[1], FIONREAD, &count));
  value("bytes", count);
  value("peek", recv(s[1], buffer, 3, MSG_PEEK));
  value("recv of three", recv(s[1], buffer, 3, 0));
  line("what", std::string(buffer, 3));
  value("recv of the rest", recv(s[1], buffer, 100, 0));
  value("recv", recv(s[1], buffer, 100, MSG_DONTWAIT));
  value("send of nothing", send(s[0], "", 0, 0));
  value("recv of nothing", recv(s[1], buffer, 100, MSG_DONTWAIT));
  value("truncated", send(s[0], "0123456789", 10, 0));
  value("the whole length", recv(s[1], buffer, 4, MSG_TRUNC | MSG_DONTWAIT));
  value("behind it", recv(s[1], buffer, 100, MSG_DONTWAIT));
  iovec vectors[3] = {{buffer, 2}, {nullptr, 0}, {buffer + 10, 3}};
  ok("send", send(s[1], "vwxyz", 5, 0));
  value("readv", readv(s[0], vectors, 3));
  line("parts", std::string(buffer, 2) + " " + std::string(buffer + 10, 3));
  value("send from nowhere", send(s[0], kBad, 4, 0));
  ok("send", send(s[0], "kept", 4, 0));
  value("recv to nowhere", recv(s[1], kBad, 4, MSG_DONTWAIT));
  Name name_of;
  value("getsockname", getsockname(s[0], name_of.get(), &name_of.length));
  line("name", host_of(name_of));
  name_of.length = sizeof name_of.raw;
  value("getpeername", getpeername(s[0], name_of.get(), &name_of.length));
  line("peer", host_of(name_of));
  ucred ids{};
  socklen_t length = sizeof ids;
  value("SO_PEERCRED", getsockopt(s[0], SOL_SOCKET, SO_PEERCRED, &ids, &length));
  truth("ours", ids.pid == getpid() && ids.uid == getuid() && ids.gid == getgid());
  const std::vector<char> much(300'000);
  if (type != SOCK_STREAM) value("too long", send(s[0], much.data(), much.size(), MSG_DONTWAIT));
  while (recv(s[1], buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
  value("shutdown of a bad kind", shutdown(s[0], 7));
  ok("shutdown of writing", shutdown(s[0], SHUT_WR));
  value("send behind it", send(s[0], "x", 1, MSG_NOSIGNAL));
  line("the one", polled(s[0]));
  line("the other", polled(s[1]));
  if (type != SOCK_DGRAM) value("recv at the end", recv(s[1], buffer, 10, 0));
  value("the other way", send(s[1], "back", 4, 0));
  value("recv", recv(s[0], buffer, 10, 0));
  ok("send", send(s[1], "unread", 6, 0));
  close(s[0]);
  line("peer is gone", polled(s[1]));
  value("recv", recv(s[1], buffer, 10, MSG_DONTWAIT));
  value("recv again", recv(s[1], buffer, 10, MSG_DONTWAIT));
  value("send", send(s[1], "x", 1, MSG_NOSIGNAL));
  close(s[1]);
  if (type == SOCK_DGRAM) return;
  ok("pair", socketpair(AF_UNIX, type, 0, s));
  close(s[1]);
  line("peer is gone", polled(s[0]));
  value("recv", recv(s[0], buffer, 10, 0));
  value("send", send(s[0], "x", 1, MSG_NOSIGNAL));
  line("signal", in_child([&] {
         signal(SIGPIPE, SIG_DFL);
         return static_cast<int>(write(s[0], "x", 1));
       }));
  close(s[0]);
}

/// Sends descriptors along; 0 for none.
long send_files(int to, const char* text, const std::vector<int>& files, int flags = 0) {
  iovec vector{const_cast<char*>(text), std::strlen(text)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 300)] = {};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!files.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * files.size());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * files.size());
    std::memcpy(CMSG_DATA(header), files.data(), sizeof(int) * files.size());
  }
  return sendmsg(to, &message, flags);
}
/// What came: its length, flags and control messages; descriptors go to `files`.
std::string receive_message(int from, size_t size, size_t room, std::vector<int>* files = nullptr,
                            int flags = MSG_DONTWAIT) {
  iovec vector{buffer, size};
  alignas(cmsghdr) char control[4096] = {};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = room;
  const ssize_t count = recvmsg(from, &message, flags);
  if (count < 0) return result_of(count);
  std::string out = std::to_string(count) + " flags " + std::to_string(message.msg_flags);
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    const size_t length = header->cmsg_len - CMSG_LEN(0);
    out += " type " + std::to_string(header->cmsg_type) + " of " + std::to_string(length);
    if (header->cmsg_type != SCM_RIGHTS) {
      ucred ids{};
      std::memcpy(&ids, CMSG_DATA(header), sizeof ids);
      out += ids.pid == getpid() ? " ours" : " pid of another";
      continue;
    }
    std::vector<int> got(length / sizeof(int));
    std::memcpy(got.data(), CMSG_DATA(header), got.size() * sizeof(int));
    for (const int fd : got) {
      out += (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 ? " cloexec" : " plain";
      if (files != nullptr)
        files->push_back(fd);
      else
        close(fd);
    }
  }
  return out;
}

void rights() {
  begin("SCM_RIGHTS");
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    line("type", std::to_string(type));
    int s[2];
    int ends[2];
    ok("pair", socketpair(AF_UNIX, type, 0, s));
    ok("pipe", pipe(ends));
    value("send one", send_files(s[0], "one", {ends[0]}));
    value("send two", send_files(s[0], "two", {ends[0], ends[1]}));
    value("send none", send_files(s[0], "none", {}));
    std::vector<int> files;
    line("first", receive_message(s[1], 100, 256, &files));
    line("second, close on exec",
         receive_message(s[1], 100, 256, &files, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
    line("third", receive_message(s[1], 100, 256, &files));
    value("count", static_cast<long>(files.size()));
    if (files.size() == 3) {
      ok("write by the new one", write(files[2], "x", 1));
      value("read by the old one", read(ends[0], buffer, 1));
    }
    for (const int fd : files) close(fd);
    ok("send", send_files(s[0], "abc", {ends[0], ends[1]}));
    line("peek", receive_message(s[1], 1, 256, nullptr, MSG_PEEK | MSG_DONTWAIT));
    line("no room for two", receive_message(s[1], 100, CMSG_SPACE(sizeof(int)) - 4));
    ok("send", send_files(s[0], "abc", {ends[0]}));
    line("no room", receive_message(s[1], 100, 0));
    value("bad descriptor", send_files(s[0], "x", {999}));
    value("too many", send_files(s[0], "x", std::vector<int>(254, ends[0])));
    value("as many as can be", send_files(s[0], "x", std::vector<int>(253, ends[0])));
    files.clear();
    receive_message(s[1], 100, 4096, &files);
    value("came", static_cast<long>(files.size()));
    for (const int fd : files) close(fd);
    // The one who asks by recv alone loses them.
    ok("send", send_files(s[0], "y", {ends[1]}));
    value("recv", recv(s[1], buffer, 10, 0));
    // The last descriptor of a pipe's end is under way.
    ok("send", send_files(s[0], "w", {ends[1]}));
    close(ends[1]);
    value("not the end yet", fcntl(ends[0], F_SETFL, O_NONBLOCK));
    value("read", read(ends[0], buffer, 1));
    close(s[0]);
    close(s[1]);
    value("the end", read(ends[0], buffer, 1));
    close(ends[0]);
  }
  // A socket within itself, and two within each other.
  int first[2];
  ok("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, first));
  int ends[2];
  ok("pipe", pipe2(ends, O_NONBLOCK));
  value("within itself", send_files(first[0], "x", {first[1], ends[1]}));
  value("and the other", send_files(first[1], "x", {first[0]}));
  close(first[0]);
  close(first[1]);
  close(ends[1]);
  close(ends[0]);

  begin("SCM_CREDENTIALS");
  int s[2];
  ok("pair", socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  ok("before", send(s[0], "a", 1, 0));
  value("SO_PASSCRED", set_option(s[1], SOL_SOCKET, SO_PASSCRED, 1));
  value("it is on", option(s[1], SOL_SOCKET, SO_PASSCRED));
  ok("send", send(s[0], "b", 1, 0));
  line("ours", receive_message(s[1], 10, 256));
  line("the rest", receive_message(s[1], 10, 256));
  const pid_t child = fork();
  if (child == 0) _exit(send(s[0], "c", 1, 0) == 1 ? 0 : 1);
  waitpid(child, nullptr, 0);
  ok("send", send(s[0], "d", 1, 0));
  line("another's", receive_message(s[1], 10, 256));
  line("ours apart", receive_message(s[1], 10, 256));
  ok("with a file", send_files(s[0], "e", {0}));
  line("both", receive_message(s[1], 10, 256));
  close(s[0]);
  close(s[1]);
}

void messages() {
  begin("sendmsg");
  int s[2];
  ok("pair", socketpair(AF_UNIX, SOCK_DGRAM, 0, s));
  msghdr message{};
  iovec vectors[2] = {{const_cast<char*>("ab"), 2}, {const_cast<char*>("cde"), 3}};
  message.msg_iov = vectors;
  message.msg_iovlen = 2;
  value("two vectors", sendmsg(s[0], &message, 0));
  value("bad header", sendmsg(s[0], static_cast<msghdr*>(kBad), 0));
  message.msg_iovlen = 1025;
  value("too many vectors", sendmsg(s[0], &message, 0));
  message.msg_iovlen = 2;
  message.msg_iov = static_cast<iovec*>(kBad);
  value("bad vectors", sendmsg(s[0], &message, 0));
  message.msg_iov = vectors;
  alignas(cmsghdr) char control[64] = {};
  message.msg_control = control;
  message.msg_controllen = 64;
  value("control of length 0", sendmsg(s[0], &message, 0));
  auto* header = reinterpret_cast<cmsghdr*>(control);
  header->cmsg_len = 1000;
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  value("control beyond its end", sendmsg(s[0], &message, 0));
  header->cmsg_len = CMSG_LEN(4);
  header->cmsg_type = 77;
  value("control of unknown type", sendmsg(s[0], &message, 0));
  message.msg_control = kBad;
  value("bad control", sendmsg(s[0], &message, 0));
  begin("recvmsg");
  line("both parts", receive_message(s[1], 100, 0));
  ok("send", send(s[0], "0123456789", 10, 0));
  line("cut off", receive_message(s[1], 4, 0));
  begin("sendmmsg");
  mmsghdr many[3] = {};
  for (auto& one : many) {
    one.msg_hdr.msg_iov = vectors;
    one.msg_hdr.msg_iovlen = 2;
  }
  value("three", sendmmsg(s[0], many, 3, 0));
  value("length", many[2].msg_len);
  value("none", sendmmsg(s[0], many, 0, 0));
  value("bad", sendmmsg(s[0], static_cast<mmsghdr*>(kBad), 2, 0));
  begin("recvmmsg");
  iovec places[3] = {{buffer, 10}, {buffer + 10, 3}, {buffer + 20, 10}};
  for (int i = 0; i < 3; ++i) {
    many[i] = {};
    many[i].msg_hdr.msg_iov = &places[i];
    many[i].msg_hdr.msg_iovlen = 1;
  }
  value("two", recvmmsg(s[1], many, 2, 0, nullptr));
  value("whole", many[0].msg_len);
  value("cut off", many[1].msg_len);
  value("flags", many[1].msg_hdr.msg_flags);
  value("one is there", recvmmsg(s[1], many, 3, MSG_WAITFORONE, nullptr));
  value("nothing", recvmmsg(s[1], many, 3, MSG_DONTWAIT, nullptr));
  timespec bad{0, -1};
  value("bad time", recvmmsg(s[1], many, 3, MSG_DONTWAIT, &bad));
  close(s[0]);
  close(s[1]);
}

void names() {
  begin("unix names");
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  value("listen without a name", listen(listener, 1));
  Name name = unix_name("sock");
  value("too long", bind(listener, name.get(), 200));
  value("too short", bind(listener, name.get(), 1));
  value("bad address", bind(listener, static_cast<sockaddr*>(kBad), 10));
  Name below = unix_name("none/sock");
  value("no directory", bind(listener, below.get(), below.length));
  value("bind", bind(listener, name.get(), name.length));
  value("bind again", bind(listener, name.get(), name.length));
  struct stat s{};
  ok("stat", stat("sock", &s));
  value("mode", s.st_mode);
  value("open", open("sock", O_RDWR));
  line("getsockname", host_of(own_name(listener)));
  int other = socket(AF_UNIX, SOCK_STREAM, 0);
  value("name in use", bind(other, name.get(), name.length));
  value("nobody listens", connect(other, name.get(), name.length));
  value("accept without listen", accept(listener, nullptr, nullptr));
  value("listen", listen(listener, 1));
  value("SO_ACCEPTCONN", option(listener, SOL_SOCKET, SO_ACCEPTCONN));
  line("listening", polled(listener));
  line("not connected", polled(other));
  value("send", send(other, "x", 1, MSG_NOSIGNAL));
  value("recv", recv(other, buffer, 1, 0));
  value("shutdown", shutdown(other, SHUT_RD));
  value("getpeername", getpeername(other, name.get(), &name.length));
  name = unix_name("sock");
  value("connect", connect(other, name.get(), name.length));
  value("connect again", connect(other, name.get(), name.length));
  line("one waits", polled(listener));
  value("send before accept", send(other, "early", 5, 0));
  Name peer;
  const int accepted = accept4(listener, peer.get(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  ok("accept", accepted);
  line("peer", host_of(peer));
  value("flags", fcntl(accepted, F_GETFL) & O_NONBLOCK);
  value("close on exec", fcntl(accepted, F_GETFD));
  value("recv", recv(accepted, buffer, 10, 0));
  value("nothing more", recv(accepted, buffer, 10, 0));
  line("name of the accepted", host_of(own_name(accepted)));
  value("bad flags", accept4(listener, nullptr, nullptr, 1));
  close(accepted);
  close(other);
  value("nobody", (fcntl(listener, F_SETFL, O_NONBLOCK), accept(listener, nullptr, nullptr)));
  // The queue of one that listens for 0 holds one.
  ok("listen", listen(listener, 0));
  std::vector<int> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    value("connect", connect(clients.back(), name.get(), name.length));
  }
  close(listener);
  line("the listener is gone", polled(clients[0]));
  value("recv", recv(clients[0], buffer, 1, 0));
  for (const int fd : clients) close(fd);
  other = socket(AF_UNIX, SOCK_STREAM, 0);
  value("the name is left", connect(other, name.get(), name.length));
  int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
  value("unlink", unlink("sock"));
  value("gone", connect(other, name.get(), name.length));
  value("a file", (close(open("plain", O_CREAT | O_WRONLY, 0600)),
                   connect(other, unix_name("plain").get(), unix_name("plain").length)));
  ok("datagram", bind(datagram, name.get(), name.length));
  value("of another type", connect(other, name.get(), name.length));
  close(datagram);
  close(other);
  unlink("sock");

  begin("abstract names");
  Name abstract = unix_name(std::string("\0guest calls", 12));
  const int first = socket(AF_UNIX, SOCK_DGRAM, 0);
  const int second = socket(AF_UNIX, SOCK_DGRAM, 0);
  value("bind", bind(first, abstract.get(), abstract.length));
  value("in use", bind(second, abstract.get(), abstract.length));
  line("name", host_of(own_name(first)));
  value("sendto", sendto(second, "hello", 5, 0, abstract.get(), abstract.length));
  peer = {};
  value("recvfrom", recvfrom(first, buffer, 10, 0, peer.get(), &peer.length));
  value("no name", peer.length);
  sockaddr_un nothing{};
  nothing.sun_family = AF_UNIX;
  value("by itself", bind(second, reinterpret_cast<sockaddr*>(&nothing), sizeof(sa_family_t)));
  value("length of that", own_name(second).length);
  ok("sendto", sendto(second, "again", 5, 0, abstract.get(), abstract.length));
  peer = {};
  ok("recvfrom", recvfrom(first, buffer, 10, 0, peer.get(), &peer.length));
  value("an answer", sendto(first, "answer", 6, 0, peer.get(), peer.length));
  value("comes back", recv(second, buffer, 10, MSG_DONTWAIT));
  value("send without a peer", send(first, "x", 1, 0));
  value("connect", connect(second, abstract.get(), abstract.length));
  value("send", send(second, "y", 1, 0));
  value("connected to another", connect(first, abstract.get(), abstract.length));
  close(first);
  value("the peer is gone", send(second, "z", 1, MSG_NOSIGNAL));
  value("and forgotten", send(second, "z", 1, MSG_NOSIGNAL));
  value("listen", listen(second, 1));
  close(second);
}

int listening(uint32_t address = INADDR_LOOPBACK, int backlog = 5) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  Name name = inet_name(address, 0);
  if (bind(fd, name.get(), name.length) != 0 || listen(fd, backlog) != 0) _exit(8);
  return fd;
}
struct Pair {
  int client, server;
};
Pair connected(int listener) {
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  Name to = own_name(listener);
  if (connect(client, to.get(), to.length) != 0) _exit(7);
  return {client, accept(listener, nullptr, nullptr)};
}
void settle() { usleep(20'000); }

void tcp() {
  begin("TCP");
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  line("new", polled(fd));
  line("name", host_of(own_name(fd)));
  value("recv", recv(fd, buffer, 1, 0));
  value("send", send(fd, "x", 1, MSG_NOSIGNAL));
  value("accept", accept(fd, nullptr, nullptr));
  Name name = inet_name(INADDR_LOOPBACK, 0);
  value("too short", bind(fd, name.get(), 8));
  Name other_family = inet6_name(in6addr_loopback, 0);
  value("other family", bind(fd, other_family.get(), other_family.length));
  Name foreign = inet_name(0xc0000201, 0);
  value("not our address", bind(fd, foreign.get(), foreign.length));
  value("bind", bind(fd, name.get(), name.length));
  value("bind again", bind(fd, name.get(), name.length));
  truth("a port was chosen", port_of(fd) >= 32768);
  const int second = socket(AF_INET, SOCK_STREAM, 0);
  name = own_name(fd);
  value("in use", bind(second, name.get(), name.length));
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(second, SOL_SOCKET, SO_REUSEADDR, 1);
  value("refused", connect(second, name.get(), name.length));
  value("listen", listen(fd, 1));
  close(second);
  int nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  Name refused = inet_name(INADDR_LOOPBACK, 1);
  value("non-blocking, refused", connect(nonblocking, refused.get(), refused.length));
  settle();
  line("refused", polled(nonblocking));
  value("SO_ERROR", option(nonblocking, SOL_SOCKET, SO_ERROR));
  value("SO_ERROR again", option(nonblocking, SOL_SOCKET, SO_ERROR));
  close(nonblocking);
  nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  value("non-blocking", connect(nonblocking, name.get(), name.length));
  settle();
  line("connected", polled(nonblocking));
  value("SO_ERROR", option(nonblocking, SOL_SOCKET, SO_ERROR));
  value("connect tells it", connect(nonblocking, name.get(), name.length));
  value("once", connect(nonblocking, name.get(), name.length));
  line("one waits", polled(fd));
  Name peer;
  const int server = accept(fd, peer.get(), &peer.length);
  ok("accept", server);
  line("peer", host_of(peer));
  truth("its port",
        port_of(nonblocking) == ntohs(reinterpret_cast<sockaddr_in&>(peer.raw).sin_port));
  truth("our port", port_of(server) == port_of(fd));
  value("nothing yet", recv(nonblocking, buffer, 1, 0));
  value("send", send(server, "hello", 5, 0));
  settle();
  line("readable", polled(nonblocking));
  value("recv", recv(nonblocking, buffer, 100, 0));
  fcntl(nonblocking, F_SETFL, 0);
  ok("send", send(server, "ab", 2, 0));
  std::vector<char> all(4);
  pthread_t thread;
  struct Later {
    int fd;
  } later{server};
  pthread_create(
      &thread, nullptr,
      [](void* raw) -> void* {
        usleep(20'000);
        if (send(static_cast<Later*>(raw)->fd, "cd", 2, MSG_NOSIGNAL) != 2) _exit(9);
        return nullptr;
      },
      &later);
  value("MSG_WAITALL", recv(nonblocking, all.data(), 4, MSG_WAITALL));
  pthread_join(thread, nullptr);
  value("to an address", sendto(server, "x", 1, 0, foreign.get(), foreign.length));
  value("recv", recv(nonblocking, buffer, 10, 0));
  ok("shutdown of writing", shutdown(server, SHUT_WR));
  settle();
  line("half closed", polled(nonblocking));
  line("the closed half", polled(server));
  value("recv", recv(nonblocking, buffer, 10, 0));
  value("the other half", send(nonblocking, "tail", 4, 0));
  settle();
  value("recv", recv(server, buffer, 10, 0));
  value("send", send(server, "x", 1, MSG_NOSIGNAL));
  close(server);
  close(nonblocking);

  begin("TCP ends");
  Pair ends = connected(fd);
  close(ends.server);
  settle();
  line("closed", polled(ends.client));
  value("first send", send(ends.client, "x", 1, MSG_NOSIGNAL));
  settle();
  value("second send", send(ends.client, "x", 1, MSG_NOSIGNAL));
  value("recv", recv(ends.client, buffer, 1, 0));
  close(ends.client);
  ends = connected(fd);
  ok("unread", send(ends.client, "unread", 6, 0));
  settle();
  close(ends.server);
  settle();
  line("reset", polled(ends.client));
  value("recv", recv(ends.client, buffer, 1, 0));
  value("recv again", recv(ends.client, buffer, 1, 0));
  value("send", send(ends.client, "x", 1, MSG_NOSIGNAL));
  value("getpeername", getpeername(ends.client, peer.get(), &peer.length));
  close(ends.client);
  ends = connected(fd);
  linger now{1, 0};
  ok("SO_LINGER", setsockopt(ends.server, SOL_SOCKET, SO_LINGER, &now, sizeof now));
  ok("last words", send(ends.server, "last", 4, 0));
  settle();
  close(ends.server);
  settle();
  value("reset", option(ends.client, SOL_SOCKET, SO_ERROR));
  close(ends.client);
  ends = connected(fd);
  line("signal", in_child([&] {
         close(ends.server);
         return 0;
       }));
  shutdown(ends.client, SHUT_WR);
  line("SIGPIPE", in_child([&] {
         signal(SIGPIPE, SIG_DFL);
         return static_cast<int>(write(ends.client, "x", 1));
       }));
  ok("both", shutdown(ends.client, SHUT_RDWR));
  value("recv", recv(ends.client, buffer, 1, 0));
  close(ends.client);
  close(ends.server);
  // Waiting ones are reset with their listener.
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  name = own_name(fd);
  ok("connect", connect(client, name.get(), name.length));
  close(fd);
  settle();
  value("the listener is gone", recv(client, buffer, 1, 0));
  close(client);

  begin("TCP options");
  fd = socket(AF_INET, SOCK_STREAM, 0);
  struct {
    const char* name;
    int level, option, set;
  } const options[] = {{"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, 1},
                       {"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, 1},
                       {"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 5},
                       {"SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, 1},
                       {"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, 1},
                       {"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 10000},
                       {"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, 10000},
                       {"SO_RCVBUF small", SOL_SOCKET, SO_RCVBUF, 1},
                       {"SO_SNDBUF small", SOL_SOCKET, SO_SNDBUF, 1},
                       {"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, 3},
                       {"SO_TYPE", SOL_SOCKET, SO_TYPE, 1},
                       {"SO_PASSCRED", SOL_SOCKET, SO_PASSCRED, 1},
                       {"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1},
                       {"TCP_CORK", IPPROTO_TCP, TCP_CORK, 1},
                       {"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 60},
                       {"TCP_KEEPIDLE 0", IPPROTO_TCP, TCP_KEEPIDLE, 0},
                       {"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 3},
                       {"TCP_KEEPCNT 200", IPPROTO_TCP, TCP_KEEPCNT, 200},
                       {"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 1000},
                       {"IP_TTL", IPPROTO_IP, IP_TTL, 12},
                       {"IP_TOS", IPPROTO_IP, IP_TOS, 16},
                       {"unknown level", 12345, 1, 1},
                       {"unknown of SOL_SOCKET", SOL_SOCKET, 5000, 1},
                       {"unknown of TCP", IPPROTO_TCP, 5000, 1}};
  for (const auto& one : options) {
    value(std::string(one.name) + " set", set_option(fd, one.level, one.option, one.set));
    value(std::string(one.name) + " get", option(fd, one.level, one.option));
  }
  value("short value", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, "x", 1));
  value("bad value", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, kBad, 4));
  value("negative length", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, buffer, -1u));
  timeval timeout{0, 30'000};
  value("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  timeout.tv_usec = 1'000'000;
  value("bad SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  socklen_t length = sizeof timeout;
  value("get SO_RCVTIMEO", getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length));
  value("length", length);
  char congestion[16] = {};
  length = sizeof congestion;
  value("TCP_INFO", (length = 8, getsockopt(fd, IPPROTO_TCP, TCP_INFO, buffer, &length)));
  value("state", buffer[0]);
  close(fd);

  begin("timeouts");
  const int listener = listening();
  ends = connected(listener);
  timeout = {0, 30'000};
  setsockopt(ends.client, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  value("recv", recv(ends.client, buffer, 1, 0));
  setsockopt(ends.client, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  long sent = 0;
  for (int i = 0; i < 200 && sent >= 0; ++i) sent = send(ends.client, buffer, sizeof buffer, 0);
  value("send at last", sent);
  line("full", polled(ends.client));
  size_t drained = 0;
  for (ssize_t got = 1; got > 0;) {
    got = recv(ends.server, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) drained += static_cast<size_t>(got);
    if (got <= 0) {
      settle();
      got = recv(ends.server, buffer, sizeof buffer, MSG_DONTWAIT);
    }
  }
  line("room again", polled(ends.client));
  close(ends.client);
  close(ends.server);
  close(listener);
}

/// What cannot be stored stays where it is.
void faults(const char* name, int from, int to) {
  begin(name);
  void* const fixed = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  value("send", send(from, "hello", 5, 0));
  settle();
  value("to a bad pointer", recv(to, reinterpret_cast<void*>(8), 5, 0));
  value("to memory that cannot be written", recv(to, fixed, 5, 0));
  value("read", read(to, fixed, 5));
  value("peek", recv(to, fixed, 5, MSG_PEEK));
  const ssize_t got = recv(to, buffer, 3, 0);
  line("what is there then", std::string(buffer, got > 0 ? static_cast<size_t>(got) : 0));
  value("send more", send(from, "!", 1, 0));
  settle();
  value("to a bad pointer again", read(to, reinterpret_cast<void*>(8), 16));
  const ssize_t rest = recv(to, buffer, 16, 0);
  line("the rest", std::string(buffer, rest > 0 ? static_cast<size_t>(rest) : 0));
  munmap(fixed, 4096);
  close(from);
  close(to);
}

void faults() {
  int ends[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  faults("a stream's bytes that cannot be stored", ends[0], ends[1]);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const at = reinterpret_cast<sockaddr*>(&address);
  bind(listener, at, length);
  listen(listener, 1);
  getsockname(listener, at, &length);
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  connect(ends[0], at, length);
  ends[1] = accept(listener, nullptr, nullptr);
  close(listener);
  faults("TCP's bytes that cannot be stored", ends[0], ends[1]);
}

void many() {
  begin("a lot through a small buffer");
  const int listener = listening();
  const Pair ends = connected(listener);
  constexpr size_t kTotal = 8 << 20;
  const pid_t child = fork();
  if (child == 0) {
    std::vector<char> data(kTotal);
    for (size_t i = 0; i < kTotal; ++i) data[i] = static_cast<char>(i * 7 + i / 251);
    size_t done = 0;
    while (done < kTotal) {
      const ssize_t sent = send(ends.client, &data[done], kTotal - done, 0);
      if (sent <= 0) _exit(1);
      done += static_cast<size_t>(sent);
    }
    _exit(0);
  }
  close(ends.client);
  size_t at = 0;
  bool same = true;
  for (;;) {
    const ssize_t got = recv(ends.server, buffer, 100'000, 0);
    if (got <= 0) break;
    for (ssize_t i = 0; i < got; ++i, ++at)
      same = same && buffer[i] == static_cast<char>(at * 7 + at / 251);
  }
  value("bytes", static_cast<long>(at));
  truth("the same", same);
  int status = 0;
  waitpid(child, &status, 0);
  value("sender", status);
  close(ends.server);
  close(listener);
}

void both_families() {
  begin("IPv6");
  const int six = socket(AF_INET6, SOCK_STREAM, 0);
  value("IPV6_V6ONLY", option(six, IPPROTO_IPV6, IPV6_V6ONLY));
  value("off", set_option(six, IPPROTO_IPV6, IPV6_V6ONLY, 0));
  Name any = inet6_name(in6addr_any, 0);
  value("bind", bind(six, any.get(), any.length));
  value("V6ONLY when bound", set_option(six, IPPROTO_IPV6, IPV6_V6ONLY, 1));
  value("listen", listen(six, 5));
  const uint16_t port = port_of(six);
  const int four = socket(AF_INET, SOCK_STREAM, 0);
  Name taken = inet_name(INADDR_ANY, port);
  value("the port of IPv4 is taken", bind(four, taken.get(), taken.length));
  Name to = inet_name(INADDR_LOOPBACK, port);
  value("by IPv4", connect(four, to.get(), to.length));
  Name peer;
  int server = accept(six, peer.get(), &peer.length);
  line("peer", host_of(peer));
  line("own", host_of(own_name(server)));
  close(server);
  close(four);
  int client = socket(AF_INET6, SOCK_STREAM, 0);
  to = inet6_name(in6addr_loopback, port);
  value("by IPv6", connect(client, to.get(), to.length));
  peer = {};
  server = accept(six, peer.get(), &peer.length);
  line("peer", host_of(peer));
  value("length", peer.length);
  close(server);
  close(client);
  client = socket(AF_INET6, SOCK_STREAM, 0);
  in6_addr mapped{};
  inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped);
  to = inet6_name(mapped, port);
  value("by a mapped address", connect(client, to.get(), to.length));
  line("own", host_of(own_name(client)));
  peer = {};
  getpeername(client, peer.get(), &peer.length);
  line("peer", host_of(peer));
  close(client);
  close(six);
  const int only = socket(AF_INET6, SOCK_STREAM, 0);
  ok("only", set_option(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
  any = inet6_name(in6addr_any, 0);
  ok("bind", bind(only, any.get(), any.length));
  ok("listen", listen(only, 1));
  const int beside = socket(AF_INET, SOCK_STREAM, 0);
  to = inet_name(INADDR_ANY, port_of(only));
  value("IPv4 beside it", bind(beside, to.get(), to.length));
  to = inet_name(INADDR_LOOPBACK, port_of(only));
  const int refused = socket(AF_INET, SOCK_STREAM, 0);
  value("refused", connect(refused, to.get(), to.length));
  close(refused);
  close(only);
  close(beside);

  begin("SO_REUSEPORT");
  int shared[2];
  for (int& fd : shared) {
    fd = socket(AF_INET, SOCK_STREAM, 0);
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  }
  Name name = inet_name(INADDR_LOOPBACK, 0);
  ok("first", bind(shared[0], name.get(), name.length));
  name = own_name(shared[0]);
  value("second", bind(shared[1], name.get(), name.length));
  value("listen", listen(shared[0], 1));
  value("listen", listen(shared[1], 1));
  const int third = socket(AF_INET, SOCK_STREAM, 0);
  value("without it", bind(third, name.get(), name.length));
  for (const int fd : {shared[0], shared[1], third}) close(fd);
}

void udp() {
  begin("UDP");
  const int server = socket(AF_INET, SOCK_DGRAM, 0);
  line("new", polled(server));
  Name name = inet_name(INADDR_LOOPBACK, 0);
  value("bind", bind(server, name.get(), name.length));
  name = own_name(server);
  const int client = socket(AF_INET, SOCK_DGRAM, 0);
  value("send without a peer", send(client, "x", 1, 0));
  value("sendto", sendto(client, "hello", 5, 0, name.get(), name.length));
  truth("a port was chosen", port_of(client) != 0);
  line("own", host_of(own_name(client)));
  settle();
  line("readable", polled(server));
  int count = 0;
  ioctl(server, FIONREAD, &count);
  value("FIONREAD", count);
  Name peer;
  value("recvfrom", recvfrom(server, buffer, 3, MSG_TRUNC, peer.get(), &peer.length));
  line("peer", host_of(peer));
  value("nothing more", recv(server, buffer, 3, MSG_DONTWAIT));
  value("empty", sendto(client, "", 0, 0, name.get(), name.length));
  settle();
  value("recv", recv(server, buffer, 3, MSG_DONTWAIT));
  value("too long", sendto(client, buffer, 65508, 0, name.get(), name.length));
  value("port 0", sendto(client, "x", 1, 0, inet_name(INADDR_LOOPBACK, 0).get(), name.length));
  value("connect", connect(client, name.get(), name.length));
  line("own", host_of(own_name(client)));
  value("send", send(client, "one", 3, 0));
  value("write", write(client, "two", 3));
  settle();
  value("recv", recv(server, buffer, 10, 0));
  value("recv", read(server, buffer, 10));
  const int stranger = socket(AF_INET, SOCK_DGRAM, 0);
  Name own = own_name(client);
  ok("a stranger sends", sendto(stranger, "s", 1, 0, own.get(), own.length));
  settle();
  value("it is not heard", recv(client, buffer, 10, MSG_DONTWAIT));
  ok("the peer sends", sendto(server, "p", 1, 0, own.get(), own.length));
  settle();
  value("it is heard", recv(client, buffer, 10, MSG_DONTWAIT));
  close(server);
  value("nobody there", send(client, "x", 1, 0));
  settle();
  line("refused", polled(client));
  value("recv", recv(client, buffer, 10, MSG_DONTWAIT));
  value("recv again", recv(client, buffer, 10, MSG_DONTWAIT));
  Name unspecified{};
  unspecified.raw.ss_family = AF_UNSPEC;
  value("disconnect", connect(client, unspecified.get(), sizeof(sockaddr_in)));
  value("getpeername", getpeername(client, peer.get(), &peer.length));
  value("shutdown", shutdown(client, SHUT_RD));
  value("listen", listen(client, 1));
  value("accept", accept(client, nullptr, nullptr));
  close(client);
  close(stranger);
  const int six = socket(AF_INET6, SOCK_DGRAM, 0);
  Name any = inet6_name(in6addr_any, 0);
  ok("IPv6", bind(six, any.get(), any.length));
  const int four = socket(AF_INET, SOCK_DGRAM, 0);
  Name to = inet_name(INADDR_LOOPBACK, port_of(six));
  ok("by IPv4", sendto(four, "m", 1, 0, to.get(), to.length));
  settle();
  peer = {};
  ok("recvfrom", recvfrom(six, buffer, 10, MSG_DONTWAIT, peer.get(), &peer.length));
  line("peer", host_of(peer));
  value("answer", sendto(six, "a", 1, 0, peer.get(), peer.length));
  settle();
  value("recv", recv(four, buffer, 10, MSG_DONTWAIT));
  close(six);
  close(four);
}

void watched() {
  begin("sockets in an epoll");
  const int epoll = epoll_create1(0);
  const auto wait = [&](const char* what) {
    epoll_event event{};
    const int count = epoll_wait(epoll, &event, 1, 0);
    line(what, std::to_string(count) + " " + std::to_string(count > 0 ? event.events : 0));
  };
  const int listener = listening();
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  ok("listener", epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event));
  wait("nobody");
  const Pair ends = connected(listener);
  wait("the edge stays");
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  ok("client", epoll_ctl(epoll, EPOLL_CTL_ADD, ends.client, &event));
  wait("writable");
  wait("no edge");
  ok("send", send(ends.server, "x", 1, 0));
  settle();
  wait("readable");
  wait("no edge");
  ok("send", send(ends.server, "y", 1, 0));
  settle();
  wait("another edge");
  close(ends.server);
  settle();
  wait("the end");
  close(ends.client);
  wait("closed");
  close(listener);
  close(epoll);
}

}  // namespace

void sockets() {
  signal(SIGPIPE, SIG_IGN);
  making();
  pairs(SOCK_STREAM, "unix stream");
  pairs(SOCK_SEQPACKET, "unix packets");
  pairs(SOCK_DGRAM, "unix datagrams");
  rights();
  messages();
  names();
  tcp();
  faults();
  many();
  both_families();
  udp();
  watched();
  signal(SIGPIPE, SIG_DFL);
}

}  // namespace calls
