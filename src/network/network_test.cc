#include "network/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/strings.h"
#include "network/plugin_testing.h"
#include "sys/file.h"

namespace fluyt::network {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace network::testing;  // NOLINT(google-build-using-namespace): ours, for these tests

TEST_F(NetworkTest, NoConfigurationIsNotReadyAndSaysWhere) {
  auto network = open();
  EXPECT_FALSE(network->status().ready);
  EXPECT_EQ(network->status().reason, "NetworkPluginNotReady");
  EXPECT_THAT(network->status().message, HasSubstr(cat(dir_, "/conf")));
  auto attached = network->attach(sandbox(), Deadline::after_ms(5000));
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(attached.error().code(), Code::kFailedPrecondition);
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, AHostPortThatNoPluginServesIsAnErrorBeforeAnythingIsDone) {
  plugin("one", answer(kResult));
  write("conf/10-pods.conflist", R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"one",)"
                                 R"("capabilities":{"portMappings":false}}]})");
  SandboxNetwork s = sandbox();
  s.port_mappings = {{.protocol = "tcp", .container_port = 80, .host_port = 0, .host_ip = ""},
                     {.protocol = "tcp", .container_port = 80, .host_port = 8080, .host_ip = ""}};
  auto attached = open()->attach(s, Deadline::after_ms(5000));
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(attached.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(attached.error().message(),
              HasSubstr("port_mappings[1].host_port: 8080: no plugin of network \"pods\""));
  EXPECT_FALSE(has_record());
  EXPECT_EQ(read("calls/order"), "");
  s.port_mappings.pop_back();
  EXPECT_TRUE(open()->attach(s, Deadline::after_ms(5000)).ok());
}

TEST_F(NetworkTest, AFileThatAppearsIsSeenAndABrokenOneBeforeItIsNamed) {
  auto network = open();
  EXPECT_FALSE(network->status().ready);
  write("conf/05-bad.conflist", "{");
  EXPECT_THAT(network->status().message, HasSubstr("05-bad.conflist: not JSON"));
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  const Status status = network->status();
  EXPECT_TRUE(status.ready);
  EXPECT_THAT(status.message, HasSubstr("05-bad.conflist"));
}

TEST_F(NetworkTest, AMissingPluginIsNamedWithTheFoldersSearched) {
  plugin("one", answer(kResult));
  two_plugins();
  const Status status = open()->status();
  EXPECT_FALSE(status.ready);
  EXPECT_THAT(status.message, HasSubstr("10-pods.conflist"));
  EXPECT_THAT(status.message, HasSubstr("no program \"two\" in"));
  EXPECT_THAT(status.message, HasSubstr(cat(dir_, "/none, ", dir_, "/bin")));
}

TEST_F(NetworkTest, AddRunsTheChainWithPrevResultCapabilitiesAndArgs) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  SandboxNetwork s = sandbox();
  s.port_mappings = {
      {.protocol = "TCP", .container_port = 80, .host_port = 8080, .host_ip = "127.0.0.1"},
      {.protocol = "tcp", .container_port = 81, .host_port = 0, .host_ip = ""}};
  s.dns.servers = {"10.0.0.10"};
  auto attached = open()->attach(s, Deadline::after_ms(10000));
  ASSERT_TRUE(attached.ok()) << attached.error().message();
  EXPECT_THAT(attached->ips, ElementsAre("10.88.0.5", "fd00::5"));

  const Json one = request("one.ADD");
  EXPECT_EQ(one,
            Json::parse(R"({"cniVersion":"1.0.0","name":"pods","type":"one","keep":{"a":[1,2]}})"));
  const Json two = request("two.ADD");
  EXPECT_EQ(two["prevResult"], Json::parse(kResult));
  EXPECT_EQ(two["runtimeConfig"],
            Json::parse(R"({"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp",)"
                        R"("hostIP":"127.0.0.1"}]})"));
  EXPECT_FALSE(two.contains("capabilities"));
  EXPECT_EQ(read("calls/two.ADD.env"),
            cat("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;"
                "K8S_POD_INFRA_CONTAINER_ID=4f2a;K8S_POD_UID=u-1\nCNI_COMMAND=ADD\n"
                "CNI_CONTAINERID=4f2a\nCNI_IFNAME=eth0\nCNI_NETNS=/proc/self/ns/net\nCNI_PATH=",
                dir_, "/none:", dir_, "/bin\n"));
}

TEST_F(NetworkTest, DelRunsInReverseWithWhatAddWasGivenThoughTheFolderChanged) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), Deadline::after_ms(10000)).ok());
  write("conf/10-pods.conflist",
        R"({"cniVersion":"1.0.0","name":"other","plugins":[{"type":"one"}]})");
  network = open();  // after a restart too
  ASSERT_TRUE(network->check(sandbox(), Deadline::after_ms(10000)).ok());
  ASSERT_TRUE(network->detach(sandbox(), Deadline::after_ms(10000)).ok());
  EXPECT_EQ(read("calls/order"), "one ADD\ntwo ADD\none CHECK\ntwo CHECK\ntwo DEL\none DEL\n");
  EXPECT_EQ(request("two.DEL")["name"], "pods");
  EXPECT_EQ(request("two.DEL")["prevResult"], Json::parse(kResult));
  EXPECT_EQ(request("one.CHECK")["prevResult"], Json::parse(kResult));
  EXPECT_FALSE(has_record());
  ASSERT_TRUE(network->detach(sandbox(), Deadline::after_ms(10000)).ok());
  EXPECT_THAT(read("calls/order"), ::testing::EndsWith("two DEL\none DEL\n"))
      << "no plugin runs again";
}

// A kubelet stops all pods of a node at once: where they would share few processors, each would be
// past its deadline.
TEST_F(NetworkTest, ProgramsTakeTurnsAndTheWaitIsNotTheirTime) {
  plugin("one", answer(kResult),
         "echo + >> $D/held; grep -c + $D/held > $D/plus.$$; grep -c - $D/held > $D/minus.$$; "
         "echo $(($(cat $D/plus.$$) - $(cat $D/minus.$$))) >> $D/at-once; sleep 0.3; "
         "echo - >> $D/held");
  write("conf/10-pods.conflist",
        R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"one"}]})");
  auto network = open(2);
  std::vector<SandboxNetwork> all;
  for (int i = 0; i < 12; ++i) {
    all.push_back(sandbox());
    all.back().sandbox_id = cat("s", i);
    ASSERT_TRUE(network->attach(all.back(), Deadline::after_ms(10000)).ok());
  }
  std::atomic<int> detached = 0;
  std::vector<std::thread> threads;
  threads.reserve(all.size());
  // Twelve of 0.3 s, two at once: the last ends after 1.8 s.
  for (const SandboxNetwork& one : all) {
    threads.emplace_back([&] {
      const auto done = network->detach(one, Deadline::after_ms(1500));
      EXPECT_TRUE(done.ok()) << done.error().message();
      if (done.ok()) ++detached;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(detached, 12);
  const std::string counted = read("calls/at-once");
  const auto at_once = split(trim(counted), '\n');
  EXPECT_EQ(at_once.size(), 12U);
  for (const std::string_view number : at_once) EXPECT_LE(parse_number<int>(number).value_or(9), 2);
}

TEST_F(NetworkTest, DelOfAVanishedNamespacePassesNone) {
  plugin("one", answer(kResult));
  plugin("two", answer(kResult));
  two_plugins();
  write("gone", "");  // what a bind mount leaves behind
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), Deadline::after_ms(10000)).ok());
  Json record = Json::parse(read("cache/4f2a.json"));
  record["args"]["netns"] = cat(dir_, "/gone");
  write("cache/4f2a.json", record.dump());
  ASSERT_TRUE(network->detach(sandbox(), Deadline::after_ms(10000)).ok());
  EXPECT_THAT(read("calls/one.DEL.env"), HasSubstr("CNI_NETNS=\n"));
}

TEST_F(NetworkTest, AFailingPluginIsUndoneAndItsErrorShown) {
  plugin("one", answer(kResult));
  plugin(
      "two",
      R"(echo '{"cniVersion":"1.0.0","code":7,"msg":"Invalid Configuration","details":"10.0.0.0/31 too small"}'; exit 1)");
  two_plugins();
  auto attached = open()->attach(sandbox(), Deadline::after_ms(10000));
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(attached.error().message(),
            "network \"pods\": plugin \"two\" ADD: \"Invalid Configuration\": \"10.0.0.0/31 too "
            "small\" (code 7)");
  EXPECT_EQ(read("calls/order"), "one ADD\ntwo ADD\ntwo DEL\none DEL\n");
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, AFailedCleanUpKeepsTheRecordForTheNextTry) {
  plugin("one", answer(kResult), "test -e $D/allow || { echo no >&2; exit 3; }");
  plugin("two", "echo bad >&2; exit 1");
  two_plugins();
  auto network = open();
  auto attached = network->attach(sandbox(), Deadline::after_ms(10000));
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message(), HasSubstr("exit status 1: \"bad\""));
  EXPECT_THAT(attached.error().message(), HasSubstr("cleaning up failed too"));
  EXPECT_TRUE(has_record());
  EXPECT_FALSE(network->detach(sandbox(), Deadline::after_ms(10000)).ok());
  write("calls/allow", "");
  EXPECT_TRUE(network->detach(sandbox(), Deadline::after_ms(10000)).ok());
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, TheRecordIsThereBeforeTheFirstPluginRuns) {
  plugin("one", cat("cp ", dir_, "/cache/4f2a.json $D/seen; ", answer(kResult)));
  plugin("two", answer(kResult));
  two_plugins();
  ASSERT_TRUE(open()->attach(sandbox(), Deadline::after_ms(10000)).ok());
  EXPECT_EQ(Json::parse(read("calls/seen"))["attached"], false);
  EXPECT_EQ(Json::parse(read("cache/4f2a.json"))["attached"], true);
}

TEST_F(NetworkTest, AHangingPluginIsKilledWithItsChildren) {
  plugin("one", "sleep 1000 & echo $! > $D/child; wait");
  write("conf/1.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"one"})");
  const int64_t start = now_boot_ns();
  auto attached = open()->attach(sandbox(), Deadline::after_ms(500));
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(attached.error().code(), Code::kDeadlineExceeded);
  EXPECT_LT(now_boot_ns() - start, 5'000'000'000);
  const std::string child(trim(read("calls/child")));
  ASSERT_FALSE(child.empty());
  // Killed; a zombie until init reaps it.
  const std::string stat = sys::read_file(cat("/proc/", child, "/stat"), 4096).value_or("");
  EXPECT_THAT(stat, Not(HasSubstr(") S "))) << stat;
}

TEST_F(NetworkTest, RubbishIsShownQuotedAndBounded) {
  plugin("one", R"(printf 'no \033[31m json')");
  write("conf/1.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"one"})");
  auto network = open();
  auto attached = network->attach(sandbox(), Deadline::after_ms(5000));
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message(), HasSubstr(R"(not a JSON object: "no \x1b[31m json")"));
  plugin("one", "head -c 3000000 /dev/zero | tr '\\0' x");
  attached = network->attach(sandbox(), Deadline::after_ms(20000));
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message(), HasSubstr("longer than 1048576 bytes"));
  plugin("one", "head -c 3000000 /dev/zero | tr '\\0' y >&2; exit 9");
  attached = network->attach(sandbox(), Deadline::after_ms(20000));
  ASSERT_FALSE(attached.ok());
  EXPECT_LT(attached.error().message().size(), 1000U);
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, NamesThatWouldSmuggleArgumentsAreRefused) {
  plugin("one", answer(kResult));
  write("conf/1.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"one"})");
  auto network = open();
  SandboxNetwork s = sandbox();
  s.pod_name = "web;K8S_POD_UID=other";
  EXPECT_EQ(network->attach(s, Deadline::after_ms(5000)).error().code(), Code::kInvalidArgument);
  s = sandbox();
  s.sandbox_id = "../../etc/passwd";
  EXPECT_EQ(network->attach(s, Deadline::after_ms(5000)).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(network->detach(s, Deadline::after_ms(5000)).error().code(), Code::kInvalidArgument);
  s = sandbox();
  s.netns_path = cat(dir_, "/conf/1.conf");
  EXPECT_EQ(network->attach(s, Deadline::after_ms(5000)).error().code(), Code::kFailedPrecondition);
  EXPECT_FALSE(sys::exists(cat(dir_, "/calls/order"))) << "no plugin ran";
}

TEST_F(NetworkTest, ASecondAttachIsRefused) {
  plugin("one", answer(kResult));
  write("conf/1.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"one"})");
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), Deadline::after_ms(5000)).ok());
  EXPECT_EQ(network->attach(sandbox(), Deadline::after_ms(5000)).error().code(),
            Code::kAlreadyExists);
}

TEST_F(NetworkTest, ABrokenRecordFallsBackToThePresentConfiguration) {
  plugin("one", answer(kResult));
  write("conf/1.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"one"})");
  auto network = open();
  ASSERT_TRUE(network->attach(sandbox(), Deadline::after_ms(5000)).ok());
  write("cache/4f2a.json", "{\"format\":1");
  ASSERT_TRUE(network->detach(sandbox(), Deadline::after_ms(5000)).ok());
  EXPECT_EQ(read("calls/order"), "one ADD\none DEL\n");
  EXPECT_FALSE(has_record());
}

TEST_F(NetworkTest, CheckIsLeftOutWhereTheNetworkSaysSo) {
  plugin("one", answer(kResult), ":", "exit 1");
  plugin("two", answer(kResult));
  two_plugins(R"("disableCheck":true,)");
  auto network = open();
  EXPECT_EQ(network->check(sandbox(), Deadline::after_ms(5000)).error().code(), Code::kNotFound);
  ASSERT_TRUE(network->attach(sandbox(), Deadline::after_ms(5000)).ok());
  EXPECT_TRUE(network->check(sandbox(), Deadline::after_ms(5000)).ok());
  EXPECT_EQ(read("calls/order"), "one ADD\ntwo ADD\n");
}

}  // namespace
}  // namespace fluyt::network
