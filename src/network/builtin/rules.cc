#include "network/builtin/rules.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

constexpr std::string_view kJoin = " . ";

struct Map {
  std::string_view name, type;
};
constexpr std::array<Map, 8> kMaps = {{
    {"hostports4_at", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"},
    {"hostports4", "inet_proto . inet_service : ipv4_addr . inet_service"},
    {"hostports6_at", "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service"},
    {"hostports6", "inet_proto . inet_service : ipv6_addr . inet_service"},
    {"targets4", "ipv4_addr . inet_proto . inet_service : verdict"},
    {"targets6", "ipv6_addr . inet_proto . inet_service : verdict"},
    {"masquerade4", "ipv4_addr : verdict"},
    {"masquerade6", "ipv6_addr : verdict"},
}};

struct Chain {
  std::string_view name, hook;
  std::vector<std::string_view> rules;
};

// Only what one of our host ports translated goes on with the mark (the bit that CNI's portmap
// takes): somebody else's translation to the same place, a Service's, keeps its source.
const std::vector<std::string_view> kToHostPorts = {
    "fib daddr type local meta mark set meta mark | 0x2000",
    "fib daddr type local jump hostports",
    "fib daddr type local meta mark set meta mark & 0xffffdfff",
};

std::vector<Chain> chains() {
  return {
      {"hostports",
       "",
       {"dnat ip to ip daddr . meta l4proto . th dport map @hostports4_at",
        "dnat ip to meta l4proto . th dport map @hostports4",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6_at",
        "dnat ip6 to meta l4proto . th dport map @hostports6"}},
      {"masquerade_all", "", {"masquerade"}},
      {"prerouting", "type nat hook prerouting priority dstnat;", kToHostPorts},
      {"output", "type nat hook output priority -100;", kToHostPorts},
      {"postrouting",
       "type nat hook postrouting priority srcnat;",
       {"meta mark & 0x2000 == 0x2000 ip daddr . meta l4proto . th dport vmap @targets4",
        "meta mark & 0x2000 == 0x2000 ip6 daddr . meta l4proto . th dport vmap @targets6",
        "ip saddr vmap @masquerade4", "ip6 saddr vmap @masquerade6"}},
  };
}

std::string_view family_digit(const Address& address) { return address.v4() ? "4" : "6"; }
std::string_view family_word(const Address& address) { return address.v4() ? "ip" : "ip6"; }

// "masq-10.88.0.0-16"; nft's names have no colons.
std::string chain_of(std::string_view use, const Prefix& prefix) {
  std::string network = prefix.network().text();
  std::replace(network.begin(), network.end(), ':', '_');
  return cat(use, "-", network, "-", prefix.length);
}

// Replaces the chain's rules, for a chain that every sandbox of a subnet brings along.
std::string chain_text(const std::string& name, const std::vector<std::string>& rules) {
  std::string out = cat("add chain ", kTable, " ", name, "\nflush chain ", kTable, " ", name, "\n");
  for (const std::string& rule : rules) out += cat("add rule ", kTable, " ", name, " ", rule, "\n");
  return out;
}

void add_once(const Element& element, std::vector<Element>& elements) {
  if (std::find(elements.begin(), elements.end(), element) == elements.end()) {
    elements.push_back(element);
  }
}

std::string key_text(const Json& key) {
  if (key.is_string()) return key.get<std::string>();
  if (key.is_number_integer()) return std::to_string(key.get<int64_t>());
  std::vector<std::string> parts;
  for (const Json& part : key.at("concat")) parts.push_back(key_text(part));
  return join(parts, kJoin);
}

std::string value_text(const Json& value) {
  if (const auto jump = value.find("jump"); value.is_object() && jump != value.end()) {
    return cat("jump ", jump->at("target").get<std::string>());
  }
  return key_text(value);
}

std::vector<Element> elements_checked(std::string_view text) {
  std::vector<Element> out;
  const Json listing = Json::parse(text);
  for (const Json& object : listing.at("nftables")) {
    const auto map = object.find("map");
    if (map == object.end() || !map->contains("elem")) continue;
    for (const Json& pair : map->at("elem")) {
      const Json& key = pair.at(0);
      const bool named = key.is_object() && key.contains("elem");
      const Json& element = named ? key.at("elem") : key;
      out.push_back({.map = map->at("name"),
                     .key = key_text(named ? element.at("val") : element),
                     .value = value_text(pair.at(1)),
                     .comment = named ? element.value("comment", "") : ""});
    }
  }
  return out;
}

}  // namespace

void add_masquerade(const Prefix& address, const std::string& owner, Rules& rules) {
  const std::string chain = chain_of("masq", address);
  const std::string_view ip = family_word(address.address);
  const std::string_view multicast = address.address.v4() ? "224.0.0.0/4" : "ff00::/8";
  rules.chains.push_back(chain_text(
      chain, {cat(ip, " daddr ", address.network().text(), "/", address.length, " accept"),
              cat(ip, " daddr != ", multicast, " masquerade")}));
  rules.elements.push_back({.map = cat("masquerade", family_digit(address.address)),
                            .key = address.address.text(),
                            .value = cat("jump ", chain),
                            .comment = owner});
}

void add_host_ports(const Prefix& address, const std::vector<HostPort>& ports, Snat snat,
                    const std::string& owner, Rules& rules) {
  const Address& pod = address.address;
  std::string back = "masquerade_all";
  if (snat == Snat::kWhereNeeded) {
    back = chain_of("hairpin", address);
    const std::string subnet = cat(address.network().text(), "/", address.length);
    rules.chains.push_back(
        chain_text(back, {pod.v4() ? cat("ip saddr { 127.0.0.1, ", subnet, " } masquerade")
                                   : cat("ip6 saddr ", subnet, " masquerade")}));
  }
  for (const HostPort& port : ports) {
    if (port.host && port.host->v4() != pod.v4()) continue;
    // "Every address" may be written as an address.
    const bool any = !port.host || port.host->bytes.find_first_not_of('\0') == std::string::npos;
    const std::string service = cat(port.protocol, kJoin, port.host_port);
    add_once({.map = cat("hostports", family_digit(pod), any ? "" : "_at"),
              .key = any ? service : cat(port.host->text(), kJoin, service),
              .value = cat(pod.text(), kJoin, port.container_port),
              .comment = owner},
             rules.elements);
    if (snat == Snat::kNever) continue;
    add_once({.map = cat("targets", family_digit(pod)),
              .key = cat(pod.text(), kJoin, port.protocol, kJoin, port.container_port),
              .value = cat("jump ", back),
              .comment = owner},
             rules.elements);
  }
}

std::string table_text() {
  std::string out = cat("add table ", kTable, "\n");
  for (const Map& map : kMaps) {
    out += cat("add map ", kTable, " ", map.name, " { type ", map.type, "; }\n");
  }
  for (const Chain& chain : chains()) {
    out += cat("add chain ", kTable, " ", chain.name,
               chain.hook.empty() ? "" : cat(" { ", chain.hook, " }"), "\n");
    out += cat("flush chain ", kTable, " ", chain.name, "\n");
  }
  for (const Chain& chain : chains()) {
    for (const std::string_view rule : chain.rules) {
      out += cat("add rule ", kTable, " ", chain.name, " ", rule, "\n");
    }
  }
  return out;
}

std::string chains_text(const Rules& rules) {
  std::string out;
  for (const std::string& chain : rules.chains) out += chain;
  return out;
}

std::string elements_text(const std::vector<Element>& elements) {
  std::string out;
  for (const Element& element : elements) {
    out += cat("create element ", kTable, " ", element.map, " { ", element.key, " comment \"",
               element.comment, "\" : ", element.value, " }\n");
  }
  return out;
}

std::string delete_text(const std::vector<Element>& elements) {
  std::string out;
  for (const Element& element : elements) {
    out += cat("delete element ", kTable, " ", element.map, " { ", element.key, " }\n");
  }
  return out;
}

Result<std::vector<Element>> parse_elements(std::string_view json) {
  try {
    return elements_checked(json);
  } catch (const Json::exception& error) {
    return Error(Code::kInternal, cat("nftables: its listing: ", quote(error.what(), 128)));
  }
}

}  // namespace fluyt::network
