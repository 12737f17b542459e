#include "oci/runtime_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/strings.h"

namespace fluyt::oci {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

std::string read_testdata(const std::string& name) {
  std::ifstream file(cat(FLUYT_TESTDATA "/", name));
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Compares with the file; FLUYT_REWRITE_GOLDEN=1 in the environment writes it instead.
void expect_golden(const std::string& name, const std::string& text) {
  if (std::getenv("FLUYT_REWRITE_GOLDEN") != nullptr) {
    std::ofstream(cat(FLUYT_TESTDATA "/", name)) << text;
  }
  EXPECT_EQ(text, read_testdata(name));
}

/// The document of every_field.json with the value at `pointer` put in.
std::string with(const std::string& pointer, const std::string& value) {
  Json document = Json::parse(read_testdata("every_field.json"));
  document[Json::json_pointer(pointer)] = Json::parse(value);
  return document.dump();
}

std::string without(const std::string& parent, const std::string& key) {
  Json document = Json::parse(read_testdata("every_field.json"));
  EXPECT_EQ(document[Json::json_pointer(parent)].erase(key), 1U);
  return document.dump();
}

std::string why(std::string_view text) {
  const auto result = parse_spec(text);
  return result.ok() ? "taken" : result.error().message();
}

TEST(RuntimeSpec, EveryFieldSurvivesReadingAndPrinting) {
  const std::string text = read_testdata("every_field.json");
  const auto spec = parse_spec(text);
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(Json::parse(to_json(*spec)), Json::parse(text));
  EXPECT_EQ(*parse_spec(to_json(*spec)), *spec);
  EXPECT_EQ(*parse_spec(to_pretty_json(*spec)), *spec);
}

TEST(RuntimeSpec, ValuesLandWhereTheyBelong) {
  const Spec spec = parse_spec(read_testdata("every_field.json")).value();
  EXPECT_EQ(spec.process->rlimits[0].hard, UINT64_MAX);
  EXPECT_EQ(spec.process->rlimits[0].soft, 1024U);
  EXPECT_EQ(spec.linux_->namespaces[1].path, "/run/netns/a");
  EXPECT_EQ(spec.linux_->resources->pids_limit, 0);
  EXPECT_EQ(spec.linux_->resources->memory->disable_oom_killer, false);
  EXPECT_EQ(spec.linux_->resources->devices[0].type, 'a');
  EXPECT_EQ(spec.linux_->resources->devices[0].major, std::nullopt);
  EXPECT_EQ(spec.linux_->resources->devices[2].minor, std::nullopt);
  EXPECT_EQ(spec.linux_->net_devices.at("eth2"), "");
  EXPECT_EQ(spec.linux_->seccomp->syscalls[1].args[1].value, UINT64_MAX);
  EXPECT_EQ(spec.linux_->devices[1].type, 'p');
}

TEST(RuntimeSpec, PartsCanBeReadAlone) {
  const Spec spec = parse_spec(read_testdata("every_field.json")).value();
  EXPECT_EQ(*parse_process(to_json(*spec.process)), *spec.process);
  EXPECT_EQ(*parse_resources(to_json(*spec.linux_->resources)), *spec.linux_->resources);
  EXPECT_EQ(*parse_seccomp(to_json(*spec.linux_->seccomp)), *spec.linux_->seccomp);
  EXPECT_THAT(parse_process("{}").error().message(), HasSubstr("process: args: missing"));
}

TEST(RuntimeSpec, UnknownFieldsAndOtherPlatformsAreIgnored) {
  EXPECT_EQ(why(with("/future", R"({"a":[1,2,{"b":null}]})")), "taken");
  EXPECT_EQ(why(with("/linux/future", "7")), "taken");
  EXPECT_EQ(why(with("/windows", R"({"layerFolders":["x"]})")), "taken");
}

TEST(RuntimeSpec, NullCountsAsAbsent) {
  const auto spec = parse_spec(
      R"({"ociVersion":"1.0.2","process":null,"mounts":null,"linux":{"resources":null}})");
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_FALSE(spec->process.has_value());
  EXPECT_FALSE(spec->linux_->resources.has_value());
}

TEST(RuntimeSpec, VersionsUpToOurs) {
  for (const char* good :
       {"1.0.0", "1.0.2-dev", "1.1.0+dev", "1.2.1", "1.3.0", "1.3.9", "1.0.0-rc5-dev"}) {
    EXPECT_EQ(why(cat(R"({"ociVersion":")", good, R"("})")), "taken") << good;
  }
  for (const char* bad : {"", "1", "1.0", "0.9.0", "1.4.0", "2.0.0", "1.3.x", "v1.0.0", "1.0.0.0",
                          "1.-1.0", "1. 0.0"}) {
    EXPECT_THAT(why(cat(R"({"ociVersion":")", bad, R"("})")),
                HasSubstr(cat("ociVersion: \"", bad, "\": expected a version")));
  }
  EXPECT_THAT(why("{}"), HasSubstr("ociVersion: missing"));
}

struct Refusal {
  std::string pointer;
  std::string value;
  std::string message;
};

TEST(RuntimeSpec, RefusesWithPathValueAndExpectation) {
  const Refusal cases[] = {
      {"/process/rlimits/1/soft", R"("x")",
       "process.rlimits[1].soft: \"x\": expected an unsigned integer"},
      {"/process/rlimits/1/soft", "-1", "process.rlimits[1].soft: -1: expected an unsigned"},
      {"/process/rlimits/1/soft", "1.0", "process.rlimits[1].soft: 1.0: expected an unsigned"},
      {"/process/rlimits/1/soft", "5", "process.rlimits[1].soft: 5: expected at most hard, 0"},
      {"/process/rlimits/1/type", R"("RLIMIT_X")", "process.rlimits[1].type: \"RLIMIT_X\""},
      {"/process/rlimits/1/type", R"("RLIMIT_NOFILE")",
       "process.rlimits: RLIMIT_NOFILE stands twice"},
      {"/process/cwd", R"("work")", "process.cwd: \"work\": expected an absolute path"},
      {"/process/cwd", R"("")", "process.cwd: \"\": expected an absolute path"},
      {"/process/args", "[]", "process.args: […]: expected at least the program"},
      {"/process/args", R"("sh")", "process.args: \"sh\": expected an array"},
      {"/process/args/1", "7", "process.args[1]: 7: expected a string"},
      {"/process/args/1", R"("a\u0000b")", "NUL"},
      {"/process/env/0", R"("PATH")", "process.env[0]: \"PATH\": expected NAME=value"},
      {"/process/env/0", R"("=x")", "process.env[0]: \"=x\": expected NAME=value"},
      {"/process/terminal", "1", "process.terminal: 1: expected true or false"},
      {"/process/user/uid", "4294967296", "process.user.uid: 4294967296: expected an unsigned"},
      {"/process/oomScoreAdj", "-1001", "process.oomScoreAdj: -1001: expected a score"},
      {"/process/scheduler/policy", R"("SCHED_X")", "process.scheduler.policy: \"SCHED_X\""},
      {"/process/scheduler/flags/0", R"("X")", "process.scheduler.flags[0]: \"X\""},
      {"/process/ioPriority/class", R"("X")", "process.ioPriority.class: \"X\""},
      {"/process/ioPriority/priority", "8", "process.ioPriority.priority: 8"},
      {"/process", R"("x")", "process: \"x\": expected an object"},
      {"/root/path", R"("")", "root.path: \"\": expected a path"},
      {"/hostname", "{}", "hostname: {…}: expected a string"},
      {"/mounts/1/destination", R"("")", "mounts[1].destination: \"\": expected a path"},
      {"/mounts/1/uidMappings", "[]", "mounts[1].uidMappings: missing"},
      {"/mounts/1/gidMappings/0/size", "0", "mounts[1].gidMappings[0].size: 0: expected 1 or more"},
      {"/hooks/poststop/0/path", R"("x")", "hooks.poststop[0].path: \"x\": expected an absolute"},
      {"/hooks/createRuntime/0/timeout", "0", "hooks.createRuntime[0].timeout: 0: expected more"},
      {"/annotations/k", "1", "annotations[\"k\"]: 1: expected a string"},
      {"/linux/uidMappings/1/containerID", "65535", "linux.uidMappings: [1] overlaps [0]"},
      {"/linux/uidMappings/1/hostID", "99999", "linux.uidMappings: [1] overlaps [0]"},
      {"/linux/uidMappings/1/hostID", "4294967293", "linux.uidMappings[1].size: 4: expected 1"},
      {"/linux/namespaces/2/type", R"("foo")",
       "linux.namespaces[2].type: \"foo\": expected one of pid, network, mount, ipc, uts, user"},
      {"/linux/namespaces/2/type", R"("pid")", "linux.namespaces: pid stands twice"},
      {"/linux/namespaces/1/path", R"("run/x")", "linux.namespaces[1].path: \"run/x\""},
      {"/linux/rootfsPropagation", R"("loud")", "linux.rootfsPropagation: \"loud\": expected one"},
      {"/linux/timeOffsets/tai", "{}", "linux.timeOffsets: key \"tai\""},
      {"/linux/timeOffsets/boottime/nanosecs", "1000000000", "linux.timeOffsets[\"boottime\"]."},
      {"/linux/devices/0/type", R"("x")", "linux.devices[0].type: \"x\": expected one of c, b"},
      {"/linux/devices/0/path", R"("dev/x")", "linux.devices[0].path: \"dev/x\""},
      {"/linux/devices/0/major", "-1", "linux.devices[0].major: -1: expected a device number"},
      {"/linux/netDevices/eth1/name", R"("a/b")", "linux.netDevices: \"eth1\" to \"a/b\""},
      {"/linux/maskedPaths/0", R"("x")", "linux.maskedPaths[0]: \"x\": expected an absolute"},
      {"/linux/readonlyPaths/0", R"("x")", "linux.readonlyPaths[0]: \"x\": expected an absolute"},
      {"/linux/personality/domain", R"("BSD")", "linux.personality.domain: \"BSD\""},
      {"/linux/memoryPolicy", R"({"nodes": "0"})",
       "linux.memoryPolicy.mode: missing: invalid memory policy mode"},
      {"/linux/memoryPolicy/mode", R"("X")",
       "linux.memoryPolicy.mode: invalid memory policy mode \"X\": expected one of MPOL_DEFAULT"},
      {"/linux/memoryPolicy/flags/0", R"("X")",
       "linux.memoryPolicy.flags[0]: invalid memory policy flag \"X\": expected one of MPOL_F"},
      {"/linux/intelRdt/closID", R"("../x")", "linux.intelRdt.closID: \"../x\""},
      {"/linux/seccomp/defaultAction", R"("ALLOW")", "linux.seccomp.defaultAction: \"ALLOW\""},
      {"/linux/seccomp/defaultAction", R"("SCMP_ACT_NOTIFY")", "needs no listener"},
      {"/linux/seccomp/architectures/0", R"("x86")", "linux.seccomp.architectures[0]: \"x86\""},
      {"/linux/seccomp/flags/0", R"("X")", "linux.seccomp.flags[0]: \"X\""},
      {"/linux/seccomp/listenerPath", R"("")", "linux.seccomp.listenerMetadata: expected"},
      {"/linux/seccomp/syscalls/0/names", "[]", "linux.seccomp.syscalls[0].names: […]"},
      {"/linux/seccomp/syscalls/1/errnoRet", "4096", "linux.seccomp.syscalls[1].errnoRet: 4096"},
      {"/linux/seccomp/syscalls/1/args/0/index", "6",
       "linux.seccomp.syscalls[1].args[0].index: 6: expected an argument's index"},
      {"/linux/seccomp/syscalls/1/args/0/op", R"("==")",
       "linux.seccomp.syscalls[1].args[0].op: \"==\": expected one of SCMP_CMP_NE"},
      {"/linux/resources/devices/1/type", R"("x")", "linux.resources.devices[1].type: \"x\""},
      {"/linux/resources/devices/1/access", R"("rx")", "linux.resources.devices[1].access: \"rx\""},
      {"/linux/resources/devices/1/major", "-2", "linux.resources.devices[1].major: -2"},
      {"/linux/resources/memory/limit", "-2", "linux.resources.memory.limit: -2: expected bytes"},
      {"/linux/resources/cpu/cpus", R"("0;1")", "linux.resources.cpu.cpus: \"0;1\": expected a"},
      {"/linux/resources/blockIO/weight", "65536", "linux.resources.blockIO.weight: 65536"},
      {"/linux/resources/hugepageLimits/0/pageSize", R"("../MB")",
       "linux.resources.hugepageLimits[0].pageSize: \"../MB\""},
      {"/linux/resources/hugepageLimits/0/pageSize", R"("02MB")", "pageSize: \"02MB\""},
      {"/linux/resources/pids/limit", "-2", "linux.resources.pids.limit: -2"},
      {"/linux/resources/unified/..", R"("1")", "linux.resources.unified: key \"..\""},
  };
  for (const Refusal& one : cases) {
    EXPECT_THAT(why(with(one.pointer, one.value)), HasSubstr(one.message)) << one.pointer;
  }
}

TEST(RuntimeSpec, KeysAreTakenInAnyCaseAsGoDoes) {
  const auto got = parse_resources(
      R"({"hugepageLimits":[{"pagesize":"2MB","limit":5}],"CPU":{"Cpus":"0","cpus":"1"}})");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_EQ(got->hugepage_limits, (std::vector<HugepageLimit>{{.page_size = "2MB", .limit = 5}}));
  ASSERT_TRUE(got->cpu);
  EXPECT_EQ(got->cpu->cpus, "1") << "the exact one wins";
}

TEST(RuntimeSpec, UnifiedKeysStayInTheCgroup) {
  EXPECT_THAT(why(with("/linux/resources/unified", R"({"a/b":"1"})")), HasSubstr("\"a/b\""));
  EXPECT_THAT(why(with("/linux/resources/unified", R"({"":"1"})")), HasSubstr("key \"\""));
}

TEST(RuntimeSpec, NamesWhatIsMissing) {
  const std::pair<std::pair<std::string, std::string>, std::string> cases[] = {
      {{"/process", "args"}, "process.args: missing"},
      {{"/process", "cwd"}, "process.cwd: missing"},
      {{"/root", "path"}, "root.path: missing"},
      {{"/mounts/0", "destination"}, "mounts[0].destination: missing"},
      {{"/linux/namespaces/0", "type"}, "linux.namespaces[0].type: missing"},
      {{"/linux/uidMappings/0", "hostID"}, "linux.uidMappings[0].hostID: missing"},
      {{"/linux/seccomp", "defaultAction"}, "linux.seccomp.defaultAction: missing"},
      {{"/linux/devices/0", "minor"}, "linux.devices[0].minor: missing"},
      {{"/process/rlimits/0", "hard"}, "process.rlimits[0].hard: missing"},
  };
  for (const auto& [place, message] : cases) {
    EXPECT_THAT(why(without(place.first, place.second)), HasSubstr(message));
  }
}

TEST(RuntimeSpec, RefusesWhatWouldChangeTheHost) {
  const std::string no_uts = R"({"ociVersion":"1.0.0","hostname":"x","linux":{"namespaces":[]}})";
  EXPECT_THAT(why(no_uts), HasSubstr("hostname: expected a uts namespace"));
  EXPECT_THAT(why(R"({"ociVersion":"1.0.0","domainname":"x"})"), HasSubstr("domainname: expected"));
  EXPECT_THAT(why(R"({"ociVersion":"1.0.0","linux":{"uidMappings":)"
                  R"([{"containerID":0,"hostID":0,"size":1}]}})"),
              HasSubstr("expected a user namespace"));
  EXPECT_THAT(why(R"({"ociVersion":"1.0.0","linux":{"timeOffsets":{"boottime":{"secs":1}}}})"),
              HasSubstr("expected a time namespace"));
}

TEST(RuntimeSpec, RefusesWhatIsNotOneSmallDocument) {
  EXPECT_THAT(why(""), HasSubstr("not valid JSON"));
  EXPECT_THAT(why(R"({"ociVersion":"1.0.0"} x)"), HasSubstr("not valid JSON"));
  EXPECT_THAT(why(R"({"ociVersion":"1.0.0","ociVersion":"1.0.0"})"), HasSubstr("twice"));
  std::string deep = R"({"ociVersion":"1.0.0","x":)";
  deep += std::string(100, '[') + std::string(100, ']') + "}";
  EXPECT_THAT(why(deep), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(why(std::string(kMaxSpecBytes + 1, ' ')), HasSubstr("expected at most"));
}

TEST(RuntimeSpec, MinusOneAsADeviceNumberMeansAll) {
  const auto spec = parse_spec(with("/linux/resources/devices/1/major", "-1"));
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(spec->linux_->resources->devices[1].major, std::nullopt);
}

TEST(DefaultSpec, IsWhatIsOnRecord) {
  expect_golden("default_spec.json", to_pretty_json(default_spec()) + "\n");
}

TEST(DefaultSpec, IsTaken) {
  const auto spec = parse_spec(to_json(default_spec()));
  ASSERT_TRUE(spec.ok()) << spec.error().message();
  EXPECT_EQ(*spec, default_spec());
}

TEST(RuntimeSpec, RootlessAsksForNothingThatTakesPrivileges) {
  Spec spec = default_spec();
  make_rootless(spec, 1000, 100);
  EXPECT_FALSE(spec.linux_->resources.has_value());
  EXPECT_EQ(spec.linux_->namespaces.back().type, NamespaceType::kUser);
  for (const Namespace& space : spec.linux_->namespaces)
    EXPECT_NE(space.type, NamespaceType::kNetwork);
  EXPECT_EQ(spec.linux_->uid_mappings, (std::vector<IdMapping>{{.host_id = 1000, .size = 1}}));
  EXPECT_EQ(spec.linux_->gid_mappings, (std::vector<IdMapping>{{.host_id = 100, .size = 1}}));
  for (const Mount& mount : spec.mounts) {
    EXPECT_TRUE(mount.destination != "/sys" || mount.source == "/sys");
    for (const std::string& option : mount.options) EXPECT_FALSE(option.starts_with("gid="));
  }
}

TEST(State, Prints) {
  EXPECT_EQ(
      to_json(State{
          .id = "a", .status = "running", .pid = 7, .bundle = "/b", .annotations = {{"k", "v"}}}),
      R"({"ociVersion":"1.3.0","id":"a","status":"running","pid":7,"bundle":"/b",)"
      R"("annotations":{"k":"v"}})");
}

}  // namespace
}  // namespace fluyt::oci
