// The real plugins (Debian's containernetworking-plugins) on the real kernel, in network namespaces
// of the test's own: nothing of it is seen from outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "base/strings.h"
#include "network/kernel_testing.h"
#include "network/network.h"
#include "sys/file.h"

namespace fluyt::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

class RealPlugins : public ::testing::Test {
 protected:
  void SetUp() override {
    if (missing_something())
      GTEST_SKIP() << "needs root, containernetworking-plugins, iptables, nsenter";
    temp_.emplace(sys::TempDir::create().value());
    dir_ = temp_->path();
    ASSERT_TRUE(sys::make_dirs(cat(dir_, "/conf"), 0755).ok());
  }
  void configure(const std::string& subnet) {
    const std::string text = cat(
        R"({"cniVersion":"1.0.0","name":"fluyttest","plugins":[{"type":"bridge","bridge":"fltest0",)"
        R"("isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","dataDir":")",
        dir_,
        R"(/leases",)"
        R"("ranges":[[{"subnet":")",
        subnet,
        R"("}]],"routes":[{"dst":"0.0.0.0/0"}]}},)"
        R"({"type":"portmap","capabilities":{"portMappings":true}}]})");
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(dir_, "/conf/10.conflist"), text, 0644).ok());
  }
  std::unique_ptr<Network> open() {
    return Network::open({.conf_dir = cat(dir_, "/conf"),
                          .bin_dirs = {kPlugins},
                          .cache_dir = cat(dir_, "/cache"),
                          .plugins = Plugins::kProgramsOnly},
                         logger_)
        .value();
  }
  SandboxNetwork sandbox(const Holder& holder) {
    SandboxNetwork s;
    s.sandbox_id = "fluyttest1";
    s.netns_path = holder.path();
    s.pod_name = "web";
    s.pod_namespace = "default";
    s.port_mappings = {
        {.protocol = "tcp", .container_port = 80, .host_port = 18080, .host_ip = ""}};
    return s;
  }
  // Leases as files named by address.
  std::vector<std::string> leases() {
    std::vector<std::string> found;
    for (const std::string& name : sys::list_dir(cat(dir_, "/leases/fluyttest")).value_or({})) {
      if (name.starts_with("10.")) found.push_back(name);
    }
    return found;
  }

  std::optional<sys::TempDir> temp_;
  std::string dir_;
  NullLogger logger_;
};

TEST_F(RealPlugins, ASandboxGetsItsAddressPortsAndMasqueradeAndGivesThemBack) {
  configure("10.213.7.0/24");
  in_new_network([&] {
    Holder holder;
    ASSERT_TRUE(loopback_up(holder.path()).ok());
    EXPECT_THAT(holder.run({"/sbin/ip", "addr", "show", "lo"}), HasSubstr("127.0.0.1/8"));
    auto network = open();
    EXPECT_TRUE(network->status().ready) << network->status().message;
    auto attached = network->attach(sandbox(holder), Deadline::after_ms(30000));
    ASSERT_TRUE(attached.ok()) << attached.error().message();
    EXPECT_THAT(attached->ips, ElementsAre("10.213.7.2"));
    EXPECT_THAT(holder.run({"/sbin/ip", "addr", "show", "eth0"}), HasSubstr("10.213.7.2/24"));
    EXPECT_THAT(output_of({"/usr/sbin/iptables", "-t", "nat", "-S"}), HasSubstr("--dport 18080"));
    EXPECT_THAT(leases(), ElementsAre("10.213.7.2"));
    EXPECT_THAT(output_of({"/bin/ping", "-c1", "-W2", "10.213.7.2"}),
                Not(HasSubstr("100% packet loss")));

    auto detached = open()->detach(sandbox(holder), Deadline::after_ms(30000));
    ASSERT_TRUE(detached.ok()) << detached.error().message();
    EXPECT_TRUE(leases().empty());
    EXPECT_THAT(output_of({"/usr/sbin/iptables", "-t", "nat", "-S"}), Not(HasSubstr("18080")));
    EXPECT_THAT(output_of({"/sbin/ip", "link"}), Not(HasSubstr("veth")));
    EXPECT_TRUE(network->detach(sandbox(holder), Deadline::after_ms(30000)).ok());
  });
}

// Without ports: portmap 1.1.1 of Debian looks for IPv6 rules that it never makes.
TEST_F(RealPlugins, CheckSeesAnAddressThatWasTakenAway) {
  configure("10.213.10.0/24");
  in_new_network([&] {
    Holder holder;
    auto network = open();
    SandboxNetwork s = sandbox(holder);
    s.port_mappings.clear();
    ASSERT_TRUE(network->attach(s, Deadline::after_ms(30000)).ok());
    auto checked = network->check(s, Deadline::after_ms(30000));
    EXPECT_TRUE(checked.ok()) << checked.error().message();
    holder.run({"/sbin/ip", "addr", "flush", "dev", "eth0"});
    checked = network->check(s, Deadline::after_ms(30000));
    ASSERT_FALSE(checked.ok());
    EXPECT_THAT(checked.error().message(), HasSubstr("plugin \"bridge\" CHECK: "));
    EXPECT_TRUE(network->detach(s, Deadline::after_ms(30000)).ok());
  });
}

TEST_F(RealPlugins, ALeaseIsGivenBackThoughTheNamespaceIsGone) {
  configure("10.213.8.0/24");
  in_new_network([&] {
    Holder holder;
    auto network = open();
    const SandboxNetwork s = sandbox(holder);
    ASSERT_TRUE(network->attach(s, Deadline::after_ms(30000)).ok());
    EXPECT_FALSE(leases().empty());
    holder.end();
    auto detached = network->detach(s, Deadline::after_ms(30000));
    EXPECT_TRUE(detached.ok()) << detached.error().message();
    EXPECT_TRUE(leases().empty());
    EXPECT_THAT(output_of({"/usr/sbin/iptables", "-t", "nat", "-S"}), Not(HasSubstr("18080")));
  });
}

TEST_F(RealPlugins, AnExhaustedRangeIsThePluginsOwnErrorAndLeavesNothing) {
  configure("10.213.9.0/30");  // two addresses, one of them the gateway's
  in_new_network([&] {
    Holder first;
    Holder second;
    auto network = open();
    ASSERT_TRUE(network->attach(sandbox(first), Deadline::after_ms(30000)).ok());
    SandboxNetwork s = sandbox(second);
    s.sandbox_id = "fluyttest2";
    auto attached = network->attach(s, Deadline::after_ms(30000));
    ASSERT_FALSE(attached.ok());
    EXPECT_THAT(attached.error().message(), HasSubstr("no IP addresses available"));
    EXPECT_EQ(leases().size(), 1U);
    EXPECT_THAT(second.run({"/sbin/ip", "link"}), Not(HasSubstr("eth0")));
    EXPECT_FALSE(sys::exists(cat(dir_, "/cache/fluyttest2.json")));
    EXPECT_TRUE(network->detach(sandbox(first), Deadline::after_ms(30000)).ok());
  });
}

TEST(Traffic, IsWhatTheNamespacesDevicesHaveMoved) {
  if (missing_something()) GTEST_SKIP() << "needs root, nsenter";
  in_new_network([] {
    Holder holder;
    EXPECT_TRUE(traffic(holder.path()).value().empty());  // lo does not count
    holder.run({"/sbin/ip", "link", "add", "one", "type", "veth", "peer", "name", "two"});
    holder.run({"/sbin/ip", "addr", "add", "10.1.1.1/24", "dev", "one"});
    holder.run({"/sbin/ip", "link", "set", "two", "up"});
    holder.run({"/sbin/ip", "link", "set", "one", "up"});
    holder.run(
        {"/sbin/ip", "neigh", "add", "10.1.1.2", "lladdr", "02:00:00:00:00:01", "dev", "one"});
    const auto find = [](const std::vector<InterfaceTraffic>& all, std::string_view name) {
      for (const InterfaceTraffic& one : all) {
        if (one.name == name) return one;
      }
      return InterfaceTraffic{};
    };
    const auto before = traffic(holder.path()).value();
    ASSERT_EQ(before.size(), 2U);
    holder.run(
        {"/bin/bash", "-c", "for i in 1 2 3; do printf %1000s x >/dev/udp/10.1.1.2/9; done"});
    const auto after = traffic(holder.path()).value();
    EXPECT_GE(find(after, "one").tx_packets, find(before, "one").tx_packets + 3);
    EXPECT_GE(find(after, "one").tx_bytes, find(before, "one").tx_bytes + 3000);
    EXPECT_GE(find(after, "two").rx_bytes, find(before, "two").rx_bytes + 3000);
    EXPECT_EQ(find(after, "two").rx_errors, 0U);
  });
}

TEST(Traffic, ErrorsNameThePath) {
  EXPECT_EQ(traffic("/nonexistent/netns").error().code(), Code::kNotFound);
  const auto wrong = traffic("/proc/self/ns/uts");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message(), HasSubstr("setns(CLONE_NEWNET)"));
}

TEST(Loopback, ErrorsNameThePath) {
  EXPECT_EQ(loopback_up("/nonexistent/netns").error().code(), Code::kNotFound);
  auto wrong = loopback_up("/proc/self/ns/uts");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message(), HasSubstr("setns(CLONE_NEWNET)"));
}

}  // namespace
}  // namespace fluyt::network
