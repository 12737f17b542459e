// Built-in plugins beside the programs that they stand for, on the real kernel: the same results,
// devices, routes and settings; the same packets arrive; and nothing is left.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>

#include "base/strings.h"
#include "network/builtin/address.h"
#include "network/builtin/bridge_steps.h"
#include "network/builtin_testing.h"
#include "network/kernel_testing.h"
#include "network/network.h"
#include "sys/file.h"
#include "sys/network_thread.h"

namespace fluyt::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

TEST_F(BuiltIn, LeavesTheSameBehindAsThePrograms) {
  const std::pair<const char*, const char*> cases[] = {
      {"1.0.0", kDual},
      {"0.4.0", kDual},
      {"0.3.1",
       R"("bridge":"fltest0","isDefaultGateway":true,"mtu":1400,"hairpinMode":true,"ipam":{)"
       R"("type":"host-local","dataDir":"LEASES","subnet":"10.213.7.0/24","rangeStart":)"
       R"("10.213.7.20","rangeEnd":"10.213.7.30","gateway":"10.213.7.19"})"},
      {"1.0.0",
       R"("bridge":"fltest0","promiscMode":true,"isGateway":true,"forceAddress":true,"dns":)"
       R"({"nameservers":["10.9.9.9"],"search":["a.test"]},"ipam":{"type":"host-local",)"
       R"("dataDir":"LEASES","ranges":[[{"subnet":"10.213.7.0/25","rangeStart":"10.213.7.100"},)"
       R"({"subnet":"10.213.8.0/25"}]],"routes":[{"dst":"10.99.0.0/16","gw":"10.213.7.77"}]})"},
      {"1.0.0", R"("bridge":"fltest0")"},
  };
  for (const auto& [version, bridge] : cases) {
    SCOPED_TRACE(cat(version, " ", bridge));
    configure(bridge, version);
    Seen seen[2];
    for (const Plugins plugins : {Plugins::kProgramsOnly, Plugins::kBuiltIn}) {
      in_new_network([&] {
        Holder holder;
        auto network = open(plugins, plugins == Plugins::kBuiltIn ? "/nonexistent" : kPlugins);
        auto attached = network->attach(sandbox(holder), kSoon());
        ASSERT_TRUE(attached.ok()) << attached.error().message();
        seen[plugins == Plugins::kBuiltIn ? 1 : 0] =
            see(holder, attached->result_json, join(leases(), " "));
        if (plugins == Plugins::kBuiltIn) {
          auto checked = network->check(sandbox(holder), kSoon());
          EXPECT_TRUE(checked.ok()) << checked.error().message();
        }
        ASSERT_TRUE(network->detach(sandbox(holder), kSoon()).ok());
        EXPECT_TRUE(leases().empty());
        EXPECT_THAT(output_of({"/sbin/ip", "link"}), Not(HasSubstr("veth")));
        EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "table", "inet", "fluyt_cni"}).find("map"),
                  std::string::npos);
        ASSERT_TRUE(network->detach(sandbox(holder), kSoon()).ok());
        ASSERT_TRUE(sys::remove_tree(cat(dir_, "/leases")).ok());
      });
    }
    expect_same(seen[0], seen[1]);
    EXPECT_THAT(seen[1].pod_links, HasSubstr("eth0"));
  }
}

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
  return ::poll(&poll, 1, 2000) == 1 && (poll.revents & events) != 0;
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

// With hairpinMode: where the kernel filters bridged packets, a pod's packet to its own host port
// goes back out where it came in.
TEST_F(BuiltIn, TheSamePacketsArrive) {
  configure(cat(R"("hairpinMode":true,)", kDual));
  constexpr auto npos = std::string::npos;
  using Table = std::map<std::string, std::string>;
  std::map<bool, Table> tables;
  for (const Plugins plugins : {Plugins::kProgramsOnly, Plugins::kBuiltIn}) {
    in_new_network([&] {
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
      Table table = {
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
          {"host port from the host",
           reach(host_path, a, tcp, "10.213.7.2", 80, "192.0.2.1", 18080)},
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
      EXPECT_TRUE(sys::remove_tree(cat(dir_, "/leases")).ok());
      tables[plugins == Plugins::kBuiltIn] = table;
    });
  }
  EXPECT_EQ(tables[false], tables[true]);
  Table& built_in = tables[true];
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

TEST_F(BuiltIn, WhatAnInterruptedAddLeftIsDeleted) {
  for (size_t steps = 0; steps <= builtin::kBridgeSteps; ++steps) {
    SCOPED_TRACE(steps);
    in_new_network([&] {
      Holder holder;
      Firewall firewall;
      const builtin::Call call{
          .request = Json::parse(cat(
              R"({"cniVersion":"1.0.0","name":"fluyttest","type":"bridge",)",
              std::regex_replace(std::string(kDual), std::regex("LEASES"), cat(dir_, "/leases")),
              "}")),
          .container_id = "one",
          .netns = path_of(holder),
          .device = "eth0",
          .deadline = kSoon(),
          .firewall = firewall};
      auto added = builtin::bridge_add_until(call, steps);
      ASSERT_TRUE(added.ok()) << added.error().message();
      EXPECT_EQ(leases().empty(), steps < 2);
      EXPECT_EQ(output_of({"/sbin/ip", "link"}).find("veth") == std::string::npos, steps < 3);
      auto removed = builtin::remove("bridge", call);
      ASSERT_TRUE(removed.ok()) << removed.error().message();
      EXPECT_TRUE(leases().empty());
      EXPECT_THAT(output_of({"/sbin/ip", "link"}), Not(HasSubstr("veth")));
      EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
    });
  }
}

TEST_F(BuiltIn, AFailedAddLeavesNothingAndNamesWhoHasThePort) {
  configure(kDual);
  in_new_network([&] {
    Holder one;
    Holder two;
    auto network = open(Plugins::kBuiltIn);
    SandboxNetwork first = sandbox(one);
    first.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
    SandboxNetwork second = first;
    second.sandbox_id = "two";
    second.netns_path = path_of(two);
    ASSERT_TRUE(network->attach(first, kSoon()).ok());
    const std::string rules = output_of({"/usr/sbin/nft", "list", "ruleset"});
    auto attached = network->attach(second, kSoon());
    ASSERT_FALSE(attached.ok());
    EXPECT_THAT(attached.error().message(), HasSubstr("belongs to sandbox \"one/eth0\" already"));
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), rules);
    EXPECT_THAT(leases(), ElementsAre("10.213.7.2", "fd00:213:7::2"));
    EXPECT_THAT(two.run({"/sbin/ip", "link"}), Not(HasSubstr("eth0")));
    ASSERT_TRUE(network->detach(first, kSoon()).ok());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
  });
}

TEST_F(BuiltIn, WhoDidAddDoesDelWhateverTheSwitchSaysThen) {
  configure(kDual);
  for (const Plugins by : {Plugins::kProgramsOnly, Plugins::kBuiltIn}) {
    in_new_network([&] {
      Holder holder;
      SandboxNetwork s = sandbox(holder);
      s.port_mappings = {
          {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
      ASSERT_TRUE(open(by)->attach(s, kSoon()).ok());
      const Plugins other = by == Plugins::kBuiltIn ? Plugins::kProgramsOnly : Plugins::kBuiltIn;
      const bool tables =
          output_of({"/usr/sbin/nft", "list", "ruleset"}).find("fluyt_cni") != std::string::npos;
      EXPECT_EQ(tables, by == Plugins::kBuiltIn);
      ASSERT_TRUE(open(other)->detach(s, kSoon()).ok());
      EXPECT_THAT(output_of({"/usr/sbin/nft", "list", "ruleset"}), Not(HasSubstr("18080")));
      EXPECT_THAT(output_of({"/usr/sbin/nft", "list", "ruleset"}), Not(HasSubstr("10.213.7.2")));
      EXPECT_TRUE(leases().empty());
    });
  }
}

TEST_F(BuiltIn, CheckSaysWhatIsMissing) {
  configure(kDual);
  const std::tuple<const char*, bool, const char*> harms[] = {
      {"ip addr del 10.213.7.2/24 dev eth0", true, "address 10.213.7.2/24 is gone"},
      {"ip -6 route del default", true, "route ::/0 is gone"},
      {"ip link set dev eth0 address 02:00:00:00:00:01", true, "has the MAC address 02:00"},
      {"ip link del eth0", true, "is gone"},
      {"nft delete table inet fluyt_cni", false, "map masquerade4: 10.213.7.2 is missing"},
      {"nft delete element inet fluyt_cni hostports4 { tcp . 18080 }", false, "6 . 18080"},
      {"nft flush chain inet fluyt_cni x; ip link del fltest0", false, "\"fltest0\" is gone"},
  };
  for (const auto& [harm, inside, expected] : harms) {
    SCOPED_TRACE(harm);
    in_new_network([&] {
      Holder holder;
      auto network = open(Plugins::kBuiltIn);
      SandboxNetwork s = sandbox(holder);
      s.port_mappings = {
          {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
      ASSERT_TRUE(network->attach(s, kSoon()).ok());
      auto checked = network->check(s, kSoon());
      EXPECT_TRUE(checked.ok()) << checked.error().message();
      inside ? holder.run(shell(harm)) : output_of(shell(harm));
      checked = network->check(s, kSoon());
      ASSERT_FALSE(checked.ok());
      EXPECT_THAT(checked.error().message(), HasSubstr(expected));
      auto detached = network->detach(s, kSoon());
      EXPECT_TRUE(detached.ok()) << detached.error().message();
      EXPECT_TRUE(leases().empty());
      ASSERT_TRUE(sys::remove_tree(cat(dir_, "/leases")).ok());
    });
  }
}

TEST_F(BuiltIn, RulesOfADeadSandboxWithTheSameAddressGiveWay) {
  configure(kDual);
  in_new_network([&] {
    Holder holder;
    auto network = open(Plugins::kBuiltIn);
    SandboxNetwork s = sandbox(holder);
    s.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
    ASSERT_TRUE(network->attach(s, kSoon()).ok());
    // As if the state had been lost: lease and record are gone, the rules are not.
    ASSERT_TRUE(sys::remove_tree(cat(dir_, "/leases")).ok());
    ASSERT_TRUE(sys::remove_tree(cat(dir_, "/cache/one.json")).ok());
    holder.run({"/sbin/ip", "link", "del", "eth0"});
    s.sandbox_id = "two";
    auto attached = network->attach(s, kSoon());
    ASSERT_TRUE(attached.ok()) << attached.error().message();
    EXPECT_THAT(attached->ips, ElementsAre("10.213.7.2", "fd00:213:7::2"));
    EXPECT_TRUE(network->check(s, kSoon()).ok());
    ASSERT_TRUE(network->detach(s, kSoon()).ok());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
  });
}

TEST_F(BuiltIn, GcRemovesWhatBelongsToNoSandboxOfTheNetwork) {
  configure(kDual, "1.1.0");
  in_new_network([&] {
    Holder one;
    Holder two;
    auto network = open(Plugins::kBuiltIn, "/nonexistent");
    SandboxNetwork first = sandbox(one);
    first.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
    SandboxNetwork second = sandbox(two, "two");
    second.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18090, .host_ip = ""}};
    ASSERT_TRUE(network->attach(first, kSoon()).ok());
    const std::string rules = output_of({"/usr/sbin/nft", "list", "ruleset"});
    ASSERT_TRUE(network->attach(second, kSoon()).ok());
    // Of another network: neither its lease nor its rules are ours to judge.
    output_of({"/usr/sbin/nft", "add", "element", "inet", "fluyt_cni", "masquerade4",
               "{ 10.99.0.2 comment \"else/eth0\" : jump masq-10.213.7.0-24 }"});
    // As if the state had been lost: no record, no sandbox.
    ASSERT_TRUE(sys::remove_tree(cat(dir_, "/cache/two.json")).ok());
    two.end();
    EXPECT_EQ(leases().size(), 4U);
    const auto ours = [](const std::string& id) { return id == "one"; };
    auto collected = network->collect(ours, kSoon());
    ASSERT_TRUE(collected.ok()) << collected.error().message();
    EXPECT_THAT(leases(), ElementsAre("10.213.7.2", "fd00:213:7::2"));
    EXPECT_THAT(output_of({"/usr/sbin/nft", "list", "ruleset"}), HasSubstr("10.99.0.2"));
    output_of({"/usr/sbin/nft", "delete", "element", "inet", "fluyt_cni", "masquerade4",
               "{ 10.99.0.2 }"});
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), rules);
    EXPECT_TRUE(network->check(first, kSoon()).ok());
    // A sandbox that has a record and is no more gets its DEL.
    collected = network->collect([](const std::string&) { return false; }, kSoon());
    ASSERT_TRUE(collected.ok()) << collected.error().message();
    EXPECT_TRUE(leases().empty());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
    EXPECT_THAT(output_of({"/sbin/ip", "link"}), Not(HasSubstr("veth")));
  });
}

TEST_F(BuiltIn, StatusNamesAWrongField) {
  configure(R"("bridge":"fltest0","mtu":-5)");
  const Status status = open(Plugins::kBuiltIn)->status();
  EXPECT_FALSE(status.ready);
  EXPECT_THAT(status.message, HasSubstr("plugin \"bridge\" STATUS: mtu: a number from 0"));
}

TEST_F(BuiltIn, GivesAllBackThoughTheNamespaceIsGone) {
  configure(kDual);
  in_new_network([&] {
    Holder holder;
    auto network = open(Plugins::kBuiltIn);
    const SandboxNetwork s = sandbox(holder);
    ASSERT_TRUE(network->attach(s, kSoon()).ok());
    EXPECT_FALSE(leases().empty());
    holder.end();
    auto detached = network->detach(s, kSoon());
    EXPECT_TRUE(detached.ok()) << detached.error().message();
    EXPECT_TRUE(leases().empty());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
  });
}

}  // namespace
}  // namespace fluyt::network
