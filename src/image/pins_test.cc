#include "image/pins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/strings.h"

namespace fluyt::image {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

oci::Digest digest(char of) {
  return oci::Digest::parse(cat("sha256:", std::string(64, of))).value();
}

TEST(Pins, AClaimLeavesWhatIsPinnedAndWaitsForNobody) {
  Pins pins;
  const Pins::Pin pin = pins.pin({digest('a')});
  const auto claimed = pins.claim({digest('a'), digest('b')});
  EXPECT_THAT(claimed, ElementsAre(digest('b')));
  pins.done(claimed);
}

TEST(Pins, AClaimOfAllWaitsForThePins) {
  Pins pins;
  Pins::Pin pin = pins.pin({digest('a')});
  std::atomic<bool> released{false};
  std::thread claimer([&] {
    const auto claimed = pins.claim({digest('a')}, Pins::Pinned::kWaitFor);
    EXPECT_TRUE(released);
    EXPECT_THAT(claimed, ElementsAre(digest('a')));
    pins.done(claimed);
  });
  released = true;
  pin.release();
  claimer.join();
  EXPECT_THAT(pins.owners(), IsEmpty());
}

}  // namespace
}  // namespace fluyt::image
