#include "image/layer/handover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

namespace fluyt::image {
namespace {

TEST(Handover, GivesTheStreamAsItIs) {
  std::string stream;
  for (uint32_t i = 0; stream.size() < 8 * Handover::kPieceBytes; ++i) stream += std::to_string(i);
  Handover handover;
  std::thread giver([&] {
    std::string_view left = stream;
    for (size_t size = 1; !left.empty(); size = (size * 7) % Handover::kPieceBytes + 1) {
      const auto room = handover.room();
      ASSERT_EQ(room.size(), Handover::kPieceBytes);
      const size_t bytes = std::min(size, left.size());
      std::copy_n(left.begin(), bytes, room.begin());
      handover.give(bytes);
      left.remove_prefix(bytes);
    }
    handover.end();
  });
  std::string got;
  while (true) {
    const std::string_view piece = handover.take();
    if (piece.empty()) break;
    got += piece;
  }
  giver.join();
  EXPECT_TRUE(got == stream);
  EXPECT_TRUE(handover.take().empty()) << "an end is for good";
}

TEST(Handover, WhoStopsLetsTheGiverGo) {
  Handover handover;
  size_t given = 0;
  std::thread giver([&] {
    while (!handover.room().empty()) {
      handover.give(1);
      ++given;
    }
  });
  EXPECT_EQ(handover.take().size(), 1U);
  EXPECT_FALSE(handover.stopped());
  handover.stop();
  giver.join();
  EXPECT_TRUE(handover.stopped());
  EXPECT_LE(given, Handover::kPieces) << "a piece in the taker's hand is not filled again";
}

}  // namespace
}  // namespace fluyt::image
