#include "cmd/fluyt/text/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Top, RatesAreASecondAndNeverNegative) {
  EXPECT_EQ(rate(1000, 3000, 2'000'000'000), 1000);
  EXPECT_EQ(rate(3000, 1000, 1'000'000'000), -1) << "a counter that began anew";
  EXPECT_EQ(rate(0, 10, 0), -1);
}

TEST(Top, OrdersAreWords) {
  EXPECT_EQ(parse_top_order("memory").value(), TopOrder::kMemory);
  EXPECT_THAT(parse_top_order("size").error().message(),
              HasSubstr("--sort: \"size\": expected cpu, memory, network or name"));
}

std::vector<TopRow> rows() {
  return {{.name = "idle", .space = "default", .cpu_percent = 0, .memory_bytes = 5 << 20},
          {.name = "busy",
           .space = "shop",
           .cpu_percent = 151.26,
           .memory_bytes = 1 << 20,
           .received = 2500,
           .sent = 0,
           .processes = 3},
          {.name = "new", .space = "default"}};
}

TEST(Top, TheLargestComesFirst) {
  EXPECT_EQ(top_text(rows(), TopOrder::kCpu, 0, true),
            "3 pods, CPU 151.3%, memory 6.00MiB\n\n"
            "NAME   NAMESPACE   CPU      MEMORY    RECEIVED   SENT   PROCESSES\n"
            "busy   shop        151.3%   1.00MiB   2.50kB/s   0B/s   3\n"
            "idle   default     0.0%     5.00MiB   -          -      -\n"
            "new    default     -        -         -          -      -\n");
}

TEST(Top, AScreenIsNotOverrun) {
  const std::string text = top_text(rows(), TopOrder::kMemory, 1, false);
  EXPECT_THAT(text, HasSubstr("3 containers"));
  EXPECT_THAT(text, HasSubstr("POD"));
  EXPECT_THAT(text, HasSubstr("idle"));
  EXPECT_THAT(text, Not(HasSubstr("busy")));
}

}  // namespace
}  // namespace fluyt::cli
