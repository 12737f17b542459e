#include "engine/pod_bandwidth.h"

#include <gtest/gtest.h>

namespace fluyt::engine {
namespace {

constexpr const char* kIngress = "kubernetes.io/ingress-bandwidth";
constexpr const char* kEgress = "kubernetes.io/egress-bandwidth";

TEST(PodBandwidth, IsWhatTheAnnotationsAskFor) {
  EXPECT_EQ(bandwidth_of({})->ingress, 0U);
  const auto both = bandwidth_of({{kIngress, "10M"}, {kEgress, "1.5Gi"}});
  ASSERT_TRUE(both.ok()) << both.error().message();
  EXPECT_EQ(both->ingress, 10'000'000U);
  EXPECT_EQ(both->egress, 1'610'612'736U);
  EXPECT_EQ(bandwidth_of({{kEgress, "1000"}})->egress, 1000U);
  EXPECT_EQ(bandwidth_of({{kEgress, "1P"}})->egress, 1'000'000'000'000'000U);
}

TEST(PodBandwidth, ErrorsNameTheAnnotation) {
  for (const char* value :
       {"", "fast", "10 M", "-1M", "999", "2P", "1..5M", ".5M", "5.M", "10MB"}) {
    const auto wrong = bandwidth_of({{kIngress, value}});
    ASSERT_FALSE(wrong.ok()) << value;
    EXPECT_NE(wrong.error().message().find("ingress-bandwidth: bits a second"), std::string::npos);
  }
}

}  // namespace
}  // namespace fluyt::engine
