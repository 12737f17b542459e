#include "guest/sandbox/text.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace fluyt::guest {
namespace {

using Json = nlohmann::json;

// Arguments and environment are bytes; JSON is text. What is not UTF-8 goes as numbers.
Json bytes_of(const std::string& value) {
  try {
    (void)Json(value).dump();
    return value;
  } catch (const Json::type_error&) {
    Json out = Json::array();
    for (const char c : value) out.push_back(static_cast<unsigned char>(c));
    return out;
  }
}

std::string to_bytes(const Json& json) {
  if (json.is_string()) return json.get<std::string>();
  std::string out;
  for (const Json& byte : json) out.push_back(static_cast<char>(byte.get<unsigned char>()));
  return out;
}

Json list_of(const std::vector<std::string>& values) {
  Json out = Json::array();
  for (const std::string& value : values) out.push_back(bytes_of(value));
  return out;
}

std::vector<std::string> to_list(const Json& json) {
  std::vector<std::string> out;
  for (const Json& value : json) out.push_back(to_bytes(value));
  return out;
}

// A filter has thousands of words: as one string they cost little to read.
constexpr size_t kWordDigits = 16;

std::string hex_of(const std::vector<uint64_t>& words) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(words.size() * kWordDigits);
  for (const uint64_t word : words) {
    for (int shift = 60; shift >= 0; shift -= 4) out.push_back(kDigits[word >> shift & 15]);
  }
  return out;
}

// What is not as hex_of() writes it comes out as another filter, which its own check refuses.
std::vector<uint64_t> to_words(std::string_view text) {
  std::vector<uint64_t> out;
  for (size_t at = 0; at + kWordDigits <= text.size(); at += kWordDigits) {
    uint64_t word = 0;
    std::from_chars(text.data() + at, text.data() + at + kWordDigits, word, 16);
    out.push_back(word);
  }
  return out;
}

Json json_of(const Credentials& who) {
  return {
      {"ids", {who.uid, who.euid, who.suid, who.fsuid, who.gid, who.egid, who.sgid, who.fsgid}},
      {"groups", who.groups},
      {"capabilities", {who.permitted, who.effective, who.inheritable, who.bounding, who.ambient}}};
}

Credentials to_credentials(const Json& json) {
  Credentials who;
  uint32_t* const ids[] = {&who.uid, &who.euid, &who.suid, &who.fsuid,
                           &who.gid, &who.egid, &who.sgid, &who.fsgid};
  uint64_t* const sets[] = {&who.permitted, &who.effective, &who.inheritable, &who.bounding,
                            &who.ambient};
  for (size_t i = 0; i < std::size(ids); ++i) json.at("ids").at(i).get_to(*ids[i]);
  for (size_t i = 0; i < std::size(sets); ++i) json.at("capabilities").at(i).get_to(*sets[i]);
  json.at("groups").get_to(who.groups);
  return who;
}

Json json_of(const ProgramRequest& request) {
  Json limits = Json::array();
  for (const auto& [resource, limit] : request.limits)
    limits.push_back({resource, limit.first, limit.second});
  return {{"arguments", list_of(request.arguments)},
          {"environment", list_of(request.environment)},
          {"directory", bytes_of(request.working_directory)},
          {"credentials", json_of(request.credentials)},
          {"umask", request.umask ? Json(*request.umask) : Json()},
          {"limits", limits},
          {"noNewPrivileges", request.no_new_privileges},
          {"filter", hex_of(request.filter)}};
}

ProgramRequest to_program(const Json& json) {
  ProgramRequest out;
  out.arguments = to_list(json.at("arguments"));
  out.environment = to_list(json.at("environment"));
  out.working_directory = to_bytes(json.at("directory"));
  out.credentials = to_credentials(json.at("credentials"));
  if (!json.at("umask").is_null()) out.umask = json.at("umask").get<uint32_t>();
  for (const Json& limit : json.at("limits"))
    out.limits[limit.at(0).get<int>()] = {limit.at(1).get<uint64_t>(), limit.at(2).get<uint64_t>()};
  json.at("noNewPrivileges").get_to(out.no_new_privileges);
  out.filter = to_words(json.at("filter").get_ref<const std::string&>());
  return out;
}

Json json_of(const SandboxRequest& request) {
  Json mounts = Json::array();
  for (const SandboxMount& mount : request.mounts)
    mounts.push_back({static_cast<int>(mount.kind), bytes_of(mount.path), mount.mode,
                      mount.read_only, bytes_of(mount.data)});
  return {{"root", bytes_of(request.root)},
          {"readOnly", request.read_only},
          {"program", json_of(request.program)},
          {"hostName", bytes_of(request.host_name)},
          {"domainName", bytes_of(request.domain_name)},
          {"initIsSpared", request.init_is_spared},
          {"holdsPod", request.holds_pod},
          {"memoryLimitBytes", request.memory_limit_bytes},
          {"processorTime", {request.processor_quota_us, request.processor_period_us}},
          {"network", static_cast<int>(request.network)},
          {"masked", list_of(request.masked_paths)},
          {"readOnlyPaths", list_of(request.read_only_paths)},
          {"mounts", mounts},
          {"maxTasks", request.max_tasks},
          {"strace", request.strace},
          {"log", bytes_of(request.log)}};
}

SandboxRequest to_sandbox(const Json& json) {
  SandboxRequest out;
  out.root = to_bytes(json.at("root"));
  json.at("readOnly").get_to(out.read_only);
  out.program = to_program(json.at("program"));
  out.host_name = to_bytes(json.at("hostName"));
  out.domain_name = to_bytes(json.at("domainName"));
  for (const Json& mount : json.at("mounts"))
    out.mounts.push_back({.kind = static_cast<SandboxMount::Kind>(mount.at(0).get<uint8_t>()),
                          .path = to_bytes(mount.at(1)),
                          .mode = mount.at(2).get<uint32_t>(),
                          .data = to_bytes(mount.at(4)),
                          .read_only = mount.at(3).get<bool>()});
  json.at("memoryLimitBytes").get_to(out.memory_limit_bytes);
  json.at("processorTime").at(0).get_to(out.processor_quota_us);
  json.at("processorTime").at(1).get_to(out.processor_period_us);
  json.at("initIsSpared").get_to(out.init_is_spared);
  json.at("holdsPod").get_to(out.holds_pod);
  out.network = static_cast<SandboxNetwork>(json.at("network").get<uint8_t>());
  out.masked_paths = to_list(json.at("masked"));
  out.read_only_paths = to_list(json.at("readOnlyPaths"));
  json.at("maxTasks").get_to(out.max_tasks);
  json.at("strace").get_to(out.strace);
  out.log = to_bytes(json.at("log"));
  return out;
}

Surroundings to_surroundings(const Json& json) {
  Surroundings out;
  out.mounts = to_bytes(json.at("mounts"));
  json.at("pid").get_to(out.pid_namespace);
  json.at("ipc").get_to(out.ipc_namespace);
  json.at("uts").get_to(out.uts_namespace);
  out.host_name = to_bytes(json.at("hostName"));
  out.domain_name = to_bytes(json.at("domainName"));
  return out;
}

template <class T>
Result<T> parse(std::string_view text, T (*convert)(const Json&)) {
  try {
    return convert(Json::parse(text));
  } catch (const Json::exception& broken) {
    return Error(Code::kInvalidArgument, cat("request of a sandbox: ", broken.what()));
  }
}

}  // namespace

std::string to_text(const ProgramRequest& request) { return json_of(request).dump(); }
Result<ProgramRequest> parse_program(std::string_view text) { return parse(text, to_program); }
std::string to_text(const SandboxRequest& request) { return json_of(request).dump(); }
Result<SandboxRequest> parse_sandbox(std::string_view text) { return parse(text, to_sandbox); }

std::string to_text(const Surroundings& around) {
  return Json{{"mounts", bytes_of(around.mounts)},
              {"pid", around.pid_namespace},
              {"ipc", around.ipc_namespace},
              {"uts", around.uts_namespace},
              {"hostName", bytes_of(around.host_name)},
              {"domainName", bytes_of(around.domain_name)}}
      .dump();
}
Result<Surroundings> parse_surroundings(std::string_view text) {
  return parse(text, to_surroundings);
}

}  // namespace fluyt::guest
