#include "runtime/cgroup/systemd_properties.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/strings.h"

namespace fluyt::runtime::cgroup::systemd {

namespace {

constexpr uint64_t kInfinity = UINT64_MAX;
constexpr uint64_t kSecond = 1'000'000;  // in microseconds
constexpr uint64_t kPercent = kSecond / 100;
constexpr uint64_t kMaxCpu = 8191;

// From this version on systemd has the property.
constexpr int kPeriodSince = 242;
constexpr int kCpusetSince = 244;
constexpr int kIdleSince = 252;

// "max", a number, or a number with the units that the kernel's memparse() knows.
std::optional<uint64_t> amount(std::string_view text) {
  text = trim(text);
  if (text == "max" || text == "-1") return kInfinity;
  constexpr std::string_view kUnits = "kmgt";
  uint64_t factor = 1;
  if (!text.empty()) {
    const size_t unit = kUnits.find(to_lower(text.substr(text.size() - 1)));
    if (unit != std::string_view::npos) {
      factor = uint64_t{1} << (10 * (unit + 1));
      text.remove_suffix(1);
    }
  }
  const auto number = parse_number<uint64_t>(text);
  if (!number || *number > kInfinity / factor) return std::nullopt;
  return *number * factor;
}

struct Quota {
  std::optional<uint64_t> quota;  // none: unlimited
  uint64_t period = 100'000;
};

// "max 100000", "5000".
std::optional<Quota> parse_cpu_max(std::string_view text) {
  const auto words = split_words(trim(text));
  if (words.empty() || words.size() > 2) return std::nullopt;
  Quota out;
  if (words.size() == 2) {
    const auto period = parse_number<uint64_t>(words[1]);
    if (!period || *period == 0) return std::nullopt;
    out.period = *period;
  }
  if (words[0] == "max") return out;
  out.quota = parse_number<uint64_t>(words[0]);
  if (!out.quota || *out.quota == 0 || *out.quota > kInfinity / kSecond) return std::nullopt;
  return out;
}

// Microseconds of CPU time a second, in whole per cent.
uint64_t per_second(uint64_t quota, uint64_t period) {
  const uint64_t exact = quota * kSecond / period;
  return (exact + kPercent - 1) / kPercent * kPercent;
}

uint64_t rounded(uint64_t quota, uint64_t period) {
  const uint64_t exact = quota * kSecond / period;
  return exact % kPercent == 0 ? quota : per_second(quota, period) * period / kSecond;
}

const Write* find(const std::vector<Write>& plan, std::string_view file) {
  // The last one counts, as it does in the kernel.
  const auto found =
      std::find_if(plan.rbegin(), plan.rend(), [&](const Write& one) { return one.file == file; });
  return found == plan.rend() ? nullptr : &*found;
}

// What the v1 files will hold.
Quota legacy_quota(const std::vector<Write>& plan, const Present& present) {
  Quota out{.quota = {}, .period = present.period};
  int64_t quota = present.quota;
  if (const Write* write = find(plan, "cpu.cfs_period_us"))
    out.period = parse_number<uint64_t>(trim(write->value)).value_or(0);
  if (const Write* write = find(plan, "cpu.cfs_quota_us"))
    quota = parse_number<int64_t>(trim(write->value)).value_or(-1);
  if (out.period == 0) out.period = present.period == 0 ? 100'000 : present.period;
  if (quota > 0) out.quota = static_cast<uint64_t>(quota);
  return out;
}

/// The properties in the making.
class Collector {
 public:
  explicit Collector(int version) : version_(version) {}

  void number(std::string_view name, std::string_view text) {
    if (const auto value = amount(text)) set(name, *value);
  }
  void quota(const Quota& quota) {
    if (version_ >= kPeriodSince) set("CPUQuotaPeriodUSec", quota.period);
    set("CPUQuotaPerSecUSec",
        quota.quota ? per_second(*quota.quota, quota.period) : uint64_t{kInfinity});
  }
  void cpus(std::string_view name, std::string_view list) {
    if (version_ < kCpusetSince) return;
    if (auto bits = cpu_bits(list); bits.ok()) set(name, *std::move(bits));
  }
  void set(std::string_view name, dbus::Value value) {
    std::erase_if(out_, [&](const Property& one) { return one.name == name; });
    out_.push_back({.name = std::string(name), .value = std::move(value)});
  }
  std::vector<Property> take() { return std::move(out_); }

 private:
  int version_;
  std::vector<Property> out_;
};

// systemd gives io.weight to BFQ scaled, with 100 in the middle of both ranges; this is the way
// back.
uint64_t weight_of_bfq(uint64_t weight) {
  return weight <= 100 ? weight : 100 + (weight - 100) * (10'000 - 100) / (1'000 - 100);
}

void add_weight(Collector& out, const Write& write) {
  // "default 50", or for one device "8:0 50", which systemd leaves alone.
  const auto words = split_words(trim(write.value));
  if (words.size() == 2 && words[0] != "default") return;
  if (words.empty()) return;
  const auto weight = parse_number<uint64_t>(words.back());
  if (!weight) return;
  out.set("IOWeight", write.file == "io.bfq.weight" ? weight_of_bfq(*weight) : *weight);
}

void add_cpu_weight(Collector& out, const std::vector<Write>& plan, int version) {
  const Write* weight = find(plan, "cpu.weight");
  const Write* idle = find(plan, "cpu.idle");
  if (idle != nullptr && version >= kIdleSince) {
    // Idle is a weight to systemd, and 0 its word for it.
    if (trim(idle->value) == "1") return out.set("CPUWeight", uint64_t{0});
    if (trim(idle->value) == "0" && weight == nullptr) return out.set("CPUWeight", kInfinity);
  }
  if (weight != nullptr) out.number("CPUWeight", weight->value);
}

struct Simple {
  std::string_view file;
  std::string_view property;
};
constexpr std::array kAmounts = std::to_array<Simple>({{"memory.max", "MemoryMax"},
                                                       {"memory.high", "MemoryHigh"},
                                                       {"memory.low", "MemoryLow"},
                                                       {"memory.min", "MemoryMin"},
                                                       {"memory.swap.max", "MemorySwapMax"},
                                                       {"pids.max", "TasksMax"},
                                                       {"memory.limit_in_bytes", "MemoryLimit"},
                                                       {"cpu.shares", "CPUShares"},
                                                       {"blkio.weight", "BlockIOWeight"}});

std::string access_of(const Rule& rule) {
  return cat((rule.access & kRead) != 0 ? "r" : "", (rule.access & kWrite) != 0 ? "w" : "",
             (rule.access & kMknod) != 0 ? "m" : "");
}

std::vector<Property> all_devices() {
  return {{.name = "DeviceAllow", .value = dbus::Pairs{}},
          {.name = "DevicePolicy", .value = std::string("auto")}};
}

Error bad_annotation(std::string_view key, std::string_view value, std::string_view why) {
  return Error(Code::kInvalidArgument,
               cat("annotation ", quote(key), ": ", quote(value), ": ", why));
}

std::optional<std::string> parse_quoted(std::string_view& text) {
  if (text.size() < 2 || (text[0] != '\'' && text[0] != '"')) return std::nullopt;
  const char mark = text[0];
  std::string out;
  for (size_t at = 1; at < text.size(); ++at) {
    if (text[at] == mark) {
      text.remove_prefix(at + 1);
      return out;
    }
    if (text[at] == '\\') ++at;
    if (at == text.size()) break;
    out += text[at];
  }
  return std::nullopt;
}

std::optional<dbus::Value> parse_list(std::string_view text) {
  std::vector<std::string> out;
  text = trim(text.substr(1, text.size() - 2));
  while (!text.empty()) {
    auto one = parse_quoted(text);
    if (!one) return std::nullopt;
    out.push_back(std::move(*one));
    text = trim(text);
    if (text.empty()) break;
    if (text[0] != ',') return std::nullopt;
    text = trim(text.substr(1));
  }
  return dbus::Value(std::move(out));
}

template <class T>
std::optional<dbus::Value> parse_as(std::string_view text) {
  const auto number = parse_number<T>(text);
  return number ? std::optional<dbus::Value>(*number) : std::nullopt;
}

std::optional<dbus::Value> parse_value(std::string_view text) {
  text = trim(text);
  if (text == "true") return dbus::Value(true);
  if (text == "false") return dbus::Value(false);
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') return parse_list(text);
  if (text.starts_with('\'') || text.starts_with('"')) {
    auto value = parse_quoted(text);
    if (!value || !trim(text).empty()) return std::nullopt;
    return dbus::Value(std::move(*value));
  }
  const auto words = split_words(text);
  if (words.size() == 2) {
    if (words[0] == "uint64") return parse_as<uint64_t>(words[1]);
    if (words[0] == "int64") return parse_as<int64_t>(words[1]);
    if (words[0] == "uint32") return parse_as<uint32_t>(words[1]);
    if (words[0] == "int32") return parse_as<int32_t>(words[1]);
    return std::nullopt;
  }
  return parse_as<int32_t>(text);
}

std::optional<uint64_t> as_microseconds(const dbus::Value& value) {
  std::optional<uint64_t> seconds;
  if (const auto* number = std::get_if<int32_t>(&value); number != nullptr && *number >= 0)
    seconds = static_cast<uint64_t>(*number);
  if (const auto* number = std::get_if<int64_t>(&value); number != nullptr && *number >= 0)
    seconds = static_cast<uint64_t>(*number);
  if (const auto* number = std::get_if<uint32_t>(&value)) seconds = *number;
  if (const auto* number = std::get_if<uint64_t>(&value)) seconds = *number;
  if (!seconds || *seconds > kInfinity / kSecond) return std::nullopt;
  return *seconds * kSecond;
}

Result<Property> annotation_property(std::string_view key, std::string_view name,
                                     std::string_view text) {
  const bool letters = std::ranges::all_of(
      name, [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); });
  if (name.size() < 3 || !letters)
    return bad_annotation(key, text, "expected a property's name, of letters alone");
  auto value = parse_value(text);
  if (!value) {
    return bad_annotation(key, text,
                          "expected 'text', true, false, a number, uint64 and a number, or a "
                          "['list']");
  }
  // "TimeoutStopSec" is what a unit file says; on the bus it is TimeoutStopUSec.
  if (name.ends_with("Sec") && name.size() > 3 && name[name.size() - 4] >= 'a' &&
      name[name.size() - 4] <= 'z') {
    const auto microseconds = as_microseconds(*value);
    if (!microseconds) return bad_annotation(key, text, "expected a number of seconds");
    return Property{.name = cat(name.substr(0, name.size() - 3), "USec"), .value = *microseconds};
  }
  return Property{.name = std::string(name), .value = std::move(*value)};
}

}  // namespace

void fit_to_systemd(std::vector<Write>& plan, const Present& present) {
  const Write* idle = find(plan, "cpu.idle");
  if (idle != nullptr && trim(idle->value) == "1")
    std::erase_if(plan, [](const Write& write) { return write.file == "cpu.weight"; });
  const Quota legacy = legacy_quota(plan, present);
  for (Write& write : plan) {
    if (write.file == "pids.max" && trim(write.value) == "0") write.value.assign(1, '1');
    if (write.file == "cpu.cfs_quota_us" && legacy.quota)
      write.value = std::to_string(rounded(*legacy.quota, legacy.period));
    if (write.file != "cpu.max") continue;
    const auto quota = parse_cpu_max(write.value);
    if (quota && quota->quota)
      write.value = cat(rounded(*quota->quota, quota->period), " ", quota->period);
  }
}

std::vector<Property> limit_properties(const std::vector<Write>& plan, const Present& present,
                                       int version) {
  Collector out(version);
  for (const Write& write : plan) {
    for (const Simple& one : kAmounts) {
      if (write.file == one.file) out.number(one.property, write.value);
    }
    if (write.file == "cpu.max") {
      if (const auto quota = parse_cpu_max(write.value)) out.quota(*quota);
    } else if (write.file == "cpuset.cpus") {
      out.cpus("AllowedCPUs", write.value);
    } else if (write.file == "cpuset.mems") {
      out.cpus("AllowedMemoryNodes", write.value);
    } else if (write.file == "io.weight" || write.file == "io.bfq.weight") {
      add_weight(out, write);
    }
  }
  if (find(plan, "cpu.cfs_quota_us") != nullptr || find(plan, "cpu.cfs_period_us") != nullptr)
    out.quota(legacy_quota(plan, present));
  add_cpu_weight(out, plan, version);
  return out.take();
}

std::vector<Property> device_properties(const std::vector<Rule>& rules) {
  const auto state = legacy_devices(rules);
  if (!state.ok() || state.value().allow_by_default) return all_devices();
  dbus::Pairs allowed;
  for (const Rule& rule : state.value().exceptions) {
    const std::string_view sort = rule.type == 'b' ? "block" : "char";
    std::string path;
    if (rule.major && rule.minor) {
      path = cat("/dev/", sort, "/", *rule.major, ":", *rule.minor);
    } else if (rule.major) {
      path = cat(sort, "-", *rule.major);
    } else if (!rule.minor) {
      path = cat(sort, "-*");
    } else {
      return all_devices();  // a minor of every major: systemd has no word for it
    }
    allowed.emplace_back(std::move(path), access_of(rule));
  }
  // The empty list takes away what was there.
  return {{.name = "DeviceAllow", .value = dbus::Pairs{}},
          {.name = "DeviceAllow", .value = std::move(allowed)},
          {.name = "DevicePolicy", .value = std::string("strict")}};
}

void sort_properties(std::vector<Property>& properties) {
  const auto file = [](const Property& one) -> std::string_view {
    if (one.name == "CPUQuotaPerSecUSec") return "CPUQuota";
    if (one.name == "CPUQuotaPeriodUSec") return "CPUQuotaPeriodSec";
    return one.name;
  };
  // Few, and equal ones stay in their order.
  for (size_t at = 1; at < properties.size(); ++at) {
    for (size_t to = at; to > 0 && file(properties[to]) < file(properties[to - 1]); --to)
      std::swap(properties[to], properties[to - 1]);
  }
}

Result<std::vector<Property>> annotation_properties(
    const std::map<std::string, std::string>& annotations) {
  constexpr std::string_view kPrefix = "org.systemd.property.";
  std::vector<Property> out;
  for (const auto& [key, text] : annotations) {
    if (!key.starts_with(kPrefix)) continue;
    out.push_back(
        FLUYT_TRY(annotation_property(key, std::string_view(key).substr(kPrefix.size()), text)));
  }
  return out;
}

Result<std::vector<uint8_t>> cpu_bits(std::string_view list) {
  const auto refuse = [&] {
    return Error(Code::kInvalidArgument,
                 cat("list ", quote(list), ": expected numbers and ranges such as 0-2,4"));
  };
  std::vector<uint8_t> out;
  for (std::string_view piece : split(trim(list), ',')) {
    piece = trim(piece);
    if (piece.empty()) continue;
    const size_t dash = piece.find('-');
    const auto first = parse_number<uint64_t>(piece.substr(0, dash));
    const auto last =
        dash == std::string_view::npos ? first : parse_number<uint64_t>(piece.substr(dash + 1));
    if (!first || !last || *first > *last || *last > kMaxCpu) return refuse();
    if (out.size() <= *last / 8) out.resize(*last / 8 + 1);
    for (uint64_t cpu = *first; cpu <= *last; ++cpu)
      out[cpu / 8] = static_cast<uint8_t>(out[cpu / 8] | (1U << (cpu % 8)));
  }
  return out;
}

}  // namespace fluyt::runtime::cgroup::systemd
