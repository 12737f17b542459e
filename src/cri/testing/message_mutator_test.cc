#include "cri/testing/message_mutator.h"

#include <cri/v1/api.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace fluyt::cri::testing {
namespace {

namespace api = runtime::v1;

size_t fill(uint8_t* bytes, size_t /*size*/, size_t capacity) {
  std::fill(bytes, bytes + capacity, uint8_t{0xff});
  return capacity;
}

TEST(MessageMutatorTest, WhatItMakesCanBeParsedAgain) {
  MessageMutator mutator(1, fill, {"busybox"});
  api::CreateContainerRequest request;
  for (int i = 0; i < 3000; ++i) {
    if (i % 200 == 0) request.Clear();
    mutator.change(request);
    api::CreateContainerRequest again;
    ASSERT_TRUE(again.ParseFromString(request.SerializeAsString())) << request.ShortDebugString();
  }
}

TEST(MessageMutatorTest, ComesToWhatLiesDeep) {
  MessageMutator mutator(1, fill, {"busybox"});
  int with_word = 0;
  int of_options = 0;
  for (int i = 0; i < 300; ++i) {
    api::CreateContainerRequest request;
    for (int n = 0; n < 60; ++n) mutator.change(request);
    with_word += request.ShortDebugString().find("busybox") != std::string::npos ? 1 : 0;
    of_options += request.config().linux().security_context().has_namespace_options() ? 1 : 0;
  }
  EXPECT_GT(with_word, 150);
  EXPECT_GT(of_options, 10);
}

TEST(MessageMutatorTest, TakesAwayAsWell) {
  MessageMutator mutator(1, fill, {});
  api::PodSandboxConfig config;
  config.mutable_linux()->mutable_security_context()->set_privileged(true);
  bool gone = false;
  for (int i = 0; i < 5000 && !gone; ++i) {
    mutator.change(config);
    gone = !config.has_linux();
  }
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace fluyt::cri::testing
