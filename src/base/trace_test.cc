#include "base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/strings.h"
#include "base/walk_listener.h"

namespace fluyt::trace {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;

TEST(Trace, PartsAreNestedAsTheyWereCalled) {
  Recorder recorder;
  {
    Request request(recorder, "RunPodSandbox");
    request.of("s1");
    const Span network("network");
    {
      const Span plugin("bridge");
    }
    {
      const Span plugin("portmap");
    }
  }
  const std::vector<Walk> walks = recorder.walks_of("s1", "");
  ASSERT_EQ(walks.size(), 1U);
  EXPECT_EQ(walks[0].verb, "RunPodSandbox");
  EXPECT_EQ(walks[0].error, "");
  EXPECT_GT(walks[0].began_unix_ns, 0);
  EXPECT_THAT(walks[0].parts,
              ElementsAre(Field(&Part::name, "network"), Field(&Part::name, "bridge"),
                          Field(&Part::name, "portmap")));
  EXPECT_EQ(walks[0].parts[0].depth, 0);
  EXPECT_EQ(walks[0].parts[2].depth, 1);
  EXPECT_LE(walks[0].parts[1].begin_ns + walks[0].parts[1].took_ns, walks[0].parts[2].begin_ns);
  EXPECT_LE(walks[0].parts[2].begin_ns + walks[0].parts[2].took_ns, walks[0].took_ns);
}

TEST(Trace, ErrorsAreNotedAndHandedThrough) {
  Recorder recorder;
  {
    Request request(recorder, "StopPodSandbox");
    request.of("s1");
    const Result<> failed = request.ended(Result<>(Error(Code::kInternal, "a monitor is lost")));
    EXPECT_FALSE(failed.ok());
    EXPECT_EQ(request.ended(Result<int>(7)).value(), 7);
  }
  EXPECT_EQ(recorder.walks_of("s1", "").at(0).error, "a monitor is lost");
}

TEST(Trace, ARequestInAnotherIsNotOneOfItsOwn) {
  Recorder recorder;
  {
    Request outer(recorder, "RemovePodSandbox");
    outer.of("s1");
    Request inner(recorder, "StopPodSandbox");
    inner.of("s1");
  }
  EXPECT_THAT(recorder.walks_of("s1", ""), ElementsAre(Field(&Walk::verb, "RemovePodSandbox")));
}

TEST(Trace, WhoseItWasHasToBeKnown) {
  Recorder recorder;
  {
    const Request refused(recorder, "RunPodSandbox");
  }
  EXPECT_TRUE(recorder.walks_of("", "").empty());
  const Span nowhere("outside of a walk");
}

TEST(Trace, ProbesDoNotPushTheStartOut) {
  Recorder recorder;
  auto walk = [&](std::string_view verb, std::string_view container) {
    Request request(recorder, verb);
    request.of("s1", container);
  };
  walk("RunPodSandbox", "");
  for (int i = 0; i < 100; ++i) walk("ExecSync", "c1");
  walk("ExecSync", "c2");
  EXPECT_EQ(recorder.walks_of("s1", "").size(), 1 + Recorder::kWalksAVerb + 1);
  EXPECT_EQ(recorder.walks_of("s1", "c1").size(), Recorder::kWalksAVerb);
  EXPECT_EQ(recorder.walks_of("s1", "").front().verb, "RunPodSandbox");
}

TEST(Trace, TheOldestSandboxGoesFirst) {
  Recorder recorder;
  for (size_t i = 0; i <= Recorder::kSandboxes; ++i) {
    Request request(recorder, "RunPodSandbox");
    request.of(cat("s", i));
  }
  EXPECT_TRUE(recorder.walks_of("s0", "").empty());
  EXPECT_EQ(recorder.walks_of("s1", "").size(), 1U);
}

TEST(Trace, ALoopOfPartsIsCut) {
  Recorder recorder;
  {
    Request request(recorder, "RunPodSandbox");
    request.of("s1");
    for (size_t i = 0; i < 2 * Span::kMost; ++i) const Span span("again");
  }
  EXPECT_EQ(recorder.walks_of("s1", "").at(0).parts.size(), Span::kMost);
}

TEST(Trace, AListenerHearsEachWalk) {
  Recorder recorder;
  std::vector<std::string> heard;
  recorder.also([&](const Walk& walk) { heard.push_back(walk.verb); });
  std::thread([&] {
    Request request(recorder, "StartContainer");
    request.of("s1", "c1");
  }).join();
  recorder.also({});
  {
    Request request(recorder, "StopContainer");
    request.of("s1", "c1");
  }
  EXPECT_THAT(heard, ElementsAre("StartContainer"));
}

TEST(Trace, AThreadHearsItsOwnWalksAndNobodyElses) {
  Recorder recorder;
  std::vector<std::string> heard;
  const auto request = [&](std::string_view verb) { const Request done(recorder, verb); };
  listen_on_this_thread([&](const Walk& walk) { heard.push_back(walk.verb); });
  request("RunPodSandbox");  // also of nobody known: a request that was refused
  {
    const Request outer(recorder, "RemovePodSandbox");
    request("StopPodSandbox");
  }
  std::thread([&] { request("elsewhere"); }).join();
  listen_on_this_thread({});
  request("later");
  EXPECT_THAT(heard, ElementsAre("RunPodSandbox", "RemovePodSandbox"));
}

TEST(Trace, WhatAnotherProcessTellsGoesBelowTheOpenSpan) {
  std::string told;
  {
    const Collector elsewhere;
    {
      const Span outer("outer");
      const Span inner("inner with words");
    }
    told = elsewhere.text();
  }
  Recorder recorder;
  {
    Request request(recorder, "Verb");
    request.of("s");
    {
      const Span span("monitor");
      graft(told);
      graft("no part\n1 2\n1 2 x name\n\n");
    }
    const Span after("after");
  }
  graft(told);  // nobody's
  const auto walks = recorder.walks_of("s", "");
  ASSERT_EQ(walks.size(), 1U);
  std::vector<std::pair<std::string, int>> seen;
  for (const Part& part : walks[0].parts) seen.emplace_back(part.name, part.depth);
  EXPECT_EQ(seen, (std::vector<std::pair<std::string, int>>{
                      {"monitor", 0}, {"outer", 1}, {"inner with words", 2}, {"after", 0}}));
}

}  // namespace
}  // namespace fluyt::trace
