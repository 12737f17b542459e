// The other built-in plugins beside their programs, on the real kernel: the same results, devices,
// routes, settings and packet schedulers, CHECK that sees what is gone, and nothing left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/builtin_testing.h"

namespace fluyt::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

constexpr const char* kLocal =
    R"("ipam":{"type":"host-local","dataDir":"LEASES","ranges":[[{"subnet":"10.213.7.0/24"}],)"
    R"([{"subnet":"fd00:213:7::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]})";
constexpr const char* kStatic =
    R"("ipam":{"type":"static","addresses":[{"address":"10.213.9.5/24","gateway":"10.213.9.1"},)"
    R"({"address":"fd00:213:9::5/64","gateway":"fd00:213:9::1"}],"routes":[{"dst":"0.0.0.0/0"},)"
    R"({"dst":"10.99.0.0/16","gw":"10.213.9.77"}]})";

bool kernel_has(const std::string& kind) {
  std::string said;
  in_new_network([&] {
    said = output_of(
        shell(cat("ip link add v0 type veth peer name v1 && ip link add link v0 name c0 type ",
                  kind, kind == "vlan" ? " id 5" : "")));
  });
  return said.empty();
}

class Devices : public BuiltIn {
 protected:
  // What is the same for all: a device of the host for others to lie on, with the default route.
  // It stands still when the pair has its carrier, and with it both link-local addresses.
  static void make_host() {
    output_of(
        shell("ip link set lo up; ip link add up0 type veth peer name up1; "
              "ip link set up0 address 02:00:00:00:00:11; ip link set up1 up; "
              "ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; "
              "ip route add default via 192.0.2.2; i=0; "
              "until [ $(ip -6 -o addr show scope link | wc -l) = 2 ] || [ $i = 1000 ]; "
              "do i=$((i+1)); sleep 0.01; done"));
  }
  // `harm` is a command in the sandbox after which CHECK is to fail; empty: none.
  void compare(const std::string& plugins, const std::string& version = "1.0.0",
               const std::string& harm = "ip link del eth0") {
    SCOPED_TRACE(cat(version, " ", plugins));
    configure_list(plugins, version);
    Seen seen[2];
    std::string clean[2];
    for (const Plugins by : {Plugins::kProgramsOnly, Plugins::kBuiltIn}) {
      const bool ours = by == Plugins::kBuiltIn;
      in_new_network([&] {
        make_host();
        const std::string before = plain(output_of(shell("ip addr; tc qdisc")));
        Holder holder;
        auto network = open(by, ours ? "/nonexistent" : kPlugins);
        auto attached = network->attach(sandbox(holder), kSoon());
        ASSERT_TRUE(attached.ok()) << attached.error().message();
        seen[ours ? 1 : 0] = see(holder, attached->result_json, join(leases(), " "));
        if (ours) {
          auto checked = network->check(sandbox(holder), kSoon());
          EXPECT_TRUE(checked.ok()) << checked.error().message();
          if (!harm.empty()) {
            const std::string said = holder.run(shell(harm));
            EXPECT_FALSE(network->check(sandbox(holder), kSoon()).ok()) << harm << ": " << said;
          }
        }
        auto detached = network->detach(sandbox(holder), kSoon());
        EXPECT_TRUE(detached.ok()) << detached.error().message();
        EXPECT_TRUE(network->detach(sandbox(holder), kSoon()).ok());
        EXPECT_TRUE(leases().empty());
        EXPECT_THAT(holder.run({"/sbin/ip", "link"}), Not(HasSubstr("eth0")));
        output_of(shell("ip link del fltest0 2>/dev/null"));
        EXPECT_EQ(plain(output_of(shell("ip addr; tc qdisc"))), before);
        if (ours) {
          EXPECT_EQ(output_of({"/usr/sbin/nft", "list", "ruleset"}), "");
        }
        sys::remove_tree(cat(dir_, "/leases")).ignore("there may be none");
      });
    }
    expect_same(seen[0], seen[1]);
    EXPECT_THAT(seen[1].pod_links, HasSubstr("eth0"));
  }
  static std::string bridge(const std::string& more) {
    return cat(R"([{"type":"bridge","bridge":"fltest0","isGateway":true,)", kLocal, "},", more,
               "]");
  }
};

TEST_F(Devices, Ptp) {
  compare(cat(R"([{"type":"ptp","ipMasq":true,)", kLocal, "}]"), "1.0.0",
          "ip addr del 10.213.7.2/24 dev eth0");
  compare(cat(R"([{"type":"ptp","mtu":1400,"dns":{"nameservers":["10.8.8.8"]},)", kStatic, "}]"),
          "0.4.0", "ip route del default");
}

TEST_F(Devices, StaticAddressesOnABridge) {
  compare(cat(R"([{"type":"bridge","bridge":"fltest0","isGateway":true,"ipMasq":true,)", kStatic,
              "}]"));
}

TEST_F(Devices, Macvlan) {
  if (!kernel_has("macvlan")) GTEST_SKIP() << "this kernel has no macvlan";
  compare(cat(R"([{"type":"macvlan","master":"up0",)", kLocal, "}]"));
  compare(cat(R"([{"type":"macvlan","mode":"private","mtu":1300,)", kStatic, "}]"), "0.4.0",
          "ip route del 10.99.0.0/16");
  compare(R"([{"type":"macvlan","master":"up0","mode":"vepa","mac":"02:00:00:00:00:77"}])");
}

TEST_F(Devices, Ipvlan) {
  if (!kernel_has("ipvlan")) GTEST_SKIP() << "this kernel has no ipvlan";
  compare(cat(R"([{"type":"ipvlan","master":"up0",)", kLocal, "}]"));
  compare(cat(R"([{"type":"ipvlan","master":"up0","mode":"l3","mtu":1300,)", kStatic, "}]"));
  compare(cat(R"([{"type":"ipvlan","master":"up0","mode":"l3s",)", kLocal, "}]"), "0.4.0");
}

TEST_F(Devices, Vlan) {
  if (!kernel_has("vlan")) GTEST_SKIP() << "this kernel has no vlan";
  compare(cat(R"([{"type":"vlan","master":"up0","vlanId":42,)", kLocal, "}]"));
  compare(cat(R"([{"type":"vlan","master":"up0","vlanId":7,"mtu":1300,)", kStatic, "}]"), "0.4.0");
}

TEST_F(Devices, Tuning) {
  const std::string all = cat(
      R"({"type":"tuning","dataDir":")", dir_,
      R"(/tuning","mac":"02:00:00:00:00:55","mtu":1400,"promisc":true,"allmulti":true,"sysctl":)"
      R"({"net.ipv4.conf.IFNAME.log_martians":"1","net/core/somaxconn":"500"}})");
  compare(bridge(all), "1.0.0", "ip link set eth0 mtu 1300");
  EXPECT_TRUE(sys::list_dir(cat(dir_, "/tuning")).value_or({}).empty()) << "what was kept";
  compare(bridge(cat(R"({"type":"tuning","dataDir":")", dir_,
                     R"(/tuning","sysctl":{"net.ipv4.ping_group_range":"0 100"}})")),
          "0.4.0", "sysctl net.ipv4.ping_group_range='0 99'");
}

TEST_F(Devices, TuningRefusesWhatIsTheHosts) {
  for (const char* key :
       {"kernel.panic", "net.ipv4...kernel.panic", "net/../kernel/panic", "net"}) {
    configure_list(bridge(cat(R"({"type":"tuning","sysctl":{")", key, R"(":"1"}})")));
    const Status status = open(Plugins::kBuiltIn)->status();
    EXPECT_FALSE(status.ready) << key;
    EXPECT_THAT(status.message, HasSubstr("plugin \"tuning\" STATUS: sysctl: a name below net"));
  }
}

TEST_F(Devices, Bandwidth) {
  compare(bridge(R"({"type":"bandwidth","ingressRate":8000000,"ingressBurst":800000,)"
                 R"("egressRate":16000000,"egressBurst":1600000})"),
          "1.0.0", "");
  compare(bridge(R"({"type":"bandwidth","egressRate":1000000,"egressBurst":80000})"));
}

TEST_F(Devices, FirewallWhereNothingDrops) { compare(bridge(R"({"type":"firewall"})")); }

TEST_F(Devices, FirewallIsRunAsAProgramWhereAForeignChainDrops) {
  const std::pair<const char*, const char*> drops[] = {
      {"iptables-nft -P FORWARD DROP",
       "nftables table ip filter, chain FORWARD, has the policy drop"},
      {"iptables-legacy -P FORWARD DROP", "iptables-legacy table filter, chain FORWARD"},
      {"ip6tables-legacy -P FORWARD DROP", "ip6tables-legacy table filter, chain FORWARD"},
      {"nft add table inet f; nft add chain inet f c '{ type filter hook forward priority 0; "
       "policy "
       "drop; }'",
       "nftables table inet f, chain c, has the policy drop"},
  };
  configure_list(bridge(R"({"type":"firewall"})"));
  for (const auto& [drop, why] : drops) {
    SCOPED_TRACE(drop);
    in_new_network([&] {
      Holder one;
      Holder two;
      auto without = open(Plugins::kBuiltIn, "/nonexistent");
      ASSERT_TRUE(without->attach(sandbox(one), kSoon()).ok());
      EXPECT_TRUE(without->check(sandbox(one), kSoon()).ok());
      EXPECT_EQ(output_of(shell(drop)), "");
      auto checked = without->check(sandbox(one), kSoon());
      ASSERT_FALSE(checked.ok()) << "it was not there at ADD";
      EXPECT_THAT(checked.error().message(), HasSubstr(why));
      auto attached = without->attach(sandbox(two, "two"), kSoon());
      ASSERT_FALSE(attached.ok());
      EXPECT_THAT(attached.error().message(), HasSubstr(cat("because of ", why)));
      EXPECT_THAT(attached.error().message(), HasSubstr("no program \"firewall\" in"));
      EXPECT_EQ(leases().size(), 2U);
      auto with = open(Plugins::kBuiltIn);
      attached = with->attach(sandbox(two, "two"), kSoon());
      ASSERT_TRUE(attached.ok()) << attached.error().message();
      EXPECT_THAT(logger_.all,
                  HasSubstr(cat("is run as a program, not built in, because of ", why)));
      EXPECT_THAT(output_of({"/usr/sbin/iptables", "-S"}), HasSubstr("-s 10.213.7.3/32 -j ACCEPT"));
      EXPECT_TRUE(with->detach(sandbox(two, "two"), kSoon()).ok());
      EXPECT_THAT(output_of({"/usr/sbin/iptables", "-S"}), Not(HasSubstr("10.213.7.3")));
      EXPECT_TRUE(with->detach(sandbox(one), kSoon()).ok());
      EXPECT_TRUE(leases().empty());
      sys::remove_tree(cat(dir_, "/leases")).ignore("there may be none");
    });
  }
}

// Its carrier may come much later, and duplicate detection only with it.
TEST_F(Devices, AMasterWithoutCarrierIsNotWaitedForForEver) {
  if (!kernel_has("macvlan")) GTEST_SKIP() << "this kernel has no macvlan";
  configure_list(cat(R"([{"type":"macvlan","master":"up0",)", kLocal, "}]"));
  in_new_network([&] {
    output_of(shell("ip link add up0 type veth peer name up1; ip link set up0 up"));
    Holder holder;
    auto network = open(Plugins::kBuiltIn);
    auto attached = network->attach(sandbox(holder), kSoon());
    ASSERT_TRUE(attached.ok()) << attached.error().message();
    EXPECT_THAT(holder.run({"/sbin/ip", "addr"}), HasSubstr("fd00:213:7::2/64"));
    EXPECT_TRUE(network->detach(sandbox(holder), kSoon()).ok());
  });
}

TEST_F(Devices, AMasterThatIsNotThereIsNamedByStatusAndAdd) {
  configure_list(cat(R"([{"type":"macvlan","master":"nosuch0",)", kLocal, "}]"));
  in_new_network([&] {
    Holder holder;
    auto network = open(Plugins::kBuiltIn);
    EXPECT_THAT(network->status().message, HasSubstr("master: a device of this host is expected"));
    auto attached = network->attach(sandbox(holder), kSoon());
    ASSERT_FALSE(attached.ok());
    EXPECT_THAT(attached.error().message(), HasSubstr("not \"nosuch0\""));
    EXPECT_TRUE(leases().empty());
  });
}

}  // namespace
}  // namespace fluyt::network
