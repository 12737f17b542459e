#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/strings.h"
#include "network/network.h"
#include "sys/file.h"

/// What tests with fake plugins share.
namespace fluyt::network::testing {

using Json = nlohmann::json;

inline constexpr const char* kResult =
    R"({"cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/x"}],)"
    R"("ips":[{"address":"10.88.0.5/16","interface":1},{"address":"10.88.0.1/16","interface":0},)"
    R"({"address":"fd00::5/64","interface":1}]})";

/// A folder with configuration, fake plugins (shell scripts that write down how they were called
/// and answer from files) and the cache.
class NetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"/conf", "/bin", "/calls"}) {
      ASSERT_TRUE(sys::make_dirs(cat(dir_, name), 0755).ok());
    }
  }

  void write(const std::string& path, const std::string& text, mode_t mode = 0644) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(dir_, "/", path), text, mode).ok());
  }
  std::string read(const std::string& path) {
    return sys::read_file(cat(dir_, "/", path), 1U << 20U).value_or("");
  }
  // `on_add` and `on_del` are lines of shell; what they print is the answer.
  void plugin(const std::string& name, const std::string& on_add, const std::string& on_del = ":",
              const std::string& on_check = ":") {
    write(
        cat("bin/", name),
        cat("#!/bin/sh\nD=", dir_, "/calls\nbase=", name,
            "\necho \"$base $CNI_COMMAND\" >> $D/order\n"
            "env | grep ^CNI_ | sort > $D/$base.$CNI_COMMAND.env\ncat > $D/$base.$CNI_COMMAND.in\n"
            "case $CNI_COMMAND in\nADD) ",
            on_add, " ;;\nDEL) ", on_del, " ;;\nCHECK) ", on_check,
            " ;;\nSTATUS) test ! -e $D/status || { cat $D/status; exit 1; } ;;\nesac\n"),
        0755);
  }
  std::string answer(const std::string& json) { return cat("echo '", json, "'"); }

  std::unique_ptr<Network> open(size_t programs_at_once = 0) {
    auto network = Network::open({.conf_dir = cat(dir_, "/conf"),
                                  .bin_dirs = {cat(dir_, "/none"), cat(dir_, "/bin")},
                                  .cache_dir = cat(dir_, "/cache"),
                                  .programs_at_once = programs_at_once},
                                 logger_);
    EXPECT_TRUE(network.ok());
    return std::move(network).value();
  }
  SandboxNetwork sandbox() {
    SandboxNetwork s;
    s.sandbox_id = "4f2a";
    s.netns_path = "/proc/self/ns/net";
    s.pod_name = "web";
    s.pod_namespace = "default";
    s.pod_uid = "u-1";
    return s;
  }
  Json request(const std::string& call) { return Json::parse(read(cat("calls/", call, ".in"))); }
  bool has_record() { return sys::exists(cat(dir_, "/cache/4f2a.json")); }

  void two_plugins(const std::string& extra = "", const std::string& version = "1.0.0") {
    write("conf/10-pods.conflist",
          cat(R"({"cniVersion":")", version, R"(","name":"pods",)", extra, R"("plugins":[)",
              R"({"type":"one","keep":{"a":[1,2]}},)",
              R"({"type":"two","capabilities":{"portMappings":true,"mac":true,"dns":false}}]})"));
  }

  sys::TempDir temp_ = sys::TempDir::create().value();
  const std::string dir_ = temp_.path();
  NullLogger logger_;
};

}  // namespace fluyt::network::testing
