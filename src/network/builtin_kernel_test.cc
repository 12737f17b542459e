// Built-in plugins beside the programs that they stand for, on the real kernel: the same results,
// devices, routes and settings; the same packets arrive; and nothing is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

namespace fluyt::network {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
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
    EXPECT_THAT(attached.error().message(), HasSubstr("host port 18080/tcp belongs to sandbox \"one/eth0\" already"));
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

// A list that was renamed, or a second one over the same addresses: rules lie in one table.
TEST_F(BuiltIn, GcOfOneNetworkLeavesTheRulesOfAnother) {
  configure(kDual, "1.0.0");
  in_new_network([&] {
    Holder one;
    SandboxNetwork attached = sandbox(one);
    attached.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
    ASSERT_TRUE(open(Plugins::kBuiltIn, "/nonexistent")->attach(attached, kSoon()).ok());
    const std::string rules = output_of({"/usr/sbin/nft", "list", "ruleset"});
    configure(kDual, "1.1.0", "renamed");
    auto network = open(Plugins::kBuiltIn, "/nonexistent");
    const auto ours = [](const std::string& id) { return id == "one"; };
    ASSERT_TRUE(network->collect(ours, kSoon()).ok());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), rules);
  });
}

// Whoever else translates to the same place has its own reasons for what becomes of the source.
TEST_F(BuiltIn, OnlyWhatCameByAHostPortIsMasqueradedOnItsWayBack) {
  configure(kDual);
  in_new_network([&] {
    Holder server;
    Holder client;
    auto network = open(Plugins::kBuiltIn, "/nonexistent");
    SandboxNetwork first = sandbox(server);
    first.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 8080, .host_ip = ""}};
    SandboxNetwork second = sandbox(client, "two");
    ASSERT_TRUE(network->attach(first, kSoon()).ok());
    ASSERT_TRUE(network->attach(second, kSoon()).ok());
    output_of({"/bin/sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"});
    output_of({"/usr/sbin/nft", "add", "table", "ip", "service"});
    output_of({"/usr/sbin/nft", "add", "chain", "ip", "service", "in",
               "{ type nat hook prerouting priority -100 ; }"});
    output_of({"/usr/sbin/nft", "add", "rule", "ip", "service", "in", "ip", "daddr", "10.96.0.1",
               "tcp", "dport", "8080", "dnat", "to", "10.213.7.2:80"});
    // Answers with the address that it sees.
    const std::string serve =
        "import socket\ns=socket.create_server(('0.0.0.0',80))\nwhile 1:\n c,a=s.accept()\n "
        "c.sendall(a[0].encode())\n c.close()";
    auto program = sys::spawn({.args = {"/usr/bin/nsenter", cat("--net=", server.path()),
                                        "/usr/bin/python3", "-c", serve},
                               .env = kEnv});
    ASSERT_TRUE(program.ok());
    const auto seen_by_way_of = [&](const std::string& address) {
      const std::string ask = cat(
          "import socket,time\nfor i in range(100):\n try:\n  print(socket.create_connection(('",
          address,
          "',8080),9).recv(99).decode(),end='')\n  break\n except OSError:\n  "
          "time.sleep(0.05)");
      return client.run({"/usr/bin/python3", "-c", ask});
    };
    EXPECT_EQ(seen_by_way_of("10.96.0.1"), "10.213.7.3");
    EXPECT_EQ(seen_by_way_of("10.213.7.1"), "10.213.7.1") << "it would not come back otherwise";
    program->kill(SIGKILL).ignore("it is about to be waited for");
    program->wait(Deadline::after_ms(5000)).ignore("the end of a test");
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
    const std::string all = output_of({"/usr/sbin/nft", "list", "ruleset"});
    const auto leftovers = network->find_leftovers(ours, kSoon());
    ASSERT_TRUE(leftovers.ok()) << leftovers.error().message();
    EXPECT_THAT(*leftovers, Contains(AllOf(HasSubstr("lease "), HasSubstr("/10.213.7.3"))));
    EXPECT_THAT(*leftovers, Contains(AllOf(HasSubstr("packet rule "), HasSubstr("two/eth0"))));
    EXPECT_THAT(*leftovers, Not(Contains(HasSubstr("else"))));
    EXPECT_THAT(*leftovers, Not(Contains(HasSubstr("one/eth0"))));
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), all) << "told of, and left";
    EXPECT_EQ(leases().size(), 4U);
    auto collected = network->collect(ours, kSoon());
    ASSERT_TRUE(collected.ok()) << collected.error().message();
    EXPECT_THAT(leases(), ElementsAre("10.213.7.2", "fd00:213:7::2"));
    EXPECT_THAT(output_of({"/usr/sbin/nft", "list", "ruleset"}), HasSubstr("10.99.0.2"));
    output_of({"/usr/sbin/nft", "delete", "element", "inet", "fluyt_cni", "masquerade4",
               "{ 10.99.0.2 }"});
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), rules);
    EXPECT_TRUE(network->check(first, kSoon()).ok());
    EXPECT_THAT(network->find_leftovers(ours, kSoon()).value(), IsEmpty());
    // A sandbox that has a record and is no more gets its DEL.
    EXPECT_THAT(network->find_leftovers([](const std::string&) { return false; }, kSoon()).value(),
                Contains("attachment of sandbox one"));
    collected = network->collect([](const std::string&) { return false; }, kSoon());
    ASSERT_TRUE(collected.ok()) << collected.error().message();
    EXPECT_TRUE(leases().empty());
    EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
    // The kernel takes a namespace that has ended apart behind everybody's back.
    const Deadline deadline = kSoon();
    std::string links = output_of({"/sbin/ip", "link"});
    for (; links.find("veth") != std::string::npos && !deadline.passed();
         links = output_of({"/sbin/ip", "link"})) {
      usleep(10'000);
    }
    EXPECT_THAT(links, Not(HasSubstr("veth")));
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
