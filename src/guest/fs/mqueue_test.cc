#include "guest/fs/mqueue.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace fluyt::guest {
namespace {

class MessageQueuesTest : public testing::Test {
 protected:
  QueueAttributes sized(int64_t messages, int64_t bytes) {
    QueueAttributes out;
    out.most_messages = messages;
    out.message_bytes = bytes;
    return out;
  }
  ErrnoOr<FilePtr> open(MessageQueues& in, const char* name, const QueueAttributes& wanted,
                        uint64_t byte_limit = 819200) {
    return in.open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, wanted,
                   {.who = root_, .byte_limit = byte_limit});
  }
  static QueueFile& queue(const FilePtr& file) { return dynamic_cast<QueueFile&>(*file); }
  Errno send(const FilePtr& to, size_t bytes) {
    return queue(to).send(caller_, std::vector<std::byte>(bytes), 0, {});
  }

  Credentials root_;
  Sleeper sleeper_;
  Caller caller_{sleeper_, root_};
  std::shared_ptr<Quota> memory_ = std::make_shared<Quota>(1000);
  std::shared_ptr<QueueBytes> bytes_ = std::make_shared<QueueBytes>();
  MessageQueues queues_{memory_, bytes_};
};

TEST_F(MessageQueuesTest, MessagesTakeOfTheSandboxsMemoryUntilTheyAreReceived) {
  const auto opened = open(queues_, "q", sized(10, 600));
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(send(opened.value(), 600).ok());
  EXPECT_GE(memory_->used(), 600U);
  EXPECT_EQ(send(opened.value(), 600).value(), ENOMEM);
  {
    const auto message = queue(opened.value()).receive(caller_, 600, {});
    ASSERT_TRUE(message.ok());
    EXPECT_EQ(message.value().text.size(), 600U);
  }
  EXPECT_EQ(memory_->used(), 0U);
  EXPECT_TRUE(send(opened.value(), 600).ok());
}

TEST_F(MessageQueuesTest, ANoticeEndsWithADescriptorOfItsOwners) {
  const auto opened = open(queues_, "q", sized(1, 1));
  ASSERT_TRUE(opened.ok());
  bool is_own = false;
  const FdTable table;
  const FdTable other;
  const auto set = [&] {
    QueueNotice notice;
    notice.is_callers = [&] { return is_own; };
    notice.through = &table;
    notice.tell = [](QueueNotice::Told) {};
    return queue(opened.value()).set_notice(std::move(notice));
  };
  EXPECT_TRUE(set().ok());
  opened.value()->closed();  // by somebody who shares the table
  opened.value()->ended_with(other);
  EXPECT_EQ(set().value(), EBUSY);
  is_own = true;
  opened.value()->closed();
  EXPECT_TRUE(set().ok());
  is_own = false;
  opened.value()->ended_with(table);
  EXPECT_TRUE(set().ok());
}

TEST_F(MessageQueuesTest, AUsersQueuesHaveOneLimitOverAllNamespaces) {
  MessageQueues others(memory_, bytes_);
  constexpr uint64_t kLimit = 1000;
  auto first = open(queues_, "q", sized(5, 100), kLimit);  // counted as 980 bytes
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(open(others, "q", sized(1, 1), kLimit).error().value(), EMFILE);
  // It counts until nobody has it any more.
  EXPECT_TRUE(queues_.unlink("q", root_).ok());
  EXPECT_EQ(open(others, "q", sized(1, 1), kLimit).error().value(), EMFILE);
  first = Errno(EBADF);
  EXPECT_TRUE(open(others, "q", sized(1, 1), kLimit).ok());
}

TEST_F(MessageQueuesTest, LimitsAreAskedForWhenSomebodyNeedsThem) {
  int asked = 0;
  queues_.take_limits_from([&] {
    ++asked;
    return QueueLimits{1, 20, 300, 15, 200};
  });
  EXPECT_EQ(asked, 0);
  Credentials user;
  user.fsuid = 1000;
  user.effective = 0;
  const MessageQueues::Opener opener{.who = user, .byte_limit = 819200};
  const auto usual = queues_.open("q", O_RDWR | O_CREAT, 0600, {}, opener);
  ASSERT_TRUE(usual.ok());
  EXPECT_EQ(queue(usual.value()).attributes().most_messages, 15);
  EXPECT_EQ(queue(usual.value()).attributes().message_bytes, 200);
  EXPECT_EQ(queues_.open("other", O_RDWR | O_CREAT, 0600, {}, opener).error().value(), ENOSPC);
  queues_.set_limit(kQueuesMax, 2);
  EXPECT_EQ(queues_.open("other", O_RDWR | O_CREAT, 0600, sized(21, 8), opener).error().value(),
            EINVAL);
  EXPECT_TRUE(queues_.open("other", O_RDWR | O_CREAT, 0600, sized(20, 8), opener).ok());
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace fluyt::guest
