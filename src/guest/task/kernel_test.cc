#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <mutex>

#include "guest/fs/memfs.h"
#include "guest/platform/fake.h"
#include "guest/task/task.h"

namespace fluyt::guest {
namespace {

TEST(Kernel, WhoIsBeingMadeCountsInItsContainerAlone) {
  FakePlatform platform([](FakeContext&) { return Event(); });
  Kernel kernel(platform, std::make_shared<Tree>(make_memfs(0755), "tmpfs"),
                [](Task&, const SyscallRequest&) -> ErrnoOr<uint64_t> { return Errno(ENOSYS); });
  Container small(platform);
  small.max_tasks = 2;
  std::lock_guard lock(kernel.lock);
  for (int32_t id = 500; id < 510; ++id) kernel.reserved.emplace(id, kernel.container.get());
  EXPECT_TRUE(kernel.new_id(*kernel.pids, small).ok());
  kernel.reserved.emplace(600, &small);
  EXPECT_TRUE(kernel.new_id(*kernel.pids, small).ok());
  kernel.reserved.emplace(601, &small);
  EXPECT_EQ(kernel.new_id(*kernel.pids, small).error().value(), EAGAIN);
  EXPECT_TRUE(kernel.new_id(*kernel.pids, *kernel.container).ok());
  kernel.reserved.clear();
}

}  // namespace
}  // namespace fluyt::guest
