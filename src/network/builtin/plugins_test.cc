// What entries are built in, and the pure parts of the smaller plugins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/builtin/builtin.h"
#include "network/builtin/foreign_rules.h"
#include "network/builtin/static_ipam.h"
#include "network/builtin/tuning_config.h"

namespace fluyt::network {
namespace {

using ::testing::HasSubstr;

TEST(WhyNot, EveryKeyHasToBeKnown) {
  const std::pair<const char*, const char*> built_in[] = {
      {"ptp",
       R"({"ipMasq":true,"mtu":1400,"ipam":{"type":"static","addresses":[{"address":"1.2.3.4/8"}]}})"},
      {"macvlan", R"({"master":"e0","mode":"vepa","mac":"02:00:00:00:00:01"})"},
      {"ipvlan",
       R"({"master":"e0","mode":"l3s","ipam":{"type":"host-local","subnet":"10.0.0.0/8"}})"},
      {"vlan", R"({"master":"e0","vlanId":5})"},
      {"tuning",
       R"({"sysctl":{"net.core.somaxconn":"500"},"txQLen":5,"capabilities":{"mac":true}})"},
      {"bandwidth", R"({"ingressRate":8,"ingressBurst":8,"capabilities":{"bandwidth":true}})"},
      {"firewall", R"({"backend":"","ingressPolicy":"open"})"},
  };
  for (const auto& [type, config] : built_in) {
    EXPECT_EQ(builtin::why_not(type, config), std::nullopt) << type << config;
  }
  const std::tuple<const char*, const char*, const char*> programs[] = {
      {"ptp", R"({"ipMasqBackend":"iptables"})", "ipMasqBackend"},
      {"ptp", R"({"ipam":{"type":"dhcp"}})", "ipam.type \"dhcp\""},
      {"bridge", R"({"ipam":{"type":"static","routes":[{"dst":"::/0","mtu":5}]}})",
       "ipam.routes.mtu"},
      {"macvlan", R"({"linkInContainer":true})", "linkInContainer"},
      {"ipvlan", R"({"ipam":{"type":"static"}})", "master (missing)"},
      {"ipvlan", R"({"master":"e0"})", "ipam (missing)"},
      {"vlan", R"({"dns":{},"qinq":1})", "qinq"},
      {"bandwidth", R"({"shapedSubnets":[]})", "shapedSubnets"},
      {"firewall", R"({"backend":"firewalld"})", "backend"},
      {"firewall", R"({"ingressPolicy":"same-bridge"})", "ingressPolicy \"same-bridge\""},
      {"tuning", R"({"args":{}})", "args"},
  };
  for (const auto& [type, config, why] : programs) {
    EXPECT_EQ(builtin::why_not(type, config).value_or("nothing"), why) << type << config;
  }
  EXPECT_EQ(builtin::why_not("dhcp", "{}"), "") << "one that we do not know";
}

TEST(ForeignDrop, IsThePolicyOfAForwardChainThatIsNotOurs) {
  const auto chain = [](const char* family, const char* table, const char* hook,
                        const char* policy) {
    return Json{{"nftables",
                 {{{"metainfo", Json::object()}},
                  {{"chain",
                    {{"family", family},
                     {"table", table},
                     {"name", "c"},
                     {"hook", hook},
                     {"policy", policy}}}}}}}
        .dump();
  };
  EXPECT_EQ(find_drop_in(chain("ip", "filter", "forward", "drop")).value(),
            "nftables table ip filter, chain c, has the policy drop");
  EXPECT_EQ(find_drop_in(chain("inet", "firewalld", "forward", "accept")).value(),
            "nftables table inet firewalld, chain c: firewalld is running");
  EXPECT_EQ(find_drop_in(chain("inet", "fluyt_cni", "forward", "drop")).value(), "");
  EXPECT_EQ(find_drop_in(chain("ip", "filter", "forward", "accept")).value(), "");
  EXPECT_EQ(find_drop_in(chain("ip", "filter", "input", "drop")).value(), "");
  EXPECT_FALSE(find_drop_in("rubbish").ok());
}

TEST(StaticIpam, GivesWhatIsWritten) {
  const auto config = static_ipam::parse(Json::parse(
      R"({"name":"n","ipam":{"type":"static","dns":{"nameservers":["10.0.0.53"]},"addresses":)"
      R"([{"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64"}]}})"));
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->given.ips, Json::parse(R"([{"address":"10.1.0.5/16","gateway":"10.1.0.1"},)"
                                           R"({"address":"fd00::5/64"}])"));
  EXPECT_EQ(config->given.dns["nameservers"][0], "10.0.0.53");
  EXPECT_TRUE(static_ipam::holds(*config, find_address("fd00::5").value()));
  EXPECT_FALSE(static_ipam::holds(*config, find_address("10.1.0.6").value()));
}

TEST(StaticIpam, ErrorsNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"addresses":[]})", "ipam.addresses: a list of 1 to 64"},
      {R"({"addresses":[{"address":"10.1.0.5"}]})", "ipam.addresses[0]: address: an address with"},
      {R"({"addresses":[{"address":"10.1.0.5/8","gateway":"fd00::1"}]})",
       "ipam.addresses[0]: gateway: one of the family of 10.1.0.5/8"},
      {R"({"addresses":[{"address":"10.1.0.5/8"}],"routes":[{"dst":"x"}]})", "ipam: routes[0].dst"},
  };
  for (const auto& [ipam, expected] : cases) {
    const auto config = static_ipam::parse(Json{{"name", "n"}, {"ipam", Json::parse(ipam)}});
    ASSERT_FALSE(config.ok()) << ipam;
    EXPECT_THAT(config.error().message(), HasSubstr(expected));
  }
}

TEST(Tuning, KeysOfBothFormsNameTheSameFile) {
  const auto config = builtin::parse_tuning(
      Json::parse(
          R"({"sysctl":{"net.ipv4.conf.IFNAME.forwarding":"1",)"
          R"("net/ipv4/conf/eth0.5/forwarding":"0","net.ipv4.conf.eth0/7.forwarding":"0"}})"),
      "eth1");
  ASSERT_TRUE(config.ok()) << config.error().message();
  std::vector<std::string> files;
  for (const auto& sysctl : config->sysctls) files.push_back(sysctl.file);
  EXPECT_THAT(files, ::testing::UnorderedElementsAre("ipv4/conf/eth1/forwarding",
                                                     "ipv4/conf/eth0.5/forwarding",
                                                     "ipv4/conf/eth0.7/forwarding"));
}

}  // namespace
}  // namespace fluyt::network
