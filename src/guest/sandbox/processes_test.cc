#include "guest/sandbox/processes.h"

#include <gtest/gtest.h>

namespace fluyt::guest {
namespace {

TEST(Processes, GoAndComeBack) {
  ProcessRow row{.pid = 7, .parent = 1, .group = 7, .session = 7, .uid = 1000, .gid = 100};
  row.terminal = "pts/0";
  row.nice = -5;
  row.threads = 3;
  row.age_ms = 61'000;
  row.used_ms = 1;
  row.mapped_bytes = uint64_t{1} << 40;
  row.usable_bytes = 4096;
  row.name = "sh";
  row.arguments = "sh -c true";
  const std::vector<ProcessRow> rows = {row, ProcessRow{.pid = 8, .terminal = "?"}};
  const auto back = parse_processes(to_text(rows));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(*back, rows);
}

TEST(Processes, NamesMakeNoRowsAndNoFields) {
  const auto back = parse_processes(to_text({ProcessRow{.pid = 1, .arguments = "a\tb\nc\x1b[0m"}}));
  ASSERT_TRUE(back.ok()) << back.error().message();
  ASSERT_EQ(back->size(), 1U);
  EXPECT_EQ(back->front().arguments, "a?b?c?[0m");
}

TEST(Processes, WhatIsNoRowIsRefused) {
  EXPECT_FALSE(parse_processes("1\t2\n").ok());
  EXPECT_TRUE(parse_processes("").ok());
}

}  // namespace
}  // namespace fluyt::guest
