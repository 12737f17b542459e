#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

constexpr uint32_t kGroup = 0xe0010203;  // 224.1.2.3
constexpr int kPort = 24680;

int set(int fd, int level, int option, int number) {
  return setsockopt(fd, level, option, &number, sizeof number);
}
std::string get(int fd, int level, int option) {
  unsigned char value[64];
  socklen_t length = sizeof value;
  if (getsockopt(fd, level, option, value, &length) != 0) return result_of(-1);
  std::string out;
  char text[3];
  for (socklen_t i = 0; i < length; ++i) {
    std::snprintf(text, sizeof text, "%02x", value[i]);
    out += text;
  }
  return out;
}

sockaddr_in v4(uint32_t address, int port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_addr.s_addr = htonl(address);
  out.sin_port = htons(static_cast<uint16_t>(port));
  return out;
}
sockaddr_in6 v6(const char* address, int port, uint32_t scope = 0) {
  sockaddr_in6 out{};
  out.sin6_family = AF_INET6;
  inet_pton(AF_INET6, address, &out.sin6_addr);
  out.sin6_port = htons(static_cast<uint16_t>(port));
  out.sin6_scope_id = scope;
  return out;
}
template <class Address>
const sockaddr* raw(const Address& at) {
  return reinterpret_cast<const sockaddr*>(&at);
}
template <class Address>
long send_to(int fd, const Address& at, const char* text = "x") {
  return sendto(fd, text, std::strlen(text), 0, raw(at), sizeof at);
}
template <class Address>
int bound(int family, const Address& at) {
  const int fd = socket(family, SOCK_DGRAM, 0);
  bind(fd, raw(at), sizeof at);
  const timeval soon{2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  return fd;
}

/// A message with control messages that are put together by hand.
class Control {
 public:
  template <class T>
  Control& add(int level, int type, const T& value, size_t size = sizeof(T)) {
    const size_t at = bytes_.size();
    bytes_.resize(at + CMSG_SPACE(size));
    const cmsghdr header{CMSG_LEN(size), level, type};
    std::memcpy(&bytes_[at], &header, sizeof header);
    std::memcpy(&bytes_[at + CMSG_LEN(0)], &value, std::min(size, sizeof value));
    return *this;
  }
  template <class Address>
  long send(int fd, const Address& to) {
    Address name = to;
    char text[] = "message";
    iovec part{text, 7};
    msghdr message{};
    message.msg_name = &name;
    message.msg_namelen = sizeof name;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = bytes_.data();
    message.msg_controllen = bytes_.size();
    return sendmsg(fd, &message, 0);
  }

 private:
  std::vector<char> bytes_;
};

bool is_time(const cmsghdr& at) {
  return at.cmsg_level == SOL_SOCKET &&
         (at.cmsg_type == SO_TIMESTAMP || at.cmsg_type == SO_TIMESTAMPNS);
}

/// What came with a message: each control message with its bytes; times as "soon".
std::string receive(int fd, size_t room = 512, int flags = 0) {
  alignas(cmsghdr) char control[512];
  char text[256];
  iovec part{text, sizeof text};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = room;
  const long got = recvmsg(fd, &message, flags);
  if (got < 0) return result_of(-1);
  std::string out = std::to_string(got);
  for (cmsghdr* at = CMSG_FIRSTHDR(&message); at != nullptr; at = CMSG_NXTHDR(&message, at)) {
    out += " " + std::to_string(at->cmsg_level) + "/" + std::to_string(at->cmsg_type) + "=";
    const size_t length = at->cmsg_len - CMSG_LEN(0);
    const auto* data = CMSG_DATA(at);
    if (is_time(*at) && length == 16) {
      int64_t value[2];
      std::memcpy(value, data, sizeof value);
      const int64_t most = at->cmsg_type == SO_TIMESTAMP ? 1'000'000 : 1'000'000'000;
      const bool near = value[0] >= time(nullptr) - 60 && value[0] <= time(nullptr) + 1;
      out += near && value[1] >= 0 && value[1] < most ? "soon" : "wrong";
      continue;
    }
    char digits[3];
    for (size_t i = 0; i < length; ++i) {
      std::snprintf(digits, sizeof digits, "%02x", data[i]);
      out += digits;
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) out += " CTRUNC";
  if ((message.msg_flags & MSG_TRUNC) != 0) out += " TRUNC";
  if (message.msg_controllen > room) out += " longer than there was room";
  return out;
}

void of_ipv4() {
  begin("packets of IPv4");
  const sockaddr_in at = v4(INADDR_LOOPBACK, kPort);
  const int server = bound(AF_INET, at);
  const int client = socket(AF_INET, SOCK_DGRAM, 0);
  ok("sendto", send_to(client, at));
  line("nothing was asked for", receive(server));
  for (const int option : {IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR})
    value("option " + std::to_string(option), set(server, IPPROTO_IP, option, 1));
  ok("sendto", send_to(client, at));
  line("all", receive(server));
  ok("TTL 23", set(client, IPPROTO_IP, IP_TTL, 23));
  ok("TOS 16", set(client, IPPROTO_IP, IP_TOS, 16));
  ok("sendto", send_to(client, at));
  line("all", receive(server, 512, MSG_PEEK));
  line("again", receive(server));
  for (const int number : {0, 1, 255, 256, -1}) {
    value("TTL of a message", Control().add(IPPROTO_IP, IP_TTL, number).send(client, at));
    value("TOS of a message", Control().add(IPPROTO_IP, IP_TOS, number).send(client, at));
  }
  for (std::string got; (got = receive(server, 512, MSG_DONTWAIT)) != "EAGAIN";) line("got", got);
  const char byte = 8;
  ok("TOS in a byte", Control().add(IPPROTO_IP, IP_TOS, byte).send(client, at));
  line("got", receive(server));
  value("TTL in a byte", Control().add(IPPROTO_IP, IP_TTL, byte).send(client, at));
  value("of IPv6", Control().add(IPPROTO_IPV6, IPV6_HOPLIMIT, 1).send(client, at));
  value("of TCP", Control().add(IPPROTO_TCP, 1, 1).send(client, at));
  value("unknown", Control().add(IPPROTO_IP, 99, 1).send(client, at));
  value("of the socket", Control().add(SOL_SOCKET, 99, 1).send(client, at));
  value("descriptors", Control().add(SOL_SOCKET, SCM_RIGHTS, 0).send(client, at));
  in_pktinfo info{};
  info.ipi_spec_dst.s_addr = htonl(0x7f000005);
  ok("a source", Control().add(IPPROTO_IP, IP_PKTINFO, info).send(client, at));
  for (std::string got; (got = receive(server, 512, MSG_DONTWAIT)) != "EAGAIN";) line("got", got);
  info.ipi_spec_dst.s_addr = htonl(0x08080808);
  value("a source of others", Control().add(IPPROTO_IP, IP_PKTINFO, info).send(client, at));
  info = {};
  info.ipi_ifindex = 99;
  value("a device that is not", Control().add(IPPROTO_IP, IP_PKTINFO, info).send(client, at));
  info.ipi_ifindex = 1;
  value("lo", Control().add(IPPROTO_IP, IP_PKTINFO, info).send(client, at));
  value("too short", Control().add(IPPROTO_IP, IP_PKTINFO, info, 8).send(client, at));
  for (const size_t room : {0, 8, 16, 20, 28, 32, 40, 52, 56, 72, 80})
    if (send_to(client, at) == 1) line("room " + std::to_string(room), receive(server, room));
  close(client);
  close(server);
}

void of_ipv6() {
  begin("packets of IPv6");
  const sockaddr_in6 at = v6("::1", kPort);
  const int server = bound(AF_INET6, v6("::", kPort));
  const int client = socket(AF_INET6, SOCK_DGRAM, 0);
  for (const int option : {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_RECVRTHDR,
                           IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS, IPV6_RECVPATHMTU, IPV6_DONTFRAG})
    value("option " + std::to_string(option), set(server, IPPROTO_IPV6, option, 1));
  ok("sendto", send_to(client, at));
  line("all", receive(server));
  ok("hops 7", set(client, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7));
  ok("class 12", set(client, IPPROTO_IPV6, IPV6_TCLASS, 12));
  ok("sendto", send_to(client, at));
  line("all", receive(server));
  for (const int number : {-2, -1, 0, 1, 255, 256}) {
    value("hop limit of a message",
          Control().add(IPPROTO_IPV6, IPV6_HOPLIMIT, number).send(client, at));
    value("class of a message", Control().add(IPPROTO_IPV6, IPV6_TCLASS, number).send(client, at));
  }
  for (std::string got; (got = receive(server, 512, MSG_DONTWAIT)) != "EAGAIN";) line("got", got);
  const char byte = 8;
  value("hop limit in a byte", Control().add(IPPROTO_IPV6, IPV6_HOPLIMIT, byte).send(client, at));
  value("do not fragment", Control().add(IPPROTO_IPV6, IPV6_DONTFRAG, 1).send(client, at));
  value("do not fragment 2", Control().add(IPPROTO_IPV6, IPV6_DONTFRAG, 2).send(client, at));
  value("of IPv4", Control().add(IPPROTO_IP, IP_TTL, 1).send(client, at));
  value("unknown", Control().add(IPPROTO_IPV6, 99, 1).send(client, at));
  in6_pktinfo info{};
  info.ipi6_addr = in6addr_loopback;
  ok("a source", Control().add(IPPROTO_IPV6, IPV6_PKTINFO, info).send(client, at));
  inet_pton(AF_INET6, "2001:db8::1", &info.ipi6_addr);
  value("a source of others", Control().add(IPPROTO_IPV6, IPV6_PKTINFO, info).send(client, at));
  info = {};
  info.ipi6_ifindex = 99;
  value("a device that is not", Control().add(IPPROTO_IPV6, IPV6_PKTINFO, info).send(client, at));
  value("too short", Control().add(IPPROTO_IPV6, IPV6_PKTINFO, info, 8).send(client, at));
  for (std::string got; (got = receive(server, 512, MSG_DONTWAIT)) != "EAGAIN";) line("got", got);
  for (const size_t room : {0, 16, 20, 36, 40, 56, 60, 64, 80, 84, 88})
    if (send_to(client, at) == 1) line("room " + std::to_string(room), receive(server, room));
  begin("packets of IPv4 to IPv6");
  const int four = socket(AF_INET, SOCK_DGRAM, 0);
  ok("sendto", send_to(four, v4(INADDR_LOOPBACK, kPort)));
  line("options of IPv6", receive(server));
  ok("TTL", set(server, IPPROTO_IP, IP_RECVTTL, 1));
  ok("TOS", set(server, IPPROTO_IP, IP_RECVTOS, 1));
  ok("sendto", send_to(four, v4(INADDR_LOOPBACK, kPort)));
  line("and of IPv4", receive(server));
  ok("by a mapped address",
     Control().add(IPPROTO_IP, IP_TTL, 9).send(client, v6("::ffff:127.0.0.1", kPort)));
  line("got", receive(server));
  close(four);
  close(client);
  close(server);
}

void times_of_packets() {
  begin("times of packets");
  const sockaddr_in at = v4(INADDR_LOOPBACK, kPort);
  const int server = bound(AF_INET, at);
  const int client = socket(AF_INET, SOCK_DGRAM, 0);
  ok("sendto", send_to(client, at));
  value("SO_TIMESTAMP", set(server, SOL_SOCKET, SO_TIMESTAMP, 1));
  line("from before", receive(server));
  ok("sendto", send_to(client, at));
  ok("TTL", set(server, IPPROTO_IP, IP_RECVTTL, 1));
  line("got", receive(server));
  value("SO_TIMESTAMPNS", set(server, SOL_SOCKET, SO_TIMESTAMPNS, 1));
  line("the other is off", get(server, SOL_SOCKET, SO_TIMESTAMP));
  ok("sendto", send_to(client, at));
  line("got", receive(server));
  value("off", set(server, SOL_SOCKET, SO_TIMESTAMPNS, 0));
  ok("sendto", send_to(client, at));
  line("got", receive(server));
  close(client);
  close(server);
  int ends[2];
  ok("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
  value("SO_TIMESTAMP", set(ends[1], SOL_SOCKET, SO_TIMESTAMP, 1));
  value("send", send(ends[0], "x", 1, 0));
  line("got", receive(ends[1]));
  close(ends[0]);
  close(ends[1]);
}

void options() {
  for (const auto& [name, family, type] : {std::tuple("options of UDP", AF_INET, SOCK_DGRAM),
                                           {"options of UDP6", AF_INET6, SOCK_DGRAM},
                                           {"options of TCP", AF_INET, SOCK_STREAM},
                                           {"options of TCP6", AF_INET6, SOCK_STREAM}}) {
    begin(name);
    const auto sweep = [&](int level, std::initializer_list<int> list) {
      for (const int option : list) {
        std::string answers;
        for (const int number : {0, 1, 2, -1, 300}) {
          const int fd = socket(family, type, 0);
          if (answers.empty()) answers = get(fd, level, option);
          const int done = set(fd, level, option, number);
          answers += " " + std::to_string(number) + "=" +
                     (done == 0 ? get(fd, level, option) : result_of(done));
          close(fd);
        }
        line(std::to_string(level) + "/" + std::to_string(option), answers);
      }
    };
    sweep(IPPROTO_IP, {IP_TOS,
                       IP_TTL,
                       IP_HDRINCL,
                       IP_ROUTER_ALERT,
                       IP_RECVOPTS,
                       IP_RETOPTS,
                       IP_PKTINFO,
                       IP_MTU_DISCOVER,
                       IP_RECVERR,
                       IP_RECVTTL,
                       IP_RECVTOS,
                       IP_FREEBIND,
                       IP_PASSSEC,
                       IP_RECVORIGDSTADDR,
                       IP_MINTTL,
                       IP_CHECKSUM,
                       IP_BIND_ADDRESS_NO_PORT,
                       25,
                       26,
                       IP_MULTICAST_IF,
                       IP_MULTICAST_TTL,
                       IP_MULTICAST_LOOP,
                       IP_MULTICAST_ALL,
                       IP_UNICAST_IF,
                       IP_MTU});
    if (family == AF_INET6)
      sweep(IPPROTO_IPV6, {2,
                           3,
                           4,
                           5,
                           8,
                           11,
                           IPV6_UNICAST_HOPS,
                           IPV6_MULTICAST_IF,
                           IPV6_MULTICAST_HOPS,
                           IPV6_MULTICAST_LOOP,
                           IPV6_ROUTER_ALERT,
                           IPV6_MTU_DISCOVER,
                           IPV6_MTU,
                           IPV6_RECVERR,
                           IPV6_V6ONLY,
                           29,
                           30,
                           31,
                           33,
                           IPV6_RECVPKTINFO,
                           IPV6_RECVHOPLIMIT,
                           IPV6_RECVHOPOPTS,
                           IPV6_HOPOPTS,
                           IPV6_RTHDRDSTOPTS,
                           IPV6_RECVRTHDR,
                           IPV6_RTHDR,
                           IPV6_RECVDSTOPTS,
                           IPV6_DSTOPTS,
                           IPV6_RECVPATHMTU,
                           IPV6_DONTFRAG,
                           IPV6_RECVTCLASS,
                           IPV6_TCLASS,
                           IPV6_AUTOFLOWLABEL,
                           IPV6_MINHOPCOUNT,
                           74,
                           IPV6_UNICAST_IF,
                           IPV6_RECVFRAGSIZE,
                           IPV6_FREEBIND});
    sweep(SOL_SOCKET, {SO_DEBUG,
                       SO_REUSEADDR,
                       SO_DONTROUTE,
                       SO_BROADCAST,
                       SO_KEEPALIVE,
                       SO_OOBINLINE,
                       SO_NO_CHECK,
                       SO_PRIORITY,
                       SO_BSDCOMPAT,
                       SO_REUSEPORT,
                       SO_DETACH_FILTER,
                       SO_TIMESTAMP,
                       SO_ACCEPTCONN,
                       SO_TIMESTAMPNS,
                       SO_MARK,
                       SO_RXQ_OVFL,
                       SO_LOCK_FILTER,
                       SO_SELECT_ERR_QUEUE,
                       SO_BPF_EXTENSIONS,
                       SO_INCOMING_NAPI_ID,
                       63,
                       64});
    if (type == SOCK_STREAM)
      sweep(IPPROTO_TCP, {TCP_NODELAY, TCP_MAXSEG, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL,
                          TCP_KEEPCNT, TCP_SYNCNT, TCP_THIN_LINEAR_TIMEOUTS, TCP_USER_TIMEOUT,
                          TCP_FASTOPEN, TCP_NOTSENT_LOWAT, TCP_ULP});
  }
}

long change_group(int fd, int option, uint32_t group, uint32_t address, int device = 0) {
  const ip_mreqn asked{{htonl(group)}, {htonl(address)}, device};
  return setsockopt(fd, IPPROTO_IP, option, &asked, sizeof asked);
}
long change_group6(int fd, int option, const char* group, unsigned device) {
  ipv6_mreq asked{};
  inet_pton(AF_INET6, group, &asked.ipv6mr_multiaddr);
  asked.ipv6mr_interface = device;
  return setsockopt(fd, IPPROTO_IPV6, option, &asked, sizeof asked);
}

void groups() {
  begin("groups of IPv4");
  const int one = bound(AF_INET, v4(INADDR_ANY, kPort));
  value("by no route", change_group(one, IP_ADD_MEMBERSHIP, kGroup, INADDR_ANY));
  value("by loopback", change_group(one, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  value("again", change_group(one, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  value("by another of its addresses", change_group(one, IP_ADD_MEMBERSHIP, kGroup, 0x7f000002));
  value("by number", change_group(one, IP_ADD_MEMBERSHIP, kGroup + 1, INADDR_ANY, 1));
  value("by one that is not", change_group(one, IP_ADD_MEMBERSHIP, kGroup + 2, INADDR_ANY, 99));
  value("what is none", change_group(one, IP_ADD_MEMBERSHIP, 0x0a000001, INADDR_LOOPBACK));
  const int number = 1;
  value("too short", setsockopt(one, IPPROTO_IP, IP_ADD_MEMBERSHIP, &number, sizeof number));
  const int stream = socket(AF_INET, SOCK_STREAM, 0);
  value("of a stream", change_group(stream, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  close(stream);
  const int sender = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_in at = v4(kGroup, kPort);
  value("send by no route", send_to(sender, at));
  const in_addr strange{htonl(0x09090909)};
  value("IP_MULTICAST_IF of others",
        setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &strange, sizeof strange));
  const in_addr loopback{htonl(INADDR_LOOPBACK)};
  value("IP_MULTICAST_IF",
        setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &loopback, sizeof loopback));
  line("it is shown", get(sender, IPPROTO_IP, IP_MULTICAST_IF));
  ok("details", set(one, IPPROTO_IP, IP_PKTINFO, 1));
  ok("details", set(one, IPPROTO_IP, IP_RECVTTL, 1));
  value("send", send_to(sender, at));
  line("got", receive(one));
  ok("loop", set(sender, IPPROTO_IP, IP_MULTICAST_LOOP, 0));
  ok("TTL", set(sender, IPPROTO_IP, IP_MULTICAST_TTL, 5));
  value("send", send_to(sender, at, "two"));
  line("loopback loops", receive(one));
  const sockaddr_in nobodys = v4(kGroup + 9, kPort);
  value("to a group of nobody's", send_to(sender, nobodys));
  line("got", receive(one, 512, MSG_DONTWAIT));
  begin("groups that several hear");
  const int reuse = 1;
  int shared[3];
  for (int& fd : shared) {
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    ok("SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
  }
  const sockaddr_in any = v4(INADDR_ANY, kPort + 1);
  const sockaddr_in named = v4(kGroup, kPort + 1);
  const sockaddr_in unicast = v4(INADDR_LOOPBACK, kPort + 1);
  value("bind to all", bind(shared[0], raw(any), sizeof any));
  value("bind to the group", bind(shared[1], raw(named), sizeof named));
  value("bind to one", bind(shared[2], raw(unicast), sizeof unicast));
  value("send", send_to(sender, named));
  for (const int fd : shared) line("got", receive(fd, 512, MSG_DONTWAIT));
  value("send to one", send_to(sender, unicast));
  for (const int fd : shared) line("got", receive(fd, 512, MSG_DONTWAIT));
  value("only what is joined", set(shared[0], IPPROTO_IP, IP_MULTICAST_ALL, 0));
  value("send", send_to(sender, named));
  for (const int fd : shared) line("got", receive(fd, 512, MSG_DONTWAIT));
  value("answer", send_to(shared[1], v4(INADDR_LOOPBACK, kPort)));
  line("got", receive(one));
  for (const int fd : shared) close(fd);
  begin("leaving groups");
  value("one that was not joined",
        change_group(sender, IP_DROP_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  value("leave", change_group(one, IP_DROP_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  value("send", send_to(sender, at));
  line("got", receive(one, 512, MSG_DONTWAIT));
  value("all hosts", send_to(sender, v4(0xe0000001, kPort)));
  line("got", receive(one));
  group_req request{};
  request.gr_interface = 1;
  std::memcpy(&request.gr_group, &at, sizeof at);
  value("MCAST_JOIN_GROUP",
        setsockopt(one, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request));
  value("send", send_to(sender, at));
  line("got", receive(one));
  value("MCAST_LEAVE_GROUP",
        setsockopt(one, IPPROTO_IP, MCAST_LEAVE_GROUP, &request, sizeof request));
  const int bound_sender = bound(AF_INET, v4(INADDR_LOOPBACK, 0));
  value("a sender at loopback", send_to(bound_sender, v4(0xe0000001, kPort)));
  line("got", receive(one));
  value("connect", connect(sender, raw(at), sizeof at));
  long last = 0;
  int joined = 0;
  for (; joined < 300 && last == 0; ++joined)
    last = change_group(bound_sender, IP_ADD_MEMBERSHIP,
                        kGroup + 256 + static_cast<uint32_t>(joined), INADDR_LOOPBACK);
  value("too many", last);
  value("how many", joined);
  close(bound_sender);
  close(sender);
  close(one);
  begin("groups of IPv6");
  const int six = bound(AF_INET6, v6("::", kPort));
  value("by no route", change_group6(six, IPV6_JOIN_GROUP, "ff02::1234", 0));
  value("by loopback", change_group6(six, IPV6_JOIN_GROUP, "ff02::1234", 1));
  value("again", change_group6(six, IPV6_JOIN_GROUP, "ff02::1234", 1));
  value("by one that is not", change_group6(six, IPV6_JOIN_GROUP, "ff02::1234", 99));
  value("what is none", change_group6(six, IPV6_JOIN_GROUP, "::1", 1));
  value("IPV6_MULTICAST_IF", set(six, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1));
  value("IPV6_MULTICAST_IF that is not", set(six, IPPROTO_IPV6, IPV6_MULTICAST_IF, 99));
  value("loopback has no route for them", send_to(six, v6("ff02::1234", kPort, 1)));
  value("leave", change_group6(six, IPV6_LEAVE_GROUP, "ff02::1234", 1));
  value("leave again", change_group6(six, IPV6_LEAVE_GROUP, "ff02::1234", 1));
  value("a group of IPv4", change_group(six, IP_ADD_MEMBERSHIP, kGroup, INADDR_LOOPBACK));
  const int four = bound(AF_INET, v4(INADDR_LOOPBACK, 0));
  value("send", send_to(four, at));
  line("got", receive(six));
  close(four);
  close(six);
}

/// An echo request with `count` bytes.
std::vector<unsigned char> request(int type, size_t count) {
  std::vector<unsigned char> out(8 + count, 'p');
  std::fill_n(out.begin(), 8, 0);
  out[0] = static_cast<unsigned char>(type);
  out[7] = 3;
  return out;
}

std::string reply(int fd, int flags = 0) {
  unsigned char text[256];
  sockaddr_storage from{};
  socklen_t length = sizeof from;
  const long got =
      recvfrom(fd, text, sizeof text, flags, reinterpret_cast<sockaddr*>(&from), &length);
  if (got < 0) return result_of(-1);
  sockaddr_storage own{};
  socklen_t own_length = sizeof own;
  getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_length);
  uint16_t port[2];
  std::memcpy(&port[0], reinterpret_cast<char*>(&from) + 2, 2);
  std::memcpy(&port[1], reinterpret_cast<char*>(&own) + 2, 2);
  const bool identified = std::memcmp(text + 4, &port[1], 2) == 0;
  uint32_t sum = 0;
  for (long i = 0; i < got; i += 2)
    sum += static_cast<uint32_t>(text[i] << 8) + (i + 1 < got ? text[i + 1] : 0U);
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return std::to_string(got) + " type " + std::to_string(text[0]) + " code " +
         std::to_string(text[1]) + " sequence " + std::to_string(text[7]) + " port " +
         std::to_string(ntohs(port[0])) + (identified ? " ours" : " another's") +
         (from.ss_family == AF_INET ? (sum == 0xffff ? " sound" : " broken") : "") + " " +
         std::to_string(length);
}

void pings() {
  begin("echo requests");
  const int fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  ok("socket", fd);
  const timeval soon{2, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  line("protocol", get(fd, SOL_SOCKET, SO_PROTOCOL));
  line("type", get(fd, SOL_SOCKET, SO_TYPE));
  const sockaddr_in to = v4(INADDR_LOOPBACK, 0);
  const auto echo = request(ICMP_ECHO, 16);
  value("without a peer", send(fd, echo.data(), echo.size(), 0));
  value("send", sendto(fd, echo.data(), echo.size(), 0, raw(to), sizeof to));
  line("reply", reply(fd));
  const auto odd = request(ICMP_ECHO, 33);
  value("an odd length", sendto(fd, odd.data(), odd.size(), 0, raw(to), sizeof to));
  line("reply", reply(fd));
  value("too short", sendto(fd, echo.data(), 7, 0, raw(to), sizeof to));
  const auto other = request(ICMP_ECHOREPLY, 0);
  value("a reply", sendto(fd, other.data(), other.size(), 0, raw(to), sizeof to));
  line("nothing more", reply(fd, MSG_DONTWAIT));
  ok("TTL", set(fd, IPPROTO_IP, IP_RECVTTL, 1));
  ok("SO_TIMESTAMP", set(fd, SOL_SOCKET, SO_TIMESTAMP, 1));
  value("send", sendto(fd, echo.data(), echo.size(), 0, raw(to), sizeof to));
  line("details", receive(fd));
  value("connect", connect(fd, raw(to), sizeof to));
  value("send", send(fd, echo.data(), echo.size(), 0));
  line("reply", reply(fd));
  close(fd);
  const int chosen = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  const sockaddr_in identifier = v4(INADDR_LOOPBACK, 77);
  value("bind", bind(chosen, raw(identifier), sizeof identifier));
  const int second = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
  value("the same", bind(second, raw(identifier), sizeof identifier));
  value("bind again", bind(chosen, raw(identifier), sizeof identifier));
  const sockaddr_in strange = v4(0x08080808, 0);
  value("an address of others", bind(second, raw(strange), sizeof strange));
  value("beyond the machine",
        sendto(second, echo.data(), echo.size(), 0, raw(strange), sizeof strange));
  value("of IPv6", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMPV6));
  value("of IPv4", socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMP));
  value("a stream", socket(AF_INET, SOCK_STREAM, IPPROTO_ICMP));
  close(second);
  close(chosen);
  begin("echo requests of IPv6");
  const int six = socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
  ok("socket", six);
  setsockopt(six, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  const sockaddr_in6 to6 = v6("::1", 0);
  const auto echo6 = request(ICMP6_ECHO_REQUEST, 20);
  value("of IPv4", sendto(six, echo.data(), echo.size(), 0, raw(to6), sizeof to6));
  value("send", sendto(six, echo6.data(), echo6.size(), 0, raw(to6), sizeof to6));
  line("reply", reply(six));
  ok("hop limit", set(six, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1));
  value("send", sendto(six, echo6.data(), echo6.size(), 0, raw(to6), sizeof to6));
  line("details", receive(six));
  close(six);
}

/// A network with loopback alone, where there is none yet, whose groups may all send echo requests.
void alone() {
  if (unshare(CLONE_NEWNET) != 0) return;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  ioctl(fd, SIOCGIFFLAGS, &lo);
  lo.ifr_flags |= IFF_UP;
  ioctl(fd, SIOCSIFFLAGS, &lo);
  close(fd);
  const int setting = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY);
  if (setting >= 0) (void)!write(setting, "0 2147483647", 12);
  close(setting);
}

}  // namespace

void ip_packets() {
  const std::string ended = in_child([] {
    alone();
    of_ipv4();
    of_ipv6();
    times_of_packets();
    options();
    groups();
    pings();
    return 0;
  });
  begin("packets");
  line("ended", ended);
}

}  // namespace calls
