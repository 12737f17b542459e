// Which packets arrive, and as whose, with built-in plugins and with programs: alone and beside
// rules of others.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <map>
#include <regex>

#include "base/strings.h"
#include "network/builtin/address.h"
#include "network/builtin_testing.h"
#include "sys/file.h"
#include "sys/network_thread.h"

namespace fluyt::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

// Sockets that were opened in their namespaces, and a packet between them.
sys::Fd socket_in(const std::string& netns, int family, int type) {
  sys::Fd out;
  const sys::Fd network = open_path(netns);
  EXPECT_TRUE(sys::in_network(network, [&]() -> Result<> {
                out = sys::Fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
                return {};
              }).ok());
  EXPECT_TRUE(out.valid());
  return out;
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
};
SocketAddress socket_address(const std::string& ip, uint16_t port) {
  const Address address = find_address(ip).value();
  SocketAddress out;
  if (address.v4()) {
    auto* in = reinterpret_cast<sockaddr_in*>(&out.storage);
    *in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
    memcpy(&in->sin_addr, address.bytes.data(), 4);
    out.length = sizeof *in;
  } else {
    auto* in = reinterpret_cast<sockaddr_in6*>(&out.storage);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    memcpy(&in->sin6_addr, address.bytes.data(), 16);
    out.length = sizeof *in;
  }
  return out;
}
std::string text_of(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
    return Address{std::string(reinterpret_cast<const char*>(&in.sin_addr), 4)}.text();
  }
  const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
  return Address{std::string(reinterpret_cast<const char*>(&in.sin6_addr), 16)}.text();
}
bool ready(const sys::Fd& fd, short events) {
  pollfd poll{.fd = fd.raw(), .events = events, .revents = 0};
  return ::poll(&poll, 1, 500) == 1 && (poll.revents & events) != 0;
}

// What the server sees as its client's address, and that the client gets its answer.
std::string reach(const std::string& from, const std::string& server, int type,
                  const std::string& listen_ip, uint16_t listen_port, const std::string& ip,
                  uint16_t port) {
  const int family = find_address(ip)->v4() ? AF_INET : AF_INET6;
  const sys::Fd listener = socket_in(server, family, type);
  const int one = 1;
  ::setsockopt(listener.raw(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  SocketAddress here = socket_address(listen_ip, listen_port);
  if (::bind(listener.raw(), here.raw(), here.length) != 0) return "no bind";
  if (type == SOCK_STREAM && ::listen(listener.raw(), 4) != 0) return "no listen";
  const sys::Fd client = socket_in(from, family, type);
  SocketAddress there = socket_address(ip, port);
  ::connect(client.raw(), there.raw(), there.length);
  SocketAddress peer;
  peer.length = sizeof peer.storage;
  if (type == SOCK_STREAM) {
    if (!ready(listener, POLLIN)) return "none";
    const sys::Fd accepted(::accept(listener.raw(), peer.raw(), &peer.length));
    return ready(client, POLLOUT) ? text_of(peer.storage) : "no answer";
  }
  char byte = 'x';
  ::send(client.raw(), &byte, 1, MSG_NOSIGNAL);
  if (!ready(listener, POLLIN)) return "none";
  ::recvfrom(listener.raw(), &byte, 1, 0, peer.raw(), &peer.length);
  ::sendto(listener.raw(), &byte, 1, 0, peer.raw(), peer.length);
  return ready(client, POLLIN) ? text_of(peer.storage) : "no answer";
}

using Table = std::map<std::string, std::string>;

constexpr const char* kList =
    R"([{"type":"bridge","hairpinMode":true,)"
    R"("bridge":"fltest0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local",)"
    R"("dataDir":"LEASES","ranges":[[{"subnet":"10.213.7.0/24"}],[{"subnet":"fd00:213:7::/64"}]],)"
    R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},)"
    R"({"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"}])";

class Reachability : public BuiltIn {
 protected:
  // From whom what arrives, in a network of its own where `rules` were there first. With
  // hairpinMode: where the kernel filters bridged packets, a pod's packet to its own host port goes
  // back out where it came in.
  void fill(Plugins plugins, const std::string& rules, Table& table) {
    constexpr auto npos = std::string::npos;
    Holder one;
    Holder two;
    Holder outside;
    // The outside knows no way to the pods: what comes from them must come from the host.
    output_of(shell(cat("ip link set lo up; ip link add up0 type veth peer name up1; ",
                        "ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; ",
                        "ip addr add fd00:aa::1/64 dev up0 nodad; ", "ip link set up1 netns ",
                        std::regex_replace(path_of(outside), std::regex("/proc/|/ns/net"), ""))));
    outside.run(
        shell("ip link set lo up; ip addr add 192.0.2.2/24 dev up1; ip link set up1 up; "
              "ip addr add fd00:aa::2/64 dev up1 nodad"));
    EXPECT_EQ(output_of(shell(rules)), "");
    auto network = open(plugins);
    SandboxNetwork first = sandbox(one);
    first.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""},
        {.protocol = "UDP", .container_port = 81, .host_port = 18081, .host_ip = ""},
        {.protocol = "tcp", .container_port = 80, .host_port = 18082, .host_ip = "127.0.0.1"},
        {.protocol = "tcp", .container_port = 80, .host_port = 18083, .host_ip = "192.0.2.1"},
    };
    ASSERT_TRUE(loopback_up(path_of(one)).ok());
    auto attached = network->attach(first, kSoon());
    ASSERT_TRUE(attached.ok()) << attached.error().message();
    ASSERT_TRUE(network->attach(sandbox(two, "two"), kSoon()).ok());
    // The bridge's own IPv6 address is tentative for a second or two.
    for (int i = 0; i < 50 && output_of(shell("ip -6 addr")).find("tentative") != npos; ++i) {
      ::usleep(100'000);
    }

    const std::string host_path = cat("/proc/self/task/", ::gettid(), "/ns/net");
    const std::string a = path_of(one);
    const std::string b = path_of(two);
    const std::string out = path_of(outside);
    const int tcp = SOCK_STREAM;
    const int udp = SOCK_DGRAM;
    table = {
        {"pod to pod", reach(b, a, tcp, "10.213.7.2", 80, "10.213.7.2", 80)},
        {"pod to pod, IPv6", reach(b, a, tcp, "fd00:213:7::2", 80, "fd00:213:7::2", 80)},
        {"host to pod", reach(host_path, a, tcp, "10.213.7.2", 80, "10.213.7.2", 80)},
        {"out", reach(a, out, tcp, "192.0.2.2", 99, "192.0.2.2", 99)},
        {"out, UDP", reach(a, out, udp, "192.0.2.2", 99, "192.0.2.2", 99)},
        {"out, IPv6", reach(a, out, tcp, "fd00:aa::2", 99, "fd00:aa::2", 99)},
        {"host port from outside", reach(out, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18080)},
        {"host port from outside, IPv6",
         reach(out, a, tcp, "fd00:213:7::2", 80, "fd00:aa::1", 18080)},
        {"host port from outside, UDP", reach(out, a, udp, "10.213.7.2", 81, "192.0.2.1", 18081)},
        {"host port of an address", reach(out, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18083)},
        {"host port of another address",
         reach(host_path, a, tcp, "10.213.7.2", 80, "127.0.0.1", 18083)},
        {"host port of 127.0.0.1 from outside",
         reach(out, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18082)},
        {"127.0.0.1", reach(host_path, a, tcp, "10.213.7.2", 80, "127.0.0.1", 18080)},
        {"127.0.0.1, UDP", reach(host_path, a, udp, "10.213.7.2", 81, "127.0.0.1", 18081)},
        {"127.0.0.1, its own", reach(host_path, a, tcp, "10.213.7.2", 80, "127.0.0.1", 18082)},
        {"host port from the host", reach(host_path, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18080)},
        {"host port from the pod", reach(a, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18080)},
        {"host port from the pod, IPv6",
         reach(a, a, tcp, "fd00:213:7::2", 80, "fd00:aa::1", 18080)},
        {"host port from another pod", reach(b, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18080)},
        {"somebody else's address, same port",
         reach(a, out, tcp, "192.0.2.2", 18080, "192.0.2.2", 18080)},
    };
    EXPECT_TRUE(network->detach(first, kSoon()).ok());
    table["host port after DEL"] = reach(out, a, tcp, "0.0.0.0", 80, "192.0.2.1", 18080);
    table["the other's masquerade after DEL"] =
        reach(b, out, tcp, "192.0.2.2", 99, "192.0.2.2", 99);
    EXPECT_TRUE(network->detach(sandbox(two, "two"), kSoon()).ok());
    EXPECT_THAT(output_of({"/usr/sbin/nft", "list", "ruleset"}), Not(HasSubstr("10.213.7.")));
    EXPECT_THAT(output_of({"/sbin/ip", "link"}), Not(HasSubstr("veth")));
    EXPECT_TRUE(leases().empty());
    EXPECT_TRUE(sys::remove_tree(cat(dir_, "/leases")).ok());
  }

  // Beside `rules` the same as with programs alone.
  Table compare(const std::string& rules) {
    configure_list(kList);
    Table tables[2];
    for (const Plugins plugins : {Plugins::kProgramsOnly, Plugins::kBuiltIn}) {
      in_new_network([&] { fill(plugins, rules, tables[plugins == Plugins::kBuiltIn ? 1 : 0]); });
    }
    EXPECT_EQ(tables[0], tables[1]);
    return tables[1];
  }
};

TEST_F(Reachability, Alone) {
  Table built_in = compare("true");
  EXPECT_EQ(built_in["pod to pod"], "10.213.7.3");
  EXPECT_EQ(built_in["out"], "192.0.2.1");
  EXPECT_EQ(built_in["out, UDP"], "192.0.2.1");
  EXPECT_EQ(built_in["out, IPv6"], "fd00:aa::1");
  EXPECT_EQ(built_in["host port from outside"], "192.0.2.2");
  EXPECT_EQ(built_in["host port from outside, IPv6"], "fd00:aa::2");
  EXPECT_EQ(built_in["host port from outside, UDP"], "192.0.2.2");
  EXPECT_EQ(built_in["host port of an address"], "192.0.2.2");
  EXPECT_EQ(built_in["host port of another address"], "none");
  EXPECT_EQ(built_in["host port of 127.0.0.1 from outside"], "none");
  EXPECT_EQ(built_in["127.0.0.1"], "10.213.7.1");
  EXPECT_EQ(built_in["127.0.0.1, UDP"], "10.213.7.1");
  EXPECT_EQ(built_in["127.0.0.1, its own"], "10.213.7.1");
  EXPECT_EQ(built_in["host port from the pod"], "10.213.7.1");
  EXPECT_EQ(built_in["host port from another pod"], "10.213.7.1");
  EXPECT_EQ(built_in["somebody else's address, same port"], "192.0.2.1");
  EXPECT_EQ(built_in["host port after DEL"], "none");
  EXPECT_EQ(built_in["the other's masquerade after DEL"], "192.0.2.1");
}

// What the policy would drop the firewall program has let through: it ran, and not what is built
// in.
TEST_F(Reachability, BesideIptablesNftThatDrops) {
  Table found = compare("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP");
  EXPECT_EQ(found["pod to pod"], "10.213.7.3");
  EXPECT_EQ(found["out"], "192.0.2.1");
  EXPECT_EQ(found["out, UDP"], "192.0.2.1");
  EXPECT_EQ(found["out, IPv6"], "fd00:aa::1");
  EXPECT_EQ(found["host port from outside"], "none");
  EXPECT_EQ(found["127.0.0.1"], "10.213.7.1");
  EXPECT_THAT(logger_.all, HasSubstr("table ip filter, chain FORWARD, has the policy drop"));
}

// The program speaks to the other iptables, or to none: what the administrator drops stays dropped.
TEST_F(Reachability, BesideIptablesLegacyThatDrops) {
  Table found = compare("iptables-legacy -P FORWARD DROP");
  EXPECT_EQ(found["out"], "none");
  EXPECT_EQ(found["host port from outside"], "none");
  EXPECT_EQ(found["127.0.0.1"], "10.213.7.1");
  EXPECT_THAT(logger_.all, HasSubstr("iptables-legacy table filter, chain FORWARD"));
}

TEST_F(Reachability, BesideNftablesThatDrops) {
  Table found = compare(
      "nft add table inet f; nft add chain inet f c '{ type filter hook forward priority 0; policy "
      "drop; }'");
  EXPECT_EQ(found["out"], "none");
  EXPECT_EQ(found["host port from outside"], "none");
  EXPECT_EQ(found["127.0.0.1"], "10.213.7.1");
  EXPECT_THAT(logger_.all, HasSubstr("nftables table inet f, chain c, has the policy drop"));
}

TEST_F(BuiltIn, AClientThatWasThereBeforeThePortReachesThePod) {
  configure(kDual);
  in_new_network([&] {
    Holder holder;
    Holder outside;
    output_of(shell(cat("ip link set lo up; ip link add up0 type veth peer name up1; ",
                        "ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; ",
                        "ip link set up1 netns ",
                        std::regex_replace(outside.path(), std::regex("/proc/|/ns/net"), ""))));
    outside.run(shell("ip addr add 192.0.2.2/24 dev up1; ip link set up1 up"));
    auto network = open(Plugins::kBuiltIn);
    // Another sandbox's rules are what makes the kernel follow flows at all.
    Holder other;
    ASSERT_TRUE(network->attach(sandbox(other, "other"), kSoon()).ok());
    const sys::Fd client = socket_in(outside.path(), AF_INET, SOCK_DGRAM);
    SocketAddress there = socket_address("192.0.2.1", 18081);
    ::connect(client.raw(), there.raw(), there.length);
    ASSERT_EQ(::send(client.raw(), "x", 1, MSG_NOSIGNAL), 1);
    ::usleep(100'000);

    SandboxNetwork s = sandbox(holder);
    s.port_mappings = {
        {.protocol = "udp", .container_port = 81, .host_port = 18081, .host_ip = ""}};
    auto attached = network->attach(s, kSoon());
    ASSERT_TRUE(attached.ok()) << attached.error().message();
    const sys::Fd server = socket_in(holder.path(), AF_INET, SOCK_DGRAM);
    SocketAddress here = socket_address("0.0.0.0", 81);
    ASSERT_EQ(::bind(server.raw(), here.raw(), here.length), 0);
    // The first one may find the refusal of the one before.
    ::send(client.raw(), "y", 1, MSG_NOSIGNAL);
    ::send(client.raw(), "y", 1, MSG_NOSIGNAL);
    EXPECT_TRUE(ready(server, POLLIN));
    EXPECT_TRUE(network->detach(s, kSoon()).ok());
    EXPECT_TRUE(network->detach(sandbox(other, "other"), kSoon()).ok());
  });
}

}  // namespace
}  // namespace fluyt::network
