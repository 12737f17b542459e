#include "runtime/checkpoint/criu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "base/time.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::runtime::checkpoint {
namespace {

TEST(Criu, AStopEndsTheWaitForAnAnswerAndItsEndEndsTheProcess) {
  sys::SocketPair pair = sys::make_socketpair(SOCK_SEQPACKET).value();
  sys::SpawnOptions options;
  options.args = {"/bin/sleep", "1000"};
  auto process = sys::spawn(options);
  ASSERT_TRUE(process.ok()) << process.error().message();
  const sys::Process seen = sys::Process::open(process->pid()).value();
  sys::Pipe stop = sys::make_pipe().value();
  ASSERT_TRUE(sys::write_all(stop.write, "x").ok());
  {
    Criu criu(std::move(process).value(), std::move(pair.first), {.fd = stop.read});
    const auto asked = criu.features();
    ASSERT_FALSE(asked.ok());
    EXPECT_EQ(asked.error().code(), Code::kCancelled);
    const auto requested = criu.request(
        RequestType::kRestore, {},
        [](const Response&, std::vector<sys::Fd>&) { return Result<>(); }, "log");
    ASSERT_FALSE(requested.ok());
    EXPECT_EQ(requested.error().code(), Code::kCancelled);
  }
  EXPECT_TRUE(sys::Patience(Deadline::after_ms(0)).wait_readable(seen.pidfd()).value());
}

}  // namespace
}  // namespace fluyt::runtime::checkpoint
