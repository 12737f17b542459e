#include "runtime/cgroup/devices.h"

#include <fcntl.h>

#include <algorithm>

#include "base/strings.h"
#include "runtime/cgroup/files.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

std::string access_text(uint32_t access) {
  std::string out;
  if ((access & kRead) != 0) out += 'r';
  if ((access & kWrite) != 0) out += 'w';
  if ((access & kMknod) != 0) out += 'm';
  return out;
}

std::optional<uint32_t> parse_access(std::string_view text) {
  uint32_t out = 0;
  for (const char c : text) {
    const uint32_t bit = c == 'r' ? kRead : c == 'w' ? kWrite : c == 'm' ? kMknod : 0;
    if (bit == 0) return std::nullopt;
    out |= bit;
  }
  return out == 0 ? kAllAccess : out;
}

std::string number_text(const std::optional<uint32_t>& number) {
  return number ? std::to_string(*number) : std::string("*");
}

std::string rule_text(const Rule& rule) {
  return cat(rule.type, " ", number_text(rule.major), ":", number_text(rule.minor), " ",
             access_text(rule.access));
}

Error bad_rule(size_t index, std::string_view field, std::string_view value, std::string_view why) {
  return Error(Code::kInvalidArgument,
               cat("linux.resources.devices[", index, "].", field, ": ", value, ": ", why));
}

// major and minor: -1 is "all", as absent is.
Result<std::optional<uint32_t>> device_number(const std::optional<int64_t>& number, size_t index,
                                              std::string_view field) {
  if (!number || *number == -1) return std::optional<uint32_t>();
  if (*number < 0 || *number > INT32_MAX) {
    return bad_rule(index, field, std::to_string(*number), "expected -1 (all) or a device number");
  }
  return std::optional<uint32_t>(static_cast<uint32_t>(*number));
}

Result<Rule> rule_of(const oci::DeviceRule& asked, size_t index) {
  Rule rule{.allow = asked.allow, .type = asked.type};
  if (rule.type != 'a' && rule.type != 'c' && rule.type != 'b') {
    return bad_rule(index, "type", quote(std::string_view(&asked.type, 1)), "expected a, b or c");
  }
  const auto access = parse_access(asked.access);
  if (!access) return bad_rule(index, "access", quote(asked.access), "expected letters of rwm");
  rule.access = *access;
  rule.major = FLUYT_TRY(device_number(asked.major, index, "major"));
  rule.minor = FLUYT_TRY(device_number(asked.minor, index, "minor"));
  return rule;
}

Rule allowed(char type, std::optional<uint32_t> major, std::optional<uint32_t> minor,
             uint32_t access) {
  return {.allow = true, .type = type, .major = major, .minor = minor, .access = access};
}

void add_defaults(std::vector<Rule>& rules) {
  // A node may be made for any device: what counts is whether it may be opened.
  rules.push_back(allowed('c', {}, {}, kMknod));
  rules.push_back(allowed('b', {}, {}, kMknod));
  for (const uint32_t minor : {3U, 5U, 7U, 8U, 9U}) {  // null zero full random urandom
    rules.push_back(allowed('c', 1, minor, kAllAccess));
  }
  rules.push_back(allowed('c', 5, 0, kAllAccess));     // tty
  rules.push_back(allowed('c', 5, 2, kAllAccess));     // ptmx
  rules.push_back(allowed('c', 136, {}, kAllAccess));  // pts/*
}

bool same_device(const Rule& a, const Rule& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

bool within(const std::optional<uint32_t>& narrow, const std::optional<uint32_t>& wide) {
  return !wide || narrow == wide;
}
/// Every device of `narrow` is one of `wide`.
bool covers(const Rule& wide, const Rule& narrow) {
  return wide.type == narrow.type && within(narrow.major, wide.major) &&
         within(narrow.minor, wide.minor);
}
bool meet(const std::optional<uint32_t>& a, const std::optional<uint32_t>& b) {
  return !a || !b || a == b;
}
bool overlap(const Rule& a, const Rule& b) {
  return a.type == b.type && meet(a.major, b.major) && meet(a.minor, b.minor);
}

void add_exception(std::vector<Rule>& exceptions, const Rule& rule) {
  for (Rule& one : exceptions) {
    if (same_device(one, rule)) {
      one.access |= rule.access;
      return;
    }
  }
  exceptions.push_back(rule);
}

Result<> take_exception(std::vector<Rule>& exceptions, const Rule& rule) {
  for (Rule& one : exceptions) {
    if (!overlap(one, rule) || (one.access & rule.access) == 0) continue;
    if (!covers(rule, one)) {
      return Error(
          Code::kInvalidArgument,
          cat("linux.resources.devices: ", rule.allow ? "allow " : "deny ", quote(rule_text(rule)),
              ": cgroup v1 cannot make an exception from the earlier ", quote(rule_text(one))));
    }
    one.access &= ~rule.access;
  }
  std::erase_if(exceptions, [](const Rule& one) { return one.access == 0; });
  return {};
}

Result<> add_legacy(LegacyDevices& state, const Rule& rule) {
  if (rule.everything()) {
    state = {.allow_by_default = rule.allow, .exceptions = {}};
    return {};
  }
  if (rule.type == 'a') {
    for (const char type : {'c', 'b'}) {
      Rule half = rule;
      half.type = type;
      FLUYT_TRY(add_legacy(state, half));
    }
    return {};
  }
  if (rule.allow == state.allow_by_default) return take_exception(state.exceptions, rule);
  add_exception(state.exceptions, rule);
  return {};
}

std::optional<Rule> parse_line(std::string_view line) {
  const auto words = split_words(line);
  if (words.size() != 3 || words[0].size() != 1) return std::nullopt;
  const auto numbers = split(words[1], ':');
  const auto access = parse_access(words[2]);
  if (numbers.size() != 2 || !access) return std::nullopt;
  Rule rule{.allow = true, .type = words[0][0], .access = *access};
  for (const auto& [text, target] :
       {std::pair{numbers[0], &rule.major}, std::pair{numbers[1], &rule.minor}}) {
    if (text == "*") continue;
    *target = parse_number<uint32_t>(text);
    if (!target->has_value()) return std::nullopt;
  }
  return rule;
}

}  // namespace

Result<std::vector<Rule>> device_rules(const std::vector<oci::DeviceRule>& asked) {
  if (asked.size() > kMaxRules) {
    return Error(Code::kInvalidArgument, cat("linux.resources.devices: ", asked.size(),
                                             " rules: expected at most ", kMaxRules));
  }
  std::vector<Rule> rules;
  rules.reserve(asked.size() + 12);
  // Whatever the list says: what it does not name is refused (GHSA-g54h-m393-cpwq).
  rules.push_back(Rule{});
  for (size_t i = 0; i < asked.size(); ++i) rules.push_back(FLUYT_TRY(rule_of(asked[i], i)));
  add_defaults(rules);
  return rules;
}

Result<LegacyDevices> legacy_devices(const std::vector<Rule>& rules) {
  LegacyDevices state;
  for (const Rule& rule : rules) FLUYT_TRY(add_legacy(state, rule));
  return state;
}

Result<LegacyDevices> parse_devices_list(std::string_view text) {
  LegacyDevices state;
  for (const std::string_view line : split(trim(text), '\n')) {
    if (line.empty()) continue;
    const auto rule = parse_line(line);
    if (!rule)
      return Error(Code::kInternal, cat("devices.list: ", quote(line), ": not understood"));
    if (rule->everything()) {
      state.allow_by_default = true;
    } else {
      state.exceptions.push_back(*rule);
    }
  }
  return state;
}

std::vector<DeviceWrite> legacy_device_writes(const LegacyDevices& from, const LegacyDevices& to) {
  std::vector<DeviceWrite> out;
  const char* grow = to.allow_by_default ? "devices.deny" : "devices.allow";
  const char* shrink = to.allow_by_default ? "devices.allow" : "devices.deny";
  // The kernel does not list the exceptions of a default of "allow": there all is written anew.
  const bool known = !from.allow_by_default && !to.allow_by_default;
  if (!known) out.push_back({.file = shrink, .value = "a"});
  const auto access_in = [](const std::vector<Rule>& list, const Rule& rule) {
    for (const Rule& one : list) {
      if (same_device(one, rule)) return one.access;
    }
    return 0U;
  };
  for (Rule rule : to.exceptions) {
    if (known) rule.access &= ~access_in(from.exceptions, rule);
    if (rule.access != 0) out.push_back({.file = grow, .value = rule_text(rule)});
  }
  if (!known) return out;
  for (Rule rule : from.exceptions) {
    rule.access &= ~access_in(to.exceptions, rule);
    if (rule.access != 0) out.push_back({.file = shrink, .value = rule_text(rule)});
  }
  return out;
}

namespace {

Result<LegacyDevices> present_devices(const std::string& directory) {
  return parse_devices_list(FLUYT_TRY(read_value(directory, "devices.list")));
}

Result<> put_all(const std::string& directory, const std::vector<DeviceWrite>& writes) {
  sys::Fd file;
  std::string name;  // of what `file` is
  for (const DeviceWrite& write : writes) {
    if (write.file != name) {
      file = FLUYT_TRY(sys::open(cat(directory, "/", write.file), O_WRONLY));
      name = write.file;
    }
    FLUYT_TRY_CONTEXT(sys::write_all(file, write.value), cat(name, ": ", quote(write.value)));
  }
  return {};
}

// All or nothing, too: what the cgroup above does not have is refused half-way.
Result<> apply_legacy(const std::string& directory, const std::vector<Rule>& rules) {
  const LegacyDevices wanted = FLUYT_TRY(legacy_devices(rules));
  const LegacyDevices before = FLUYT_TRY(present_devices(directory));
  auto put = put_all(directory, legacy_device_writes(before, wanted));
  if (put.ok()) return {};
  if (const auto now = present_devices(directory); now.ok()) {
    put_all(directory, legacy_device_writes(*now, before))
        .ignore("the rules held before, so that the first error is the one to tell");
  }
  return std::move(put).error().add_context("linux.resources.devices");
}

}  // namespace

Result<> apply_devices(const CgroupRecord& record, const std::vector<oci::DeviceRule>& asked) {
  const std::vector<Rule> rules = FLUYT_TRY(device_rules(asked));
  if (const std::string* directory = find_legacy(record, "devices"))
    return apply_legacy(*directory, rules);
  if (record.unified.empty()) {
    return Error(
        Code::kFailedPrecondition,
        "linux.resources.devices: this host has neither the v1 devices controller nor cgroup v2");
  }
  FLUYT_TRY_CONTEXT(attach_device_program(record.unified, device_program(rules)),
                    "linux.resources.devices");
  return {};
}

}  // namespace fluyt::runtime::cgroup
