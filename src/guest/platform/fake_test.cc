#include "guest/platform/fake.h"

#include <gtest/gtest.h>

#include "guest/testing/platform_suite.h"

namespace fluyt::guest {
namespace {

struct MakeFake {
  static std::unique_ptr<Platform> make(std::string&) {
    return std::make_unique<FakePlatform>([](FakeContext&) { return Event{}; });
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, PlatformMemory, MakeFake);

TEST(FakePlatform, TheProgramSeesWhatItsCallsReturned) {
  uint64_t seen = 0;
  FakePlatform platform([&seen](FakeContext& thread) {
    seen = thread.registers()->rax;
    return fake_call(39, {1, 2});
  });
  auto memory = platform.create_address_space();
  auto thread = (*memory)->create_context({});
  Event event = (*thread)->run();
  EXPECT_EQ(event.call.number, 39);
  EXPECT_EQ(event.call.args[1], 2U);
  (*thread)->set_return(77);
  (*thread)->run();
  EXPECT_EQ(seen, 77U);
  (*thread)->interrupt();
  EXPECT_EQ((*thread)->run().kind, Event::Kind::kInterrupt);
  (*thread)->finish();
  EXPECT_EQ((*thread)->run().kind, Event::Kind::kGone);
}

}  // namespace
}  // namespace fluyt::guest
