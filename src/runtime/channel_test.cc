#include "runtime/channel.h"

#include <gtest/gtest.h>

#include "sys/socket.h"

namespace fluyt::runtime {
namespace {

TEST(Channel, AnErrorIsReadAlsoWhenItsSenderReadNothing) {
  // What lies unread at its end makes a reset of the end of file.
  sys::SocketPair pair = std::move(*sys::make_socketpair(SOCK_SEQPACKET));
  ASSERT_TRUE(send_packet(pair.first, Message::kGo, 1).ok());
  ASSERT_TRUE(say_error(pair.second, Error(Code::kNotFound, "why")).ok());
  pair.second.reset();
  auto packet = receive_packet(pair.first, Deadline::after_ms(1000));
  ASSERT_TRUE(packet.ok()) << packet.error().message();
  ASSERT_TRUE(*packet);
  EXPECT_EQ((*packet)->kind, Message::kError);
  EXPECT_EQ((*packet)->text, "why");
  packet = receive_packet(pair.first, Deadline::after_ms(1000));
  ASSERT_TRUE(packet.ok()) << packet.error().message();
  EXPECT_FALSE(*packet);
}

TEST(Channel, AResetIsAnEnd) {
  sys::SocketPair pair = std::move(*sys::make_socketpair(SOCK_SEQPACKET));
  ASSERT_TRUE(send_packet(pair.first, Message::kGo, 1).ok());
  pair.second.reset();
  const auto packet = receive_packet(pair.first, Deadline::after_ms(1000));
  ASSERT_TRUE(packet.ok()) << packet.error().message();
  EXPECT_FALSE(*packet);
}

}  // namespace
}  // namespace fluyt::runtime
