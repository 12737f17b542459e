#include "base/strings.h"
#include "network/builtin/host_local.h"

namespace fluyt::network::host_local {

namespace {

constexpr size_t kMaxRanges = 256;
constexpr const char* kDefaultFolder = "/var/lib/cni/networks";

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

Result<Range> range_of(const Json& object) {
  if (!object.is_object()) return bad(cat("an object is expected, not ", shown(object)));
  const auto subnet = object.find("subnet");
  const auto prefix = subnet != object.end() && subnet->is_string()
                          ? find_prefix(subnet->get_ref<const std::string&>())
                          : std::optional<Prefix>();
  if (!prefix) {
    return wrong_field("subnet", subnet == object.end() ? Json() : *subnet,
                       "an address with a prefix length");
  }
  if (prefix->length + 2 > prefix->address.bits()) {
    return wrong_field("subnet", *subnet, "one with room for two addresses");
  }
  if (prefix->network() != prefix->address) {
    return wrong_field("subnet", *subnet, cat("its network address, ", prefix->network().text()));
  }
  Range range{.subnet = *prefix,
              .first = prefix->address.next(),
              .last = prefix->last(),
              .gateway = prefix->address.next()};
  // An IPv4 network's last address is its broadcast address.
  if (prefix->address.v4()) range.last.bytes[3] = static_cast<char>(range.last.bytes[3] - 1);
  for (const auto& [field, to] : {std::pair("gateway", &range.gateway),
                                  {"rangeStart", &range.first},
                                  {"rangeEnd", &range.last}}) {
    const auto given = FLUYT_TRY(address_of(object, field));
    if (!given) continue;
    if (to != &range.gateway && !range.subnet.contains(*given)) {
      return wrong_field(field, object[field], cat("an address in ", range.subnet.text()));
    }
    *to = *given;
  }
  if (range.last < range.first) {
    return wrong_field("rangeEnd", range.last.text(),
                       cat("one that is not before rangeStart ", range.first.text()));
  }
  return range;
}

Result<RangeSet> set_of(const Json& list) {
  if (!list.is_array() || list.empty() || list.size() > kMaxRanges) {
    return bad(cat("a list of 1 to ", kMaxRanges, " ranges is expected, not ", shown(list)));
  }
  RangeSet set;
  for (size_t i = 0; i < list.size(); ++i) {
    Range range = FLUYT_TRY_CONTEXT(range_of(list[i]), cat("[", i, "]"));
    for (const Range& other : set) {
      if (other.first.v4() != range.first.v4()) return bad("IPv4 and IPv6 in one set of ranges");
      if (other.first <= range.last && range.first <= other.last) {
        return bad(cat("[", i, "]: overlaps with ", other.subnet.text()));
      }
    }
    set.push_back(std::move(range));
  }
  return set;
}

bool overlap(const RangeSet& a, const RangeSet& b) {
  for (const Range& one : a) {
    for (const Range& two : b) {
      if (one.first.v4() == two.first.v4() && one.first <= two.last && two.first <= one.last) {
        return true;
      }
    }
  }
  return false;
}

Result<std::vector<RangeSet>> sets_of(const Json& ipam) {
  std::vector<RangeSet> sets;
  // The old form: one range, beside the rest.
  if (ipam.contains("subnet")) sets.push_back({FLUYT_TRY(range_of(ipam))});
  if (const auto list = ipam.find("ranges"); list != ipam.end() && !list->is_null()) {
    if (!list->is_array() || list->size() > kMaxRanges) {
      return wrong_field("ranges", *list, cat("a list of at most ", kMaxRanges));
    }
    for (size_t i = 0; i < list->size(); ++i) {
      sets.push_back(FLUYT_TRY_CONTEXT(set_of((*list)[i]), cat("ranges[", i, "]")));
    }
  }
  if (sets.empty()) return bad("ranges: none, nor a subnet");
  for (size_t i = 0; i < sets.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (overlap(sets[i], sets[k])) return bad(cat("ranges: set ", k, " overlaps with set ", i));
    }
  }
  return sets;
}

}  // namespace

Result<Json> routes_of(const Json& ipam) {
  const auto routes = ipam.find("routes");
  if (routes == ipam.end() || routes->is_null()) return Json();
  if (!routes->is_array() || routes->size() > kMaxRanges) {
    return wrong_field("routes", *routes, cat("a list of at most ", kMaxRanges));
  }
  for (size_t i = 0; i < routes->size(); ++i) {
    const Json& route = (*routes)[i];
    const std::string where = cat("routes[", i, "]");
    if (!route.is_object()) return wrong_field(where, route, "an object");
    const auto dst = route.find("dst");
    if (dst == route.end() || !dst->is_string() ||
        !find_prefix(dst->get_ref<const std::string&>())) {
      return wrong_field(cat(where, ".dst"), dst == route.end() ? Json() : *dst,
                         "an address with a prefix length");
    }
    FLUYT_TRY_CONTEXT(address_of(route, "gw"), where);
  }
  return *routes;
}

std::vector<std::string> unknown_route_keys(const Json& ipam) {
  std::vector<std::string> out;
  const auto routes = ipam.find("routes");
  if (routes == ipam.end() || !routes->is_array()) return out;
  for (const Json& route : *routes) {
    if (!route.is_object()) continue;
    for (const std::string& key : unknown_keys(route, {"dst", "gw"})) {
      out.push_back(cat("routes.", key));
    }
  }
  return out;
}

bool Range::contains(const Address& address) const {
  return subnet.contains(address) && first <= address && address <= last;
}

std::string why_not(const Json& ipam) {
  auto unknown = unknown_keys(ipam, {"subnet", "rangeStart", "rangeEnd", "gateway", "ranges",
                                     "routes", "dataDir", "resolvConf"});
  for (std::string& key : unknown_route_keys(ipam)) unknown.push_back(std::move(key));
  return unknown.empty() ? "" : cat("ipam.", join(unknown, ", ipam."));
}

Result<Config> parse(const Json& request) {
  const Json& ipam = request.at("ipam");
  Config config;
  std::string base = FLUYT_TRY_CONTEXT(text_of(ipam, "dataDir"), "ipam");
  if (base.empty()) base = kDefaultFolder;
  if (!base.starts_with('/')) return wrong_field("ipam.dataDir", base, "an absolute path");
  config.folder = cat(base, "/", request.at("name").get<std::string>());
  config.ranges = FLUYT_TRY_CONTEXT(sets_of(ipam), "ipam");
  config.routes = FLUYT_TRY_CONTEXT(routes_of(ipam), "ipam");
  config.resolv_conf = FLUYT_TRY_CONTEXT(text_of(ipam, "resolvConf"), "ipam");
  return config;
}

bool holds(const Config& config, const Address& address) {
  for (const RangeSet& set : config.ranges) {
    for (const Range& range : set) {
      if (range.contains(address)) return true;
    }
  }
  return false;
}

std::optional<Choice> choose(const RangeSet& set, const Address& previous,
                             const std::set<Address>& taken) {
  size_t at = 0;
  bool inside = false;
  for (size_t i = 0; i < set.size() && !inside; ++i) {
    inside = !previous.bytes.empty() && set[i].contains(previous);
    if (inside) at = i;
  }
  // One step: to the next address, from a range's end to the next range's begin.
  auto step = [&](const Address& from) {
    if (from != set[at].last) return from.next();
    at = (at + 1) % set.size();
    return set[at].first;
  };
  const Address begin = inside ? step(previous) : set[0].first;
  Address current = begin;
  do {
    // Each address that is passed over is one of `taken` or a gateway, so this ends soon.
    if (current != set[at].gateway && !taken.contains(current)) return Choice{current, &set[at]};
    current = step(current);
  } while (current != begin);
  return std::nullopt;
}

Json parse_resolv_conf(std::string_view text) {
  Json dns = Json::object();
  for (const std::string_view raw : split(text, '\n')) {
    const std::string_view line = trim(raw);
    if (line.empty() || line[0] == '#' || line[0] == ';') continue;
    const auto words = split_words(line);
    if (words.size() < 2) continue;
    if (words[0] == "nameserver") dns["nameservers"].push_back(words[1]);
    if (words[0] == "domain") dns["domain"] = words[1];
    for (size_t i = 1; i < words.size(); ++i) {
      if (words[0] == "search") dns["search"].push_back(words[i]);
      if (words[0] == "options") dns["options"].push_back(words[i]);
    }
  }
  return dns;
}

}  // namespace fluyt::network::host_local
