#include "cri/from_api.h"

#include "cri/cri_test.h"
// after api.h
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/strings.h"

/// Every field of CRI's messages that can be meant wrongly: each row breaks one thing in a message
/// that is taken, and says how the error must name it.
namespace fluyt::cri {
namespace {

using testing::HasSubstr;

template <class Message>
struct Row {
  const char* says;  // the start of the sentence; empty: it is taken
  std::function<void(Message&)> change;
};

template <class Message, class Read>
void check(const std::vector<Row<Message>>& rows, Message (*usual)(), Read read) {
  for (const Row<Message>& row : rows) {
    Message message = usual();
    row.change(message);
    const auto result = read(message);
    if (*row.says == '\0') {
      EXPECT_TRUE(result.ok()) << message.ShortDebugString() << ": " << result.error().message();
      continue;
    }
    ASSERT_FALSE(result.ok()) << row.says;
    EXPECT_EQ(result.error().code(), Code::kInvalidArgument) << row.says;
    EXPECT_THAT(result.error().message(), testing::StartsWith(row.says));
  }
}

api::LinuxSandboxSecurityContext* security(api::PodSandboxConfig& config) {
  return config.mutable_linux()->mutable_security_context();
}
api::LinuxContainerSecurityContext* security(api::ContainerConfig& config) {
  return config.mutable_linux()->mutable_security_context();
}
template <class Config>
api::NamespaceOption* namespaces(Config& config) {
  return security(config)->mutable_namespace_options();
}
template <class Enum>
Enum unknown() {
  return static_cast<Enum>(77);
}

TEST(FromApi, EveryFieldOfASandbox) {
  const std::vector<Row<api::PodSandboxConfig>> rows = {
      {"", [](auto&) {}},
      {"metadata.name: \"\"", [](auto& c) { c.mutable_metadata()->clear_name(); }},
      {"metadata.namespace: \"\"", [](auto& c) { c.mutable_metadata()->clear_namespace_(); }},
      {"metadata.uid: \"\"", [](auto& c) { c.mutable_metadata()->clear_uid(); }},
      {"metadata.name: \"a\\x0a", [](auto& c) { c.mutable_metadata()->set_name("a\nb"); }},
      {"metadata.namespace: \"\\x1b",
       [](auto& c) { c.mutable_metadata()->set_namespace_("\x1b"); }},
      {"metadata.uid: 5000 bytes",
       [](auto& c) { c.mutable_metadata()->set_uid(std::string(5000, 'u')); }},
      {"log_directory: \"logs\"", [](auto& c) { c.set_log_directory("logs"); }},
      {"log_directory: ", [](auto& c) { c.set_log_directory("/a\nb"); }},
      {"", [](auto& c) { c.mutable_dns_config()->add_servers("fd00::10"); }},
      {"dns_config.servers[0]: ",
       [](auto& c) { c.mutable_dns_config()->add_servers("10.0.0.1\nnameserver 10.6.6.6"); }},
      {"dns_config.searches[1]: ",
       [](auto& c) {
         c.mutable_dns_config()->add_searches("svc");
         c.mutable_dns_config()->add_searches("a b");
       }},
      {"dns_config.options[0]: \"\"", [](auto& c) { c.mutable_dns_config()->add_options(""); }},
      {"",
       [](auto& c) {
         auto* port = c.add_port_mappings();
         port->set_protocol(api::SCTP);
         port->set_container_port(132);
         port->set_host_port(132);
         port->set_host_ip("fd00::1");
       }},
      {"", [](auto& c) { c.add_port_mappings()->set_container_port(80); }},
      {"port_mappings[0].protocol: 77",
       [](auto& c) { c.add_port_mappings()->set_protocol(unknown<api::Protocol>()); }},
      {"port_mappings[0].container_port: -1",
       [](auto& c) { c.add_port_mappings()->set_container_port(-1); }},
      {"port_mappings[0].host_port: 65536",
       [](auto& c) { c.add_port_mappings()->set_host_port(65536); }},
      {"port_mappings[0].container_port: 0",
       [](auto& c) { c.add_port_mappings()->set_host_port(80); }},
      {"port_mappings[0].host_ip: \"localhost\"",
       [](auto& c) { c.add_port_mappings()->set_host_ip("localhost"); }},
      {"windows: ", [](auto& c) { c.mutable_windows(); }},
      {"linux.security_context.namespace_options.network: 77",
       [](auto& c) { namespaces(c)->set_network(unknown<api::NamespaceMode>()); }},
      {"linux.security_context.namespace_options.ipc: 77",
       [](auto& c) { namespaces(c)->set_ipc(unknown<api::NamespaceMode>()); }},
      {"linux.security_context.namespace_options.target_id: \"\"",
       [](auto& c) { namespaces(c)->set_pid(api::TARGET); }},
      {"linux.security_context.namespace_options.userns_options.mode: 77",
       [](auto& c) {
         namespaces(c)->mutable_userns_options()->set_mode(unknown<api::NamespaceMode>());
       }},
      {"linux.security_context.run_as_group: 5",
       [](auto& c) { security(c)->mutable_run_as_group()->set_value(5); }},
      {"linux.security_context.run_as_user: -1",
       [](auto& c) { security(c)->mutable_run_as_user()->set_value(-1); }},
      {"linux.security_context.supplemental_groups: 4294967295",
       [](auto& c) { security(c)->add_supplemental_groups(4294967295); }},
      {"linux.security_context.supplemental_groups_policy: 77",
       [](auto& c) {
         security(c)->set_supplemental_groups_policy(unknown<api::SupplementalGroupsPolicy>());
       }},
      {"linux.security_context.seccomp.profile_type: 77",
       [](auto& c) {
         security(c)->mutable_seccomp()->set_profile_type(
             unknown<api::SecurityProfile::ProfileType>());
       }},
      {"linux.security_context.seccomp_profile_path: \"nonsense\"",
       [](auto& c) { security(c)->set_seccomp_profile_path("nonsense"); }},
  };
  check(rows, pod, sandbox_config);
}

TEST(FromApi, EveryFieldOfAContainer) {
  using Config = api::ContainerConfig;
  const std::vector<Row<Config>> rows = {
      {"", [](Config&) {}},
      {"metadata.name: \"\"", [](Config& c) { c.mutable_metadata()->clear_name(); }},
      {"metadata.name: \"\\x7f", [](Config& c) { c.mutable_metadata()->set_name("\x7f"); }},
      {"image.image: \"\"", [](Config& c) { c.mutable_image()->clear_image(); }},
      {"", [](Config& c) { c.set_log_path("a/b.log"); }},
      {"log_path: \"../b.log\"", [](Config& c) { c.set_log_path("../b.log"); }},
      {"log_path: \"/b.log\"", [](Config& c) { c.set_log_path("/b.log"); }},
      {"log_path: \"a//b.log\"", [](Config& c) { c.set_log_path("a//b.log"); }},
      {"windows: ", [](Config& c) { c.mutable_windows(); }},
      {"envs[0].key: \"\"", [](Config& c) { c.add_envs()->set_value("v"); }},
      {"envs[0].key: \"A=B\"", [](Config& c) { c.add_envs()->set_key("A=B"); }},
      {"stop_signal: 77", [](Config& c) { c.set_stop_signal(unknown<api::Signal>()); }},
      {"devices[0].host_path: \"\"", [](Config& c) { c.add_devices(); }},
      {"devices[0].host_path: \"dev\"", [](Config& c) { c.add_devices()->set_host_path("dev"); }},
      {"devices[0].permissions: \"rx\"",
       [](Config& c) {
         auto* device = c.add_devices();
         device->set_host_path("/dev/null");
         device->set_permissions("rx");
       }},
      {"linux.resources.oom_score_adj: 1001",
       [](Config& c) { c.mutable_linux()->mutable_resources()->set_oom_score_adj(1001); }},
      {"linux.resources.cpu_shares: -1",
       [](Config& c) { c.mutable_linux()->mutable_resources()->set_cpu_shares(-1); }},
      {"linux.resources.hugepage_limits: \"2MB\"",
       [](Config& c) {
         for (int i = 0; i < 2; ++i)
           c.mutable_linux()->mutable_resources()->add_hugepage_limits()->set_page_size("2MB");
       }},
      {"linux.security_context.supplemental_groups_policy: 77",
       [](Config& c) {
         security(c)->set_supplemental_groups_policy(unknown<api::SupplementalGroupsPolicy>());
       }},
      {"linux.security_context.run_as_group: 5",
       [](Config& c) { security(c)->mutable_run_as_group()->set_value(5); }},
      {"",
       [](Config& c) {
         security(c)->set_run_as_username("app");
         security(c)->mutable_run_as_group()->set_value(5);
       }},
      {"linux.security_context.seccomp.localhost_ref: \"\"",
       [](Config& c) {
         security(c)->mutable_seccomp()->set_profile_type(
             api::SecurityProfile_ProfileType_Localhost);
       }},
      {"linux.security_context.apparmor.profile_type: 77",
       [](Config& c) {
         security(c)->mutable_apparmor()->set_profile_type(
             unknown<api::SecurityProfile::ProfileType>());
       }},
      {"linux.security_context.apparmor_profile: \"x\"",
       [](Config& c) { security(c)->set_apparmor_profile("x"); }},
  };
  check(rows, container, container_config);
}

TEST(FromApi, EveryFieldOfAMount) {
  const auto with_mount = [](const std::function<void(api::Mount&)>& change) {
    return [change](api::ContainerConfig& config) {
      auto* mount = config.add_mounts();
      mount->set_container_path("/c");
      mount->set_host_path("/h");
      change(*mount);
    };
  };
  const auto with_image = [&](const std::function<void(api::Mount&)>& change) {
    return with_mount([change](api::Mount& mount) {
      mount.clear_host_path();
      mount.mutable_image()->set_image("data");
      mount.set_readonly(true);
      change(mount);
    });
  };
  const std::vector<Row<api::ContainerConfig>> rows = {
      {"", with_mount([](auto&) {})},
      {"", with_image([](auto&) {})},
      {"mounts[0].container_path: \"\"", with_mount([](auto& m) { m.clear_container_path(); })},
      {"mounts[0].host_path: \"\"", with_mount([](auto& m) { m.clear_host_path(); })},
      {"mounts[0].host_path: \"h\"", with_mount([](auto& m) { m.set_host_path("h"); })},
      {"mounts[0].propagation: 77",
       with_mount([](auto& m) { m.set_propagation(unknown<api::MountPropagation>()); })},
      {"mounts[0].recursive_read_only: true",
       with_mount([](auto& m) { m.set_recursive_read_only(true); })},
      {"mounts[0].image_sub_path: \"x\"", with_mount([](auto& m) { m.set_image_sub_path("x"); })},
      {"mounts[0].host_path: \"/h\"", with_image([](auto& m) { m.set_host_path("/h"); })},
      {"mounts[0].image.image: \"\"",
       with_image([](auto& m) { m.mutable_image()->clear_image(); })},
      {"mounts[0].readonly: false", with_image([](auto& m) { m.set_readonly(false); })},
      {"", with_image([](auto& m) { m.set_image_sub_path("/a/./b/"); })},
      {"mounts[0].image_sub_path: \"a/../b\"",
       with_image([](auto& m) { m.set_image_sub_path("a/../b"); })},
      {"mounts[0].image_sub_path: \"a\\x0a",
       with_image([](auto& m) { m.set_image_sub_path("a\nb"); })},
  };
  check(rows, container, container_config);
}

TEST(FromApi, AProfilesReferenceMayHaveTheDeprecatedPrefix) {
  for (const char* said : {"strict", "localhost/strict"}) {
    api::ContainerConfig config = container();
    auto* profile = security(config)->mutable_apparmor();
    profile->set_profile_type(api::SecurityProfile_ProfileType_Localhost);
    profile->set_localhost_ref(said);
    const auto read = container_config(config);
    ASSERT_TRUE(read.ok()) << read.error().message();
    ASSERT_TRUE(read->security.apparmor.has_value());
    EXPECT_EQ(read->security.apparmor->localhost_ref, "strict");
  }
}

TEST(FromApi, WhatIsSaidArrives) {
  api::ContainerConfig config = container();
  auto* selinux = security(config)->mutable_selinux_options();
  selinux->set_type("spc_t");
  selinux->set_level("s0:c1,c2");
  security(config)->set_supplemental_groups_policy(api::Strict);
  config.add_cdi_devices()->set_name("vendor.com/gpu=0");
  const auto read = container_config(config);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->security.selinux, (engine::SelinuxOptions{{}, {}, "spc_t", "s0:c1,c2"}));
  EXPECT_EQ(read->security.groups_policy, engine::GroupsPolicy::kStrict);
  EXPECT_EQ(read->cdi_devices, std::vector<std::string>{"vendor.com/gpu=0"});
  api::PodSandboxConfig pod;
  pod.mutable_metadata()->set_name("p");
  pod.mutable_metadata()->set_uid("u");
  pod.mutable_metadata()->set_namespace_("n");
  EXPECT_FALSE(sandbox_config(pod)->selinux.has_value());
  security(pod)->mutable_selinux_options()->set_level("s0:c3,c4");
  EXPECT_EQ(sandbox_config(pod)->selinux, (engine::SelinuxOptions{{}, {}, {}, "s0:c3,c4"}));
}

TEST(FromApi, AMessageFullOfNothingIsRefusedAndAHugeOneHolds) {
  EXPECT_FALSE(sandbox_config({}).ok());
  EXPECT_FALSE(container_config({}).ok());
  api::ContainerConfig config = container();
  for (int i = 0; i < 20'000; ++i) {
    config.add_args(std::string(100, 'a'));
    (*config.mutable_labels())[cat("label-", i)] = "v";
  }
  EXPECT_EQ(container_config(config)->args.size(), 20'000U);
}

}  // namespace
}  // namespace fluyt::cri
