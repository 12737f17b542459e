#include "sys/precedence.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace fluyt::sys {
namespace {

using Count = Precedence::Count;

void sleep_ms(int64_t ms) { usleep(static_cast<useconds_t>(ms * 1000)); }

class PrecedenceTest : public testing::Test {
 protected:
  // As many pieces of work as take every machine's processors.
  void SetUp() override {
    for (int i = 0; i < 4096; ++i) works_.push_back(Precedence::begin_work(precedence_));
  }
  std::shared_ptr<Precedence> precedence_ = Precedence::create().value();
  std::vector<Count> works_;
};

TEST_F(PrecedenceTest, WorkWaitsForACallAndThenHasItsShare) {
  GiveWay way(precedence_);
  EXPECT_FALSE(way.between_steps());
  std::vector<Count> calls;
  calls.push_back(Precedence::begin_call(precedence_));
  EXPECT_TRUE(way.between_steps()) << "until its patience ended, for the call goes on";
  sleep_ms(GiveWay::kMostMs / 2);
  calls.push_back(Precedence::begin_call(precedence_));
  EXPECT_TRUE(way.between_steps()) << "the share is used up";
  calls.clear();
  sleep_ms(GiveWay::kMostMs / 2);
  EXPECT_FALSE(way.between_steps());
}

TEST_F(PrecedenceTest, ACallThatHangsDoesNotCountForLong) {
  const Count call = Precedence::begin_call(precedence_);
  sleep_ms(GiveWay::kCallMs);
  GiveWay way(precedence_);
  EXPECT_FALSE(way.between_steps());
}

TEST_F(PrecedenceTest, WithProcessorsToSpareNobodyWaits) {
  works_.clear();  // no work, so all are to spare
  const Count call = Precedence::begin_call(precedence_);
  GiveWay way(precedence_);
  EXPECT_FALSE(way.between_steps());
  GiveWay to_nobody;
  EXPECT_FALSE(to_nobody.between_steps());
}

TEST_F(PrecedenceTest, WhoIsHandedThePageReadsItAndCannotWrite) {
  GiveWay way = GiveWay::open(precedence_->page()).value();
  EXPECT_FALSE(way.between_steps());
  const Count call = Precedence::begin_call(precedence_);
  EXPECT_TRUE(way.between_steps());
  void* const written = ::mmap(nullptr, sizeof(PrecedencePage), PROT_READ | PROT_WRITE, MAP_SHARED,
                               precedence_->page().raw(), 0);
  EXPECT_EQ(written, MAP_FAILED);
  EXPECT_EQ(errno, EPERM);
  EXPECT_LT(::pwrite(precedence_->page().raw(), "x", 1, 0), 0);
}

}  // namespace
}  // namespace fluyt::sys
