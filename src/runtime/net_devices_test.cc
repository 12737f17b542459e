#include "runtime/net_devices.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/socket.h>

#include "runtime/container_test_box.h"
#include "sys/clone.h"

namespace fluyt::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(NetDevices, OnlyPermanentGlobalAddressesGoAlong) {
  const sys::LinkAddress global{.family = AF_INET,
                                .prefix_length = 24,
                                .scope = RT_SCOPE_UNIVERSE,
                                .flags = IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE,
                                .address = "1234",
                                .local = "1234",
                                .broadcast = ""};
  sys::LinkAddress link = global;
  link.scope = RT_SCOPE_LINK;
  sys::LinkAddress leased = global;
  leased.flags = 0;
  const auto kept = kept_addresses({link, global, leased});
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0].local, "1234");
  EXPECT_EQ(kept[0].flags, uint32_t{IFA_F_NOPREFIXROUTE});
}

bool can_make_devices() { return can_run() && sys::exists("/sbin/ip"); }

#define FLUYT_NEEDS_DEVICES() \
  if (!can_make_devices()) GTEST_SKIP() << "needs root, /bin/busybox and /sbin/ip (iproute2)"

std::string ip(std::vector<std::string> args) {
  args.insert(args.begin(), "/sbin/ip");
  sys::SpawnOptions options;
  options.args = std::move(args);
  auto done = sys::run(options, {}, 65536, Deadline::after_ms(10'000));
  EXPECT_TRUE(done.ok());
  EXPECT_EQ(done->status.shell_code(), 0) << done->err;
  return done->out;
}

/// The test has a network namespace of its own, with a veth that has addresses and is up.
class OwnNetwork {
 public:
  OwnNetwork() : before_(*sys::open("/proc/self/ns/net", O_RDONLY)) {
    EXPECT_TRUE(sys::unshare_namespaces(CLONE_NEWNET).ok());
    ip({"link", "add", "sloep", "mtu", "1400", "type", "veth", "peer", "name", "kade"});
    ip({"address", "add", "10.9.8.7/24", "broadcast", "10.9.8.255", "dev", "sloep"});
    ip({"address", "add", "fd00::7/64", "dev", "sloep", "nodad"});
    ip({"address", "add", "169.254.1.1/16", "scope", "link", "dev", "sloep"});
    ip({"link", "set", "sloep", "up"});
    ip({"link", "set", "kade", "up"});
  }
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;
  ~OwnNetwork() { EXPECT_TRUE(sys::join_namespaces(before_, CLONE_NEWNET).ok()); }
  static void expect_untouched() {
    const std::string shown = ip({"address", "show", "dev", "sloep"});
    EXPECT_THAT(shown, HasSubstr("inet 10.9.8.7/24"));
    EXPECT_THAT(shown, HasSubstr("inet6 fd00::7/64"));
    EXPECT_THAT(shown, HasSubstr(",UP"));
  }

 private:
  sys::Fd before_;
};

TEST(NetDevices, MoveUnderAnotherNameWithTheirAddressesAndAreUp) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  box.spec.linux_->net_devices = {{"sloep", "eth7"}};
  const Outcome outcome = box.shell("ip address show dev eth7; ip link");
  EXPECT_THAT(outcome.out, HasSubstr("inet 10.9.8.7/24 brd 10.9.8.255")) << outcome.error;
  EXPECT_THAT(outcome.out, HasSubstr("inet6 fd00::7/64"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("169.254.1.1")));
  EXPECT_THAT(outcome.out, HasSubstr("mtu 1400"));
  EXPECT_THAT(outcome.out, HasSubstr("UP"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("sloep")));
}

TEST(NetDevices, TemplateTakesAFreeNumber) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  box.spec.linux_->net_devices = {{"sloep", "boot%d"}};
  EXPECT_THAT(box.shell("ip address show dev boot0").out, HasSubstr("inet 10.9.8.7/24"));
}

TEST(NetDevices, NameThatIsTakenIsRefusedAndTheDeviceStays) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  box.spec.linux_->net_devices = {{"sloep", "lo"}};
  EXPECT_THAT(box.run({"true"}).error,
              HasSubstr("linux.netDevices[\"sloep\"]: name: \"lo\": the container's network"));
  OwnNetwork::expect_untouched();
  box.spec.linux_->net_devices = {{"no-such", ""}};
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("linux.netDevices[\"no-such\"]: no such device"));
}

TEST(NetDevices, AreGivenBackWhenTheContainerDoesNotComeToBe) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  box.spec.linux_->net_devices = {{"sloep", "eth7"}};
  EXPECT_THAT(box.run({"/no/such/program"}).error, HasSubstr("process.args[0]"));
  OwnNetwork::expect_untouched();
  // The second cannot move: the first comes back.
  box.spec.linux_->net_devices = {{"sloep", "eth7"}, {"zzz", ""}};
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("linux.netDevices[\"zzz\"]: no such device"));
  OwnNetwork::expect_untouched();
}

TEST(NetDevices, NamespaceOfTheRuntimeIsRefused) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  for (oci::Namespace& space : box.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kNetwork) space.path = "/proc/self/ns/net";
  }
  box.spec.linux_->net_devices = {{"sloep", "eth7"}};
  EXPECT_THAT(box.run({"true"}).error,
              HasSubstr("linux.netDevices: the container's network namespace is the host's"));
  OwnNetwork::expect_untouched();
}

TEST(NetDevices, GoIntoAUserNamespacesNetworkToo) {
  FLUYT_NEEDS_DEVICES();
  const OwnNetwork network;
  Box box;
  box.spec.linux_->namespaces.push_back({.type = oci::NamespaceType::kUser, .path = {}});
  box.spec.linux_->net_devices = {{"sloep", ""}};
  EXPECT_THAT(box.shell("ip address show dev sloep").out, HasSubstr("inet 10.9.8.7/24"));
}

}  // namespace
}  // namespace fluyt::runtime
