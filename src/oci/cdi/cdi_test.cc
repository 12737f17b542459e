#include "oci/cdi/cdi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::oci::cdi {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kWhole = R"({
  "cdiVersion": "1.1.0", "kind": "vendor.com/gpu", "annotations": {"a": "b"},
  "containerEdits": {"env": ["ALL=1"]},
  "devices": [{"name": "0", "annotations": {}, "containerEdits": {
    "env": ["ONE=1"],
    "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3,
                     "fileMode": 438, "permissions": "rw", "uid": 5, "gid": 6}],
    "mounts": [{"hostPath": "/lib/x.so", "containerPath": "/usr/lib/x.so", "type": "bind", "options": ["ro", "bind"]}],
    "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "a"], "env": ["A=b"], "timeout": 3},
              {"hookName": "poststop", "path": "/bin/other"}],
    "additionalGids": [0, 44],
    "intelRdt": {"closID": "c", "schemata": ["L3:0=f"], "enableMonitoring": true},
    "netDevices": [{"hostInterfaceName": "eth9", "name": "net0"}]}}]})";

std::string why(std::string_view text, Form form = Form::kJson) {
  const auto file = parse_file(text, form);
  return file.ok() ? "taken" : file.error().message();
}

/// A file with `edits` for its one device.
std::string with(std::string_view edits, std::string_view version = "1.0.0") {
  return cat(R"({"cdiVersion": ")", version,
             R"(", "kind": "vendor.com/gpu", "devices": [{"name": "a", )", R"("containerEdits": )",
             edits, "}]}");
}

TEST(Cdi, EveryFieldIsRead) {
  const auto file = parse_file(kWhole, Form::kJson);
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(file->kind, "vendor.com/gpu");
  EXPECT_THAT(file->edits.env, ElementsAre("ALL=1"));
  ASSERT_EQ(file->devices.size(), 1U);
  const ContainerEdits& edits = file->devices[0].edits;
  EXPECT_EQ(file->devices[0].name, "0");
  EXPECT_THAT(edits.device_nodes, ElementsAre(DeviceNode{.path = "/dev/gpu0",
                                                         .host_path = "/dev/null",
                                                         .type = "c",
                                                         .major = 1,
                                                         .minor = 3,
                                                         .file_mode = 0666,
                                                         .permissions = "rw",
                                                         .uid = 5,
                                                         .gid = 6}));
  ASSERT_EQ(edits.mounts.size(), 1U);
  EXPECT_EQ(edits.mounts[0].source, "/lib/x.so");
  EXPECT_THAT(edits.mounts[0].options, ElementsAre("ro", "bind"));
  ASSERT_EQ(edits.hooks.create_container.size(), 1U);
  EXPECT_EQ(edits.hooks.create_container[0].timeout, 3);
  EXPECT_EQ(edits.hooks.poststop.size(), 1U);
  EXPECT_THAT(edits.additional_gids, ElementsAre(0, 44));
  EXPECT_EQ(edits.intel_rdt->clos_id, "c");
  EXPECT_THAT(edits.net_devices, ElementsAre(NetDevice{"eth9", "net0"}));
}

TEST(Cdi, YamlSaysTheSame) {
  const auto yaml = parse_file(R"(# by hand
cdiVersion: 1.1.0
kind: vendor.com/gpu
annotations: {a: b}
containerEdits:
  env: [ALL=1]
devices:
- name: "0"
  annotations: {}
  containerEdits:
    env: ["ONE=1"]
    deviceNodes:
    - {path: /dev/gpu0, hostPath: /dev/null, type: c, major: 1, minor: 3, fileMode: 0666, permissions: rw, uid: 5, gid: 0x6}
    mounts:
    - hostPath: /lib/x.so
      containerPath: /usr/lib/x.so
      type: bind
      options: [ro, bind]
    hooks:
    - hookName: createContainer
      path: /bin/hook
      args: [hook, a]
      env: [A=b]
      timeout: 3
    - {hookName: poststop, path: /bin/other}
    additionalGids: [0, 44]
    intelRdt: {closID: c, schemata: ["L3:0=f"], enableMonitoring: true}
    netDevices: [{hostInterfaceName: eth9, name: net0}]
)",
                               Form::kYaml);
  ASSERT_TRUE(yaml.ok()) << yaml.error().message();
  EXPECT_EQ(*yaml, parse_file(kWhole, Form::kJson).value());
}

TEST(Cdi, WhatIsWrongIsNamed) {
  EXPECT_THAT(why("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(why(R"({"cdiVersion": "1.0.0", "kind": "vendor.com/gpu", "devices": []})"),
              HasSubstr("devices"));
  for (const char* version : {"0.2.0", "1.2.0", "2.0.0", "1.0", "", "v1.0.0"})
    EXPECT_THAT(why(with("{}", version)), HasSubstr("cdiVersion")) << version;
  for (const char* kind :
       {"gpu", "vendor/", "/gpu", "vendor/gpu/x", "9vendor/gpu", "vendor/-gpu", "ven dor/gpu"}) {
    EXPECT_THAT(why(cat(R"({"cdiVersion": "1.0.0", "kind": ")", kind,
                        R"(", "devices": [{"name": "a", "containerEdits": {}}]})")),
                HasSubstr("kind: "))
        << kind;
  }
  const std::pair<const char*, const char*> wrong[] = {
      {R"({"env": ["X"]})", "containerEdits.env[0]"},
      {R"({"unknown": 1})", "containerEdits.unknown: unknown"},
      {R"({"deviceNodes": [{"path": "dev/x"}]})", "deviceNodes[0].path"},
      {R"({"deviceNodes": [{"hostPath": "/dev/x"}]})", "deviceNodes[0].path"},
      {R"({"deviceNodes": [{"path": "/dev/x", "type": "d"}]})", "deviceNodes[0].type"},
      {R"({"deviceNodes": [{"path": "/dev/x", "permissions": "rx"}]})", "permissions"},
      {R"({"mounts": [{"hostPath": "/a", "containerPath": "b"}]})", "mounts[0].containerPath"},
      {R"({"mounts": [{"containerPath": "/b"}]})", "mounts[0].hostPath"},
      {R"({"hooks": [{"hookName": "later", "path": "/x"}]})", "hooks[0].hookName"},
      {R"({"hooks": [{"hookName": "poststop", "path": "x"}]})", "hooks[0].path"},
      {R"({"hooks": [{"hookName": "poststop", "path": "/x", "timeout": 0}]})", "hooks[0].timeout"},
      {R"({"additionalGids": [-1]})", "additionalGids[0]"},
      {R"({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})", "cdiVersion 1.1.0"}};
  for (const auto& [edits, said] : wrong) EXPECT_THAT(why(with(edits)), HasSubstr(said)) << edits;
}

TEST(Cdi, AFieldNewerThanTheFilesVersionIsRefused) {
  EXPECT_EQ(why(with(R"({"additionalGids": [5]})", "0.7.0")), "taken");
  EXPECT_THAT(why(with(R"({"additionalGids": [5]})", "0.6.0")), HasSubstr("cdiVersion 0.7.0"));
  EXPECT_THAT(why(with(R"({"deviceNodes": [{"path": "/a", "hostPath": "/b"}]})", "0.4.0")),
              HasSubstr("cdiVersion 0.5.0"));
  EXPECT_THAT(why(with(R"({"mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "bind"}]})",
                       "0.3.0")),
              HasSubstr("cdiVersion 0.4.0"));
  EXPECT_THAT(why(with(R"({"intelRdt": {"enableMonitoring": true}})", "1.0.0")),
              HasSubstr("cdiVersion 1.1.0"));
}

TEST(Cdi, YamlThatMeansNoGoodIsBounded) {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += cat("a", i, ": &a", i, " [");
    for (int j = 0; j < 10; ++j) bomb += cat(j == 0 ? "" : ", ", "*a", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(why(bomb, Form::kYaml), HasSubstr("more than 100000 values"));
  EXPECT_THAT(why("a: &a\n  b: *a\n", Form::kYaml), testing::Not("taken"));
  EXPECT_THAT(why(cat("a: ", std::string(100, '['), std::string(100, ']')), Form::kYaml),
              HasSubstr("nested deeper"));
  EXPECT_THAT(why(std::string(300'000, '['), Form::kYaml), HasSubstr("YAML"));
  EXPECT_THAT(why("kind: [", Form::kYaml), HasSubstr("YAML"));
  EXPECT_THAT(why("a: 1\na: 2\n", Form::kYaml), HasSubstr("stands twice"));
  EXPECT_THAT(why("? [x]\n: 1\n", Form::kYaml), HasSubstr("expected a word as the key"));
  EXPECT_THAT(why(std::string(kMaxFileBytes + 1, ' '), Form::kYaml), HasSubstr("at most"));
}

TEST(Cdi, DeviceNamesAreWhole) {
  const auto name = parse_device_name("vendor.com/class=name-0:1");
  ASSERT_TRUE(name.ok());
  EXPECT_EQ(*name, (DeviceName{"vendor.com/class", "name-0:1"}));
  for (const char* text :
       {"", "vendor.com/class", "vendor.com/class=", "=x", "class=x", "vendor.com/class=x=y",
        "vendor.com/class=-x", "vendor.com/class=../x", "/dev/null"})
    EXPECT_FALSE(parse_device_name(text).ok()) << text;
}

}  // namespace
}  // namespace fluyt::oci::cdi
