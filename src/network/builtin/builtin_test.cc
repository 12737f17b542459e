#include "network/builtin/builtin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "network/builtin/bridge_config.h"
#include "network/builtin/host_local.h"
#include "network/builtin/result_form.h"
#include "network/builtin/rules.h"
#include "sys/file.h"

namespace fluyt::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Address at(const char* text) { return find_address(text).value(); }
Prefix net(const char* text) { return find_prefix(text).value(); }

TEST(Address, IsReadWrittenAndCounted) {
  EXPECT_EQ(at("::ffff:10.0.0.1").text(), "10.0.0.1");
  EXPECT_EQ(at("FD00:0:0::1").text(), "fd00::1");
  EXPECT_EQ(at("10.0.255.255").next().text(), "10.1.0.0");
  EXPECT_EQ(at("fd00::ffff").next().text(), "fd00::1:0");
  EXPECT_TRUE(at("9.255.0.0") < at("10.0.0.0"));
  EXPECT_TRUE(at("127.0.0.1") < at("128.0.0.1"));
  EXPECT_EQ(net("10.88.77.5/18").network().text(), "10.88.64.0");
  EXPECT_EQ(net("10.88.77.5/18").last().text(), "10.88.127.255");
  EXPECT_EQ(net("fd00:1::5/33").last().text(), "fd00:1:7fff:ffff:ffff:ffff:ffff:ffff");
  EXPECT_TRUE(net("0.0.0.0/0").contains(at("1.2.3.4")));
  EXPECT_FALSE(net("0.0.0.0/0").contains(at("::1")));
  for (const char* text : {"", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "x/8"}) {
    EXPECT_FALSE(find_prefix(text)) << text;
  }
}

Result<host_local::Config> ipam(const std::string& fields) {
  return host_local::parse(
      Json::parse(cat(R"({"name":"n","ipam":{"type":"host-local",)", fields, "}}")));
}

std::string given(const host_local::RangeSet& set, const char* previous,
                  const std::set<Address>& taken = {}) {
  const auto choice = host_local::choose(set, find_address(previous).value_or(Address()), taken);
  return choice ? choice->address.text() : "none";
}

TEST(HostLocal, GoesAroundItsRangesAndSkipsWhatIsTaken) {
  const auto config =
      ipam(R"("ranges":[[{"subnet":"10.1.0.0/29"},{"subnet":"10.2.0.0/24","rangeStart":"10.2.0.9",)"
           R"("rangeEnd":"10.2.0.10","gateway":"10.2.0.10"}]])");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->folder, "/var/lib/cni/networks/n");
  const host_local::RangeSet& set = config->ranges[0];
  EXPECT_EQ(given(set, ""), "10.1.0.2");  // .1 is the gateway
  EXPECT_EQ(given(set, "10.1.0.2"), "10.1.0.3");
  EXPECT_EQ(given(set, "10.1.0.6"), "10.2.0.9");  // .7 is the broadcast address
  EXPECT_EQ(given(set, "10.2.0.9"), "10.1.0.2");
  EXPECT_EQ(given(set, "10.9.0.9"), "10.1.0.2");  // of another configuration
  EXPECT_EQ(given(set, "10.1.0.2", {at("10.1.0.3"), at("10.1.0.4")}), "10.1.0.5");
  std::set<Address> all = {at("10.2.0.9")};
  for (int i = 2; i <= 6; ++i) all.insert(at(cat("10.1.0.", i).c_str()));
  EXPECT_EQ(given(set, "10.1.0.4", all), "none");
  all.erase(at("10.1.0.4"));
  EXPECT_EQ(given(set, "10.1.0.4", all), "10.1.0.4");
}

TEST(HostLocal, ErrorsNameTheFieldAndItsValue) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("x":1)", "ipam: ranges: none, nor a subnet"},
      {R"("subnet":"10.0.0.1/8")",
       "ipam: subnet: its network address, 10.0.0.0 is expected, not \"10.0.0.1/8\""},
      {R"("subnet":"10.0.0.0/31")", "room for two addresses"},
      {R"("subnet":7)", "ipam: subnet: an address with a prefix length is expected, not 7"},
      {R"("ranges":[[]])", "ranges[0]: a list of 1 to"},
      {R"("ranges":[[{"subnet":"10.0.0.0/8","rangeStart":"11.0.0.1"}]])",
       "[0]: rangeStart: an address in 10.0.0.0/8 is expected, not \"11.0.0.1\""},
      {R"("ranges":[[{"subnet":"10.0.0.0/8"}],[{"subnet":"10.1.0.0/16"}]])",
       "set 0 overlaps with set 1"},
      {R"("ranges":[[{"subnet":"10.0.0.0/8"},{"subnet":"fd00::/64"}]])", "IPv4 and IPv6"},
      {R"("subnet":"10.0.0.0/8","dataDir":"x")", "ipam.dataDir: an absolute path"},
      {R"("subnet":"10.0.0.0/8","routes":[{"dst":"y"}])", "ipam: routes[0].dst"},
      {R"("subnet":"10.0.0.0/8","gateway":"y")", "gateway: an IP address is expected, not \"y\""},
  };
  for (const auto& [fields, expected] : cases) {
    const auto config = ipam(fields);
    ASSERT_FALSE(config.ok()) << fields;
    EXPECT_THAT(config.error().message(), HasSubstr(expected));
  }
}

TEST(HostLocal, KeepsTheProgramsFiles) {
  const sys::TempDir temp = sys::TempDir::create().value();
  const auto config = ipam(cat(R"("subnet":"10.1.0.0/29","dataDir":")", temp.path(), "\""));
  ASSERT_TRUE(config.ok());
  const std::string folder = cat(temp.path(), "/n");
  const Deadline soon = Deadline::after_ms(5000);
  ASSERT_TRUE(host_local::add(*config, {"a", "eth0"}, soon).ok());
  EXPECT_EQ(sys::read_file(cat(folder, "/10.1.0.2"), 100).value(), "a\r\neth0");
  EXPECT_EQ(sys::read_file(cat(folder, "/last_reserved_ip.0"), 100).value(), "10.1.0.2");
  EXPECT_EQ(host_local::add(*config, {"a", "eth0"}, soon).error().code(), Code::kAlreadyExists);
  // What the program of an old version wrote.
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(folder, "/10.1.0.3"), "b\n", 0600).ok());
  auto next = host_local::add(*config, {"c", "eth0"}, soon);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->ips.dump(), R"([{"address":"10.1.0.4/29","gateway":"10.1.0.1"}])");
  EXPECT_TRUE(host_local::check(*config, {"b", "eth0"}, soon).ok());
  ASSERT_TRUE(host_local::remove(*config, {"b", "eth0"}, soon).ok());
  ASSERT_TRUE(host_local::remove(*config, {"a", "eth0"}, soon).ok());
  EXPECT_FALSE(host_local::check(*config, {"a", "eth0"}, soon).ok());
  EXPECT_THAT(sys::list_dir(folder).value(), ElementsAre("10.1.0.4", "last_reserved_ip.0", "lock"));
  EXPECT_TRUE(host_local::remove(*config, {"a", "eth0"}, soon).ok());
}

TEST(HostLocal, AFullSetGivesBackWhatTheOthersGave) {
  const sys::TempDir temp = sys::TempDir::create().value();
  const auto config =
      ipam(cat(R"("ranges":[[{"subnet":"10.1.0.0/29"}],[{"subnet":"10.2.0.0/30"}]],"dataDir":")",
               temp.path(), "\""));
  ASSERT_TRUE(config.ok());
  const Deadline soon = Deadline::after_ms(5000);
  ASSERT_TRUE(host_local::add(*config, {"a", "eth0"}, soon).ok());
  auto full = host_local::add(*config, {"b", "eth0"}, soon);
  ASSERT_FALSE(full.ok());
  EXPECT_THAT(full.error().message(),
              HasSubstr("no IP addresses available in range set 1: 10.2.0.1-10.2.0.2"));
  EXPECT_FALSE(sys::exists(cat(temp.path(), "/n/10.1.0.3")));
}

TEST(HostLocal, ResolvConfBecomesDns) {
  EXPECT_EQ(
      host_local::parse_resolv_conf("# no\nnameserver 1.1.1.1\nnameserver ::1\nsearch a b\n"
                                    "domain d\noptions x:1 y\nnameserver\n")
          .dump(),
      R"({"domain":"d","nameservers":["1.1.1.1","::1"],"options":["x:1","y"],"search":["a","b"]})");
}

TEST(BridgeConfig, ErrorsNameTheFieldAndItsValue) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"bridge":"a/b"})",
       "bridge: a device's name of at most 15 bytes is expected, not \"a/b\""},
      {R"({"mtu":-1})", "mtu: a number from 0 to 65535 is expected, not -1"},
      {R"({"mtu":18446744073709551615})", "mtu: a number"},
      {R"({"ipMasq":"yes"})", "ipMasq: true or false is expected, not \"yes\""},
      {R"({"hairpinMode":true,"promiscMode":true})", "hairpinMode: false beside promiscMode"},
      {R"({"ipam":[]})", "ipam: an object is expected, not []"},
  };
  for (const auto& [text, expected] : cases) {
    const auto config = parse_bridge(Json::parse(text));
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(config.error().message(), HasSubstr(expected));
  }
}

TEST(BridgeConfig, ADefaultRouteComesWithTheDefaultGateway) {
  BridgeConfig config;
  config.gateway = config.default_gateway = true;
  Given given{.ips = Json::parse(R"([{"address":"10.1.0.2/24","gateway":"10.1.0.1"},)"
                                 R"({"address":"fd00::2/64","gateway":"fd00::1"}])"),
              .routes = Json::parse(R"([{"dst":"10.9.0.0/16"},{"dst":"::/0","gw":"fd00::9"}])"),
              .dns = {}};
  const BridgeAddresses plan = plan_addresses(config, given);
  EXPECT_EQ(
      plan.routes.dump(),
      R"([{"dst":"10.9.0.0/16"},{"dst":"::/0","gw":"fd00::9"},{"dst":"0.0.0.0/0","gw":"10.1.0.1"}])");
  EXPECT_THAT(plan.gateways, ElementsAre(net("10.1.0.1/24"), net("fd00::1/64")));
  ASSERT_EQ(plan.ways.size(), 3U);
  EXPECT_EQ(plan.ways[0].gateway, at("10.1.0.1"));
}

TEST(BridgeConfig, TheGatewayIsTheSubnetsFirstAddressWhereNobodySaysWhich) {
  BridgeConfig config;
  config.gateway = config.default_gateway = true;
  Given given{.ips = Json::parse(R"([{"address":"10.98.7.5/16"},{"address":"fd00::5/64"}])"),
              .routes = {},
              .dns = {}};
  const BridgeAddresses plan = plan_addresses(config, given);
  EXPECT_EQ(plan.ips.dump(), R"([{"address":"10.98.7.5/16","gateway":"10.98.0.1","interface":2},)"
                             R"({"address":"fd00::5/64","gateway":"fd00::1","interface":2}])");
  EXPECT_THAT(plan.gateways, ElementsAre(net("10.98.0.1/16"), net("fd00::1/64")));
  config.gateway = config.default_gateway = false;
  EXPECT_THAT(plan_addresses(config, given).gateways, testing::IsEmpty());
}

TEST(BuiltInChoice, EveryKeyIsOneThatWeImplementOrTheProgramRuns) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"bridge", R"({"type":"bridge","bridge":"b","vlan":0,"capabilities":{"x":true}})", nullptr},
      {"bridge",
       R"({"ipam":{"type":"host-local","subnet":"10.0.0.0/8","routes":[{"dst":"a","gw":"b"}]}})",
       nullptr},
      {"bridge", R"({"vlan":7,"newKey":1})", "newKey, vlan"},
      {"bridge", R"({"macspoofchk":true})", "macspoofchk"},
      {"bridge", R"({"ipam":{"type":"dhcp"}})", "ipam.type \"dhcp\""},
      {"bridge", R"({"ipam":{"type":"host-local","x":1,"routes":[{"dst":"a","mtu":9}]}})",
       "ipam.x, ipam.routes.mtu"},
      {"bridge", R"({"args":{"cni":{"ips":["10.0.0.1"]}}})", "args"},
      {"portmap", R"({"snat":false,"masqAll":true,"conditionsV4":[]})", nullptr},
      {"portmap", R"({"conditionsV4":["-s","1.2.3.4"]})", "conditionsV4"},
      {"portmap", R"({"backend":"iptables"})", "backend"},
      {"portmap", R"({"markMasqBit":5})", "markMasqBit"},
      {"loopback", "{}", nullptr},
      {"calico", "{}", ""},
  };
  for (const auto& [type, config, expected] : cases) {
    const auto why = builtin::why_not(type, config);
    ASSERT_EQ(why.has_value(), expected != nullptr) << type << config;
    EXPECT_EQ(why.value_or(""), expected == nullptr ? "" : expected);
  }
}

TEST(Rules, ElementsOfASandbox) {
  Rules rules;
  add_masquerade(net("10.88.0.5/16"), "id/eth0", rules);
  add_host_ports(net("fd00::5/64"),
                 {{.protocol = 17, .host = {}, .host_port = 53, .container_port = 5353},
                  {.protocol = 6, .host = at("::1"), .host_port = 80, .container_port = 8080},
                  {.protocol = 6, .host = at("::"), .host_port = 81, .container_port = 8080},
                  {.protocol = 6, .host = at("1.2.3.4"), .host_port = 82, .container_port = 1}},
                 Snat::kWhereNeeded, "id/eth0", rules);
  EXPECT_EQ(
      cat(chains_text(rules), elements_text(rules.elements)),
      "add chain inet fluyt_cni masq-10.88.0.0-16\n"
      "flush chain inet fluyt_cni masq-10.88.0.0-16\n"
      "add rule inet fluyt_cni masq-10.88.0.0-16 ip daddr 10.88.0.0/16 accept\n"
      "add rule inet fluyt_cni masq-10.88.0.0-16 ip daddr != 224.0.0.0/4 masquerade\n"
      "add chain inet fluyt_cni hairpin-fd00__-64\n"
      "flush chain inet fluyt_cni hairpin-fd00__-64\n"
      "add rule inet fluyt_cni hairpin-fd00__-64 ip6 saddr fd00::/64 masquerade\n"
      "create element inet fluyt_cni masquerade4 { 10.88.0.5 comment \"id/eth0\" : jump "
      "masq-10.88.0.0-16 }\n"
      "create element inet fluyt_cni hostports6 { 17 . 53 comment \"id/eth0\" : fd00::5 . 5353 }\n"
      "create element inet fluyt_cni targets6 { fd00::5 . 17 . 5353 comment \"id/eth0\" : jump "
      "hairpin-fd00__-64 }\n"
      "create element inet fluyt_cni hostports6_at { ::1 . 6 . 80 comment \"id/eth0\" : fd00::5 . "
      "8080 }\n"
      "create element inet fluyt_cni targets6 { fd00::5 . 6 . 8080 comment \"id/eth0\" : jump "
      "hairpin-fd00__-64 }\n"
      "create element inet fluyt_cni hostports6 { 6 . 81 comment \"id/eth0\" : fd00::5 . 8080 }\n");
  Rules without;
  add_host_ports(net("10.0.0.5/8"), {{.host = {}, .host_port = 80, .container_port = 80}},
                 Snat::kNever, "id/eth0", without);
  EXPECT_EQ(without.elements.size(), 1U);
  EXPECT_TRUE(without.chains.empty());
}

TEST(Rules, AListingIsReadBack) {
  const auto elements = parse_elements(
      R"({"nftables":[{"metainfo":{}},{"chain":{"name":"x"}},{"map":{"name":"targets4","elem":[[)"
      R"({"elem":{"val":{"concat":["10.0.0.2",6,80]},"comment":"a/eth0"}},{"jump":{"target":"t"}}]]}},)"
      R"({"map":{"name":"empty"}},{"map":{"name":"masquerade4","elem":[["10.0.0.2",{"jump":{"target":"m"}}]]}}]})");
  ASSERT_TRUE(elements.ok()) << elements.error().message();
  EXPECT_THAT(*elements, ElementsAre(Element{"targets4", "10.0.0.2 . 6 . 80", "jump t", "a/eth0"},
                                     Element{"masquerade4", "10.0.0.2", "jump m", ""}));
  for (const char* broken : {"", "{}", R"({"nftables":[{"map":{"name":"x","elem":[1]}}]})"}) {
    EXPECT_FALSE(parse_elements(broken).ok()) << broken;
  }
}

TEST(ResultForm, NamesTheFamilyBeforeVersionOne) {
  const Json result =
      Json::parse(R"({"ips":[{"address":"fd00::2/64"},{"address":"10.0.0.2/8","version":"4"}]})");
  EXPECT_EQ(in_form_of(result, "0.4.0")["ips"].dump(),
            R"([{"address":"fd00::2/64","version":"6"},{"address":"10.0.0.2/8","version":"4"}])");
  EXPECT_EQ(in_form_of(result, "1.0.0")["ips"].dump(),
            R"([{"address":"fd00::2/64"},{"address":"10.0.0.2/8"}])");
}

}  // namespace
}  // namespace fluyt::network
