#include "guest/fs/mqueue.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

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
  ErrnoOr<FilePtr> open(MessageQueues& in, std::string_view name, const QueueAttributes& wanted) {
    return in.open(name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, wanted, {.who = root_});
  }
  static QueueFile& queue(const FilePtr& file) { return dynamic_cast<QueueFile&>(*file); }
  Errno send(const FilePtr& to, size_t bytes) {
    QueueMessage message = GUEST_TRY(queue(to).make_message(bytes, 0));
    return queue(to).send(caller_, std::move(message), {});
  }

  Credentials root_;
  Sleeper sleeper_;
  Caller caller_{sleeper_, root_};
  std::shared_ptr<Quota> memory_ = std::make_shared<Quota>();
  std::shared_ptr<QueueBytes> bytes_ = std::make_shared<QueueBytes>();
  QueueRoom room_{.exceeds = true};
  MessageQueues queues_{memory_, bytes_, [this] { return room_; }};
};

TEST_F(MessageQueuesTest, MessagesTakeOfTheSandboxsMemoryUntilTheyAreReceived) {
  const auto opened = open(queues_, "q", sized(10, 600));
  ASSERT_TRUE(opened.ok());
  const uint64_t before = memory_->used();
  memory_->set_limit(before + 1000);
  EXPECT_TRUE(send(opened.value(), 600).ok());
  EXPECT_GE(memory_->used(), before + 600);
  EXPECT_EQ(send(opened.value(), 600).value(), ENOMEM);
  {
    const auto message = queue(opened.value()).receive(caller_, 600, {});
    ASSERT_TRUE(message.ok());
    EXPECT_EQ(message.value().text.size(), 600U);
  }
  EXPECT_EQ(memory_->used(), before);
  EXPECT_TRUE(send(opened.value(), 600).ok());
}

TEST_F(MessageQueuesTest, AMessageCountsBeforeItsTextIsThere) {
  const auto opened = open(queues_, "q", sized(10, 600));
  ASSERT_TRUE(opened.ok());
  const uint64_t before = memory_->used();
  EXPECT_EQ(queue(opened.value()).make_message(601, 0).error().value(), EMSGSIZE);
  const auto message = queue(opened.value()).make_message(600, 0);
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message.value().text.size(), 600U);
  EXPECT_GE(memory_->used(), before + 600);
  EXPECT_EQ(queue(opened.value()).attributes().messages, 0);
}

TEST_F(MessageQueuesTest, AFullQueueIsFullWithoutMemoryToo) {
  const auto opened = open(queues_, "q", sized(1, 600));
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(send(opened.value(), 600).ok());
  memory_->set_limit(memory_->used());
  EXPECT_EQ(send(opened.value(), 600).value(), EAGAIN);
  opened.value()->set_flags(opened.value()->flags() & ~O_NONBLOCK);
  EXPECT_EQ(send(opened.value(), 600).value(), ENOMEM);
}

TEST_F(MessageQueuesTest, MessagesOfOnePriorityKeepTheirOrder) {
  const auto opened = open(queues_, "q", sized(10, 8));
  ASSERT_TRUE(opened.ok());
  QueueFile& queue = this->queue(opened.value());
  constexpr uint32_t kPriorities[] = {1, 7, 1, 7};
  for (size_t i = 0; i < 4; ++i) {
    auto message = queue.make_message(i + 1, kPriorities[i]);
    ASSERT_TRUE(message.ok());
    ASSERT_TRUE(queue.send(caller_, std::move(message).value(), {}).ok());
  }
  for (const size_t size : {2U, 4U, 1U, 3U})
    EXPECT_EQ(queue.receive(caller_, 8, {}).value().text.size(), size);
}

TEST_F(MessageQueuesTest, AQueueTakesOfTheSandboxsMemoryUntilNobodyHasIt) {
  auto first = open(queues_, "q", sized(1, 1));
  ASSERT_TRUE(first.ok());
  EXPECT_GE(memory_->used(), sizeof(Stat));
  memory_->set_limit(memory_->used());
  EXPECT_EQ(open(queues_, "other", sized(1, 1)).error().value(), ENOSPC);
  EXPECT_TRUE(queues_.unlink("q", root_).ok());
  EXPECT_EQ(open(queues_, "o", sized(1, 1)).error().value(), ENOSPC);
  first = Errno(EBADF);
  EXPECT_EQ(memory_->used(), 0U);
  EXPECT_TRUE(open(queues_, "o", sized(1, 1)).ok());
}

TEST_F(MessageQueuesTest, ThereIsAnEndToTheQueuesWhateverTheLimit) {
  queues_.set_limit(kQueuesMax, INT32_MAX);
  room_ = {.bytes = Quota::kUnlimited, .exceeds = false};
  constexpr int kMost = 65536;
  for (int i = 0; i < kMost; ++i) ASSERT_TRUE(open(queues_, std::to_string(i), sized(1, 1)).ok());
  EXPECT_EQ(open(queues_, "more", sized(1, 1)).error().value(), ENOSPC);
  room_.exceeds = true;
  EXPECT_EQ(open(queues_, "more", sized(1, 1)).error().value(), ENOSPC);
}

TEST_F(MessageQueuesTest, WithoutRoomForAQueueItsSizeDoesNotMatter) {
  queues_.set_limit(kQueuesMax, 1);
  room_.exceeds = false;
  EXPECT_EQ(open(queues_, "q", sized(0, 1)).error().value(), EINVAL);
  ASSERT_TRUE(open(queues_, "q", sized(1, 1)).ok());
  EXPECT_EQ(open(queues_, "other", sized(0, 1)).error().value(), ENOSPC);
}

TEST_F(MessageQueuesTest, OneThatIsMadeByItsPathHasTheCallersLimit) {
  room_ = {.bytes = 1000, .exceeds = false};
  const NewNode node{.mode = S_IFREG | 0600};
  EXPECT_EQ(queues_.root()->make("q", node).error().value(), EMFILE);
  EXPECT_EQ(memory_->used(), 0U);
  room_.bytes = 819200;
  EXPECT_TRUE(queues_.root()->make("q", node).ok());
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
  MessageQueues others(memory_, bytes_, [this] { return room_; });
  room_.bytes = 1000;
  auto first = open(queues_, "q", sized(5, 100));  // counted as 980 bytes
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(open(others, "q", sized(1, 1)).error().value(), EMFILE);
  // It counts until nobody has it any more.
  EXPECT_TRUE(queues_.unlink("q", root_).ok());
  EXPECT_EQ(open(others, "q", sized(1, 1)).error().value(), EMFILE);
  first = Errno(EBADF);
  EXPECT_TRUE(open(others, "q", sized(1, 1)).ok());
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
  room_.exceeds = false;
  const MessageQueues::Opener opener{.who = user};
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
