// What is asked of plugins beside ADD and CHECK: DEL that goes wrong, STATUS and GC.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "network/plugin_testing.h"

namespace fluyt::network {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;
using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

Deadline soon() { return Deadline::after_ms(10'000); }

TEST_F(NetworkTest, APluginWhoseDelHangsLeavesTheOthersTheirTime) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult), "test -e $D/allow || sleep 1000");
  two_plugins();
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), soon()).ok());
  auto detached = network->detach(sandbox(), Deadline::after_ms(2000));
  ASSERT_FALSE(detached.ok());
  EXPECT_EQ(detached.error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(detached.error().message(),
            "network \"pods\": plugin \"two\" DEL: given up at its deadline and killed");
  EXPECT_THAT(read("calls/order"), HasSubstr("two DEL\none DEL\n"));
  EXPECT_TRUE(has_record()) << "DEL is owed";
  write("calls/allow", "");
  EXPECT_TRUE(open()->detach(sandbox(), soon()).ok());
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, DelOfAPluginThatIsGoneNamesItAndStaysOwed) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  ASSERT_TRUE(open()->attach(sandbox(), soon()).ok());
  ASSERT_TRUE(sys::remove_tree(cat(dir_, "/bin/two")).ok());
  auto detached = open()->detach(sandbox(), soon());
  ASSERT_FALSE(detached.ok());
  EXPECT_THAT(detached.error().message(), HasSubstr("plugin \"two\" DEL: no program \"two\" in "));
  EXPECT_THAT(read("calls/order"), HasSubstr("one DEL\n"));
  EXPECT_TRUE(has_record());
}

TEST_F(NetworkTest, StatusOfPluginsThatSpeak11IsTheNetworks) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins("", "1.1.0");
  write("calls/status", R"({"cniVersion":"1.1.0","code":50,"msg":"not yet","details":"no agent"})");
  auto network = open();
  const Status status = network->status();
  EXPECT_FALSE(status.ready);
  EXPECT_EQ(status.reason, "NetworkPluginNotReady");
  EXPECT_THAT(status.message, HasSubstr("10-pods.conflist: plugin \"one\" STATUS: \"not yet\": "
                                        "\"no agent\" (code 50)"));
  EXPECT_FALSE(network->status().ready);
  EXPECT_EQ(read("calls/order"), "one STATUS\n") << "what was said holds for a while";
  EXPECT_EQ(read("calls/one.STATUS.env"),
            cat("CNI_COMMAND=STATUS\nCNI_PATH=", dir_, "/none:", dir_, "/bin\n"));
  EXPECT_EQ(request("one.STATUS"),
            Json::parse(R"({"cniVersion":"1.1.0","name":"pods","type":"one","keep":{"a":[1,2]}})"));
  ASSERT_TRUE(sys::remove_tree(cat(dir_, "/calls/status")).ok());
  EXPECT_TRUE(open()->status().ready);
  // A changed configuration is asked about at once.
  write("calls/status", "rubbish");
  two_plugins(R"("disableCheck":true,)", "1.1.0");
  EXPECT_FALSE(network->status().ready);
}

TEST_F(NetworkTest, OlderNetworksAreNotAskedForStatusNorGivenGc) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  write("calls/status", "no");
  auto network = open();
  EXPECT_TRUE(network->status().ready);
  EXPECT_TRUE(network->collect([](const std::string&) { return false; }, soon()).ok());
  EXPECT_EQ(read("calls/order"), "");
  two_plugins(R"("disableGC":true,)", "1.1.0");
  EXPECT_TRUE(network->collect([](const std::string&) { return false; }, soon()).ok());
  EXPECT_EQ(read("calls/order"), "");
}

TEST_F(NetworkTest, GcDeletesGoneSandboxesAndNamesThoseThatAreThere) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins("", "1.1.0");
  auto network = open();
  SandboxNetwork other = sandbox();
  other.sandbox_id = "gone";
  ASSERT_TRUE(network->attach(sandbox(), soon()).ok());
  ASSERT_TRUE(network->attach(other, soon()).ok());
  write("calls/order", "");
  network = open();
  const auto collected =
      network->collect([](const std::string& id) { return id == "4f2a"; }, soon());
  ASSERT_TRUE(collected.ok()) << collected.error().message();
  EXPECT_EQ(read("calls/order"), "two DEL\none DEL\none GC\ntwo GC\n");
  EXPECT_THAT(read("calls/one.DEL.env"), HasSubstr("CNI_CONTAINERID=gone\n"));
  const Json valid = Json::parse(R"([{"containerID":"4f2a","ifname":"eth0"}])");
  EXPECT_EQ(request("two.GC")["cni.dev/valid-attachments"], valid);
  EXPECT_EQ(request("two.GC")["cni.dev/attachments"], valid);
  EXPECT_THAT(read("calls/two.GC.env"), Not(HasSubstr("CNI_CONTAINERID")));
  EXPECT_TRUE(has_record());
  EXPECT_FALSE(sys::exists(cat(dir_, "/cache/gone.json")));
}

TEST_F(NetworkTest, GcOfANetworkThatIsNoLongerTheFirstIsToldOfItsOwnSandboxes) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins("", "1.1.0");
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), soon()).ok());
  write("conf/10-pods.conflist",
        R"({"cniVersion":"1.1.0","name":"new","plugins":[{"type":"one"}]})");
  write("cache/broken.json", "{");  // of whichever network
  write("calls/order", "");
  ASSERT_TRUE(network->collect([](const std::string&) { return true; }, soon()).ok());
  EXPECT_EQ(read("calls/order"), "one GC\none GC\ntwo GC\n");
  EXPECT_EQ(request("one.GC")["name"], "pods");
  std::vector<std::string> ids;
  const Json asked = request("one.GC");
  for (const Json& item : asked["cni.dev/valid-attachments"]) {
    ids.push_back(item["containerID"]);
  }
  EXPECT_THAT(ids, UnorderedElementsAre("4f2a", "broken"));
}

}  // namespace
}  // namespace fluyt::network
