#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <regex>

#include "base/strings.h"
#include "network/builtin/address.h"
#include "network/kernel_testing.h"
#include "network/network.h"
#include "sys/file.h"

/// What tests share that hold a built-in plugin beside its program.
namespace fluyt::network::testing {

using Json = nlohmann::json;

inline std::string path_of(const Holder& holder) { return holder.path(); }
inline sys::Fd open_path(const std::string& path) { return sys::open(path, O_RDONLY).value(); }

class KeepingLogger final : public Logger {
 public:
  bool enabled(LogLevel level) const override { return level != LogLevel::kDebug; }
  void write(LogLevel /*level*/, std::string_view text) override { all += cat(text, "\n"); }
  std::string all;
};

class BuiltIn : public ::testing::Test {
 protected:
  void SetUp() override {
    if (missing_something() || !sys::exists("/usr/sbin/nft"))
      GTEST_SKIP() << "needs root, containernetworking-plugins, iptables, nft, nsenter";
    temp_.emplace(sys::TempDir::create().value());
    dir_ = temp_->path();
    ASSERT_TRUE(sys::make_dirs(cat(dir_, "/conf"), 0755).ok());
  }
  // `plugins` is the list as JSON; LEASES in it is our folder.
  void configure_list(std::string plugins, const std::string& version = "1.0.0",
                      const std::string& name = "fluyttest") {
    plugins = std::regex_replace(plugins, std::regex("LEASES"), cat(dir_, "/leases"));
    const std::string text =
        cat(R"({"cniVersion":")", version, R"(","name":")", name, R"(","plugins":)", plugins, "}");
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(dir_, "/conf/10.conflist"), text, 0644).ok());
  }
  // `bridge` are the fields of the bridge entry, as JSON without braces.
  void configure(const std::string& bridge, const std::string& version = "1.0.0",
                 const std::string& name = "fluyttest") {
    configure_list(cat(R"([{"type":"bridge",)", bridge,
                       R"(},{"type":"portmap","capabilities":{"portMappings":true}}])"),
                   version, name);
  }
  std::unique_ptr<Network> open(Plugins plugins, const char* programs = kPlugins) {
    return Network::open({.conf_dir = cat(dir_, "/conf"),
                          .bin_dirs = {programs},
                          .cache_dir = cat(dir_, "/cache"),
                          .plugins = plugins},
                         logger_)
        .value();
  }
  SandboxNetwork sandbox(const Holder& holder, const std::string& id = "one") {
    SandboxNetwork s;
    s.sandbox_id = id;
    s.netns_path = path_of(holder);
    return s;
  }
  std::vector<std::string> leases() {
    std::vector<std::string> found;
    for (const std::string& name : sys::list_dir(cat(dir_, "/leases/fluyttest")).value_or({})) {
      if (find_address(name)) found.push_back(name);
    }
    return found;
  }

  std::optional<sys::TempDir> temp_;
  std::string dir_;
  KeepingLogger logger_;
};

inline Deadline kSoon() { return Deadline::after_ms(30'000); }

inline constexpr const char* kDual =
    R"("bridge":"fltest0","isGateway":true,"ipMasq":true,"ipam":{"type":"host-local",)"
    R"("dataDir":"LEASES","ranges":[[{"subnet":"10.213.7.0/24"}],[{"subnet":"fd00:213:7::/64"}]],)"
    R"("routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]})";

// Names and numbers that are drawn by lot, made equal.
inline std::string plain(std::string text) {
  text = std::regex_replace(text, std::regex("8000\\.[0-9a-f:]+"), "ID");  // bridges print no zeros
  text = std::regex_replace(text, std::regex("veth[0-9a-f]{8}"), "vethX");
  text = std::regex_replace(text, std::regex("bwp[0-9a-f]{12}"), "bwpX");
  text = std::regex_replace(text, std::regex("([0-9a-f]{2}:){5}[0-9a-f]{2}"), "MAC");
  text = std::regex_replace(text, std::regex("fe80::[0-9a-f:]+"), "fe80::X");
  text = std::regex_replace(text, std::regex("/proc/[0-9]+/"), "/proc/N/");
  text = std::regex_replace(text, std::regex("@if[0-9]+"), "@ifN");
  text = std::regex_replace(text, std::regex("(^|\n)[0-9]+: "), "$1N: ");
  // The kernel says so when an address changes under the listing: duplicate detection ends by
  // itself.
  text = std::regex_replace(text, std::regex("Dump was interrupted[^\n]*\n"), "");
  // The bridge's own link-local address and its timers move on their own.
  text = std::regex_replace(text, std::regex(" tentative"), "");
  text = std::regex_replace(text, std::regex("[a-z_]+_timer +[0-9.]+"), "");
  return text;
}

inline std::string settings_of(const std::string& text) {
  std::string out;
  for (const std::string_view line : split(text, '\n')) {
    const bool of_devices = line.starts_with("net.ipv4") || line.starts_with("net.ipv6");
    const bool random = line.find("stable_secret") != std::string_view::npos ||
                        line.find("fib_") != std::string_view::npos ||
                        line.find("ip_local_port") != std::string_view::npos;
    // The program forwards 127/8 by the same setting; all else is what makes devices differ.
    if (of_devices && !random) out += cat(line, "\n");
  }
  return plain(out);
}

struct Seen {
  std::string result, pod_links, pod_addresses, pod_routes, pod_settings;
  std::string host_links, host_addresses, host_routes, host_settings, leases;
  std::string queues;
};

inline std::vector<std::string> shell(const std::string& line) { return {"/bin/sh", "-c", line}; }

inline std::string queues_of(const std::string& text) {
  return std::regex_replace(plain(text), std::regex("(installed|used|index) [0-9]+( sec)?"), "$1");
}

inline Seen see(Holder& holder, const std::string& result, const std::string& leases) {
  const std::string links = "ip -d link";
  const std::string addresses = "ip addr";
  const std::string routes = "ip route; ip -6 route | grep -v fe80; true";
  const std::string settings = "/sbin/sysctl -a 2>/dev/null";
  // With the filters of whatever has any; the numbers of devices are drawn by order alone.
  const std::string queues =
      "tc qdisc; for d in $(ls /sys/class/net); do tc filter show dev $d ingress; done 2>/dev/null";
  return {.result = plain(Json::parse(result).dump(1)),
          .pod_links = plain(holder.run(shell(links))),
          .pod_addresses = plain(holder.run(shell(addresses))),
          .pod_routes = plain(holder.run(shell(routes))),
          .pod_settings = settings_of(holder.run(shell(settings))),
          .host_links = plain(output_of(shell(links))),
          .host_addresses = plain(output_of(shell(addresses))),
          .host_routes = plain(output_of(shell(routes))),
          .host_settings = settings_of(output_of(shell(settings))),
          .leases = leases,
          .queues = queues_of(output_of(shell(queues)))};
}

inline void expect_same(const Seen& programs, const Seen& built_in) {
  EXPECT_EQ(programs.result, built_in.result);
  EXPECT_EQ(programs.pod_links, built_in.pod_links);
  EXPECT_EQ(programs.pod_addresses, built_in.pod_addresses);
  EXPECT_EQ(programs.pod_routes, built_in.pod_routes);
  EXPECT_EQ(programs.pod_settings, built_in.pod_settings);
  EXPECT_EQ(programs.host_links, built_in.host_links);
  EXPECT_EQ(programs.host_addresses, built_in.host_addresses);
  EXPECT_EQ(programs.host_routes, built_in.host_routes);
  EXPECT_EQ(programs.host_settings, built_in.host_settings);
  EXPECT_EQ(programs.leases, built_in.leases);
  EXPECT_EQ(programs.queues, built_in.queues);
}

}  // namespace fluyt::network::testing
