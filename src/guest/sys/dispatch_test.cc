#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstring>
#include <random>
#include <set>
#include <thread>

#include "guest/fs/memfs.h"
#include "guest/platform/fake.h"
#include "guest/sys/table.h"
#include "guest/task/task.h"

// The kernel on the fake platform: programs are functions that say what call comes next.
namespace fluyt::guest {
namespace {

constexpr uint64_t kMemory = 0x100000;
constexpr uint64_t kMemorySize = 0x10000;

/// A kernel with one process whose only thread plays `program`; to its end.
class World {
 public:
  explicit World(FakeProgram program)
      : platform_(std::move(program)),
        kernel_(platform_, std::make_shared<Tree>(make_memfs(0755), "tmpfs"), dispatch) {}

  int run() {
    auto process = std::make_shared<Process>(kernel_, 1, kernel_.pids, 1);
    auto task = std::make_shared<Task>(kernel_, process, 1, 1);
    process->group = process->session = 1;
    task->files = std::make_shared<FdTable>();
    task->fs = std::make_shared<FsContext>();
    task->fs->root = task->fs->cwd = kernel_.tree->root();
    task->mm = std::move(Mm::create(platform_)).value();
    EXPECT_TRUE(task->mm
                    ->map(kMemory, kMemorySize, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0)
                    .ok());
    memory_ = task->mm;
    task->context = std::move(task->mm->space().create_context({})).value();
    {
      std::lock_guard lock(kernel_.lock);
      EXPECT_EQ(kernel_.new_id(*kernel_.pids, *kernel_.container).value().id, 1);
      kernel_.enter(task);
    }
    Task::run(std::move(task));
    memory_.reset();
    kernel_.wait_for_all();
    return process->exit_status;
  }
  AddressSpace& memory() { return memory_->space(); }
  Kernel& kernel() { return kernel_; }

 private:
  FakePlatform platform_;
  Kernel kernel_;
  std::shared_ptr<Mm> memory_;
};

int64_t returned(FakeContext& thread) { return static_cast<int64_t>(thread.registers()->rax); }

TEST(Dispatch, ProgramsCallAndEnd) {
  std::vector<int64_t> results;
  int step = 0;
  World world([&](FakeContext& thread) {
    if (step > 0) results.push_back(returned(thread));
    switch (step++) {
      case 0:
        return fake_call(SYS_getpid);
      case 1:
        return fake_call(SYS_getppid);
      case 2:
        return fake_call(599);
      case 3:
        return fake_call(SYS_read, {77, kMemory, 1});
      case 4:
        return fake_call(SYS_write, {0, 1, 1});
      default:
        return fake_call(SYS_exit_group, {5});
    }
  });
  EXPECT_EQ(world.run(), 5 << 8);
  EXPECT_EQ(results, (std::vector<int64_t>{1, 0, -ENOSYS, -EBADF, -EBADF}));
}

TEST(Dispatch, AForeignCallIsNoCall) {
  int step = 0;
  int64_t result = 0;
  World world([&](FakeContext& thread) {
    if (step++ == 0) {
      Event event = fake_call(SYS_getpid);
      event.call.native = false;
      return event;
    }
    result = returned(thread);
    return fake_call(SYS_exit_group, {0});
  });
  world.run();
  EXPECT_EQ(result, -ENOSYS);
}

TEST(Dispatch, AFaultWithoutHandlerKills) {
  World world([](FakeContext&) {
    Event event;
    event.kind = Event::Kind::kFault;
    event.fault.signo = 11;
    event.fault.code = 1;
    return event;
  });
  EXPECT_EQ(world.run(), 11);
}

TEST(Dispatch, AThreadThatIsGoneIsKilled) {
  World world([](FakeContext&) { return Event{}; });
  EXPECT_EQ(world.run(), 9);
}

// Lengths whose low half alone looks small, and sizes beyond any buffer.
TEST(Dispatch, HugeLengthsAreRefused) {
  std::vector<int64_t> results;
  int step = 0;
  World world([&](FakeContext& thread) {
    if (step > 0) results.push_back(returned(thread));
    switch (step++) {
      case 0:
        return fake_call(SYS_sethostname, {kMemory, 0x4000000000000005});
      case 1:
        return fake_call(SYS_pipe, {kMemory});
      case 2:
        return fake_call(SYS_fcntl, {0, 1031, uint64_t{1} << 63});
      case 3:
        return fake_call(SYS_fcntl, {0, 1031, ~uint64_t{0}});
      case 4:
        return fake_call(SYS_poll, {kMemory, ~uint64_t{0}, 0});
      case 5:
        return fake_call(SYS_readv, {0, kMemory, uint64_t{1} << 40});
      default:
        return fake_call(SYS_exit_group, {0});
    }
  });
  world.run();
  EXPECT_EQ(results, (std::vector<int64_t>{0, 0, -EPERM, -EPERM, -EINVAL, -EINVAL}));
}

// One limit for all that is memory of the host's: what one kind has taken another cannot have.
TEST(Dispatch, SharedMemoryHasOneLimit) {
  constexpr uint64_t kLimit = 65536;
  std::vector<int64_t> results;
  int step = 0;
  World world([&](FakeContext& thread) {
    if (step > 0) results.push_back(returned(thread));
    constexpr uint64_t kShared = MAP_SHARED | MAP_ANONYMOUS;
    switch (step++) {
      case 0:
        return fake_call(SYS_memfd_create, {kMemory, 0});  // 0
      case 1:
        return fake_call(SYS_write, {0, kMemory, kLimit / 2});
      case 2:
        return fake_call(SYS_mmap, {0, kLimit, PROT_READ, kShared, ~uint64_t{0}, 0});
      case 3:
        return fake_call(SYS_shmget, {0, kLimit / 4, 01600});
      case 4:
        return fake_call(SYS_shmget, {0, kLimit, 01600});
      case 5:
        return fake_call(SYS_write, {0, kMemory, kLimit / 2});
      case 6:
        return fake_call(SYS_write, {0, kMemory, 1});
      case 7:
        return fake_call(SYS_close, {0});
      case 8:
        return fake_call(SYS_memfd_create, {kMemory, 0});
      case 9:
        return fake_call(SYS_ftruncate, {0, kLimit});  // a hole takes nothing
      case 10:
        return fake_call(SYS_mmap, {0, kLimit, PROT_READ, MAP_SHARED, 0, 0});
      default:
        return fake_call(SYS_exit_group, {0});
    }
  });
  world.kernel().shared_memory->set_limit(kLimit);
  world.run();
  EXPECT_EQ(results, (std::vector<int64_t>{0, kLimit / 2, -ENOMEM, 0, -ENOMEM, kLimit / 4, -ENOSPC,
                                           0, 0, 0, -ENOMEM}));
}

TEST(Table, IsInOrderAndNamesWhatIsMissing) {
  int last = -1;
  std::set<std::string> names;
  for (const CallEntry& entry : call_table()) {
    EXPECT_GT(entry.number, last) << entry.name;
    last = entry.number;
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_EQ(entry.support == Support::kPartial, std::strlen(entry.missing) != 0) << entry.name;
    EXPECT_LE(std::strlen(entry.arguments), 6U) << entry.name;
    EXPECT_EQ(find_call(entry.number), &entry);
  }
  EXPECT_EQ(find_call(-1), nullptr);
  EXPECT_EQ(find_call(100000), nullptr);
}

// Calls that would stop for ever, or end the only thread, when their arguments happen to be good;
// the fuzzer makes them.
bool may_block(int number) {
  static const std::set<int> kBlocking = {SYS_pause,
                                          SYS_rt_sigsuspend,
                                          SYS_exit,
                                          SYS_exit_group,
                                          SYS_nanosleep,
                                          SYS_clock_nanosleep,
                                          SYS_futex,
                                          SYS_poll,
                                          SYS_ppoll,
                                          SYS_select,
                                          SYS_pselect6,
                                          SYS_rt_sigtimedwait,
                                          SYS_vfork,
                                          SYS_fork,
                                          SYS_clone,
                                          SYS_clone3,
                                          SYS_read,
                                          SYS_readv,
                                          SYS_open,
                                          SYS_openat,
                                          SYS_write,
                                          SYS_writev,
                                          SYS_kill,
                                          SYS_tkill,
                                          SYS_tgkill,
                                          SYS_rt_sigqueueinfo,
                                          SYS_alarm,
                                          SYS_setitimer,
                                          SYS_timer_settime,
                                          SYS_sendfile,
                                          SYS_fallocate,
                                          SYS_wait4,
                                          SYS_waitid,
                                          SYS_rt_sigreturn,
                                          SYS_mmap,
                                          SYS_epoll_wait,
                                          SYS_epoll_pwait,
                                          SYS_epoll_pwait2,
                                          SYS_connect,
                                          SYS_accept,
                                          SYS_accept4,
                                          SYS_sendto,
                                          SYS_recvfrom,
                                          SYS_sendmsg,
                                          SYS_recvmsg,
                                          SYS_sendmmsg,
                                          SYS_recvmmsg,
                                          SYS_semop,
                                          SYS_semtimedop,
                                          SYS_msgrcv,
                                          SYS_msgsnd,
                                          SYS_rt_tgsigqueueinfo,
                                          SYS_pidfd_send_signal,
                                          SYS_seccomp,
                                          SYS_prctl};
  return kBlocking.contains(number);
}

// Every call with arguments from nowhere: the kernel answers, whatever they are.
TEST(Dispatch, RandomCallsAreAnswered) {
  std::mt19937_64 random(20);
  const auto table = call_table();
  std::vector<int> numbers;
  for (const CallEntry& entry : table)
    if (!may_block(entry.number)) numbers.push_back(entry.number);
  int left = 20000;
  const auto argument = [&]() -> uint64_t {
    switch (random() % 8) {
      case 0:
        return 0;
      case 1:
        return random() % 8;
      case 2:
        return kMemory + random() % kMemorySize;
      case 3:
        return kMemory + kMemorySize - random() % 16;
      case 4:
        return ~uint64_t{0} - random() % 4096;
      case 5:
        return random();
      case 6:
        return uint64_t{1} << (random() % 64);
      default:
        return static_cast<uint64_t>(-100);
    }
  };
  World* at = nullptr;
  World world([&](FakeContext&) {
    if (--left == 0) return fake_call(SYS_exit_group, {3});
    if (random() % 16 == 0) {
      std::array<uint64_t, 16> noise{};
      for (uint64_t& word : noise) word = random() % 4 == 0 ? argument() : random();
      (void)at->memory().write(kMemory + random() % (kMemorySize - sizeof noise),
                               std::as_bytes(std::span(noise)));
    }
    if (random() % 64 == 0) {
      const char path[] = "/a/../b";
      (void)at->memory().write(kMemory + random() % 64, std::as_bytes(std::span(path)));
    }
    return fake_call(numbers[random() % numbers.size()],
                     {argument(), argument(), argument(), argument(), argument(), argument()});
  });
  at = &world;
  EXPECT_EQ(world.run(), 3 << 8);
  EXPECT_EQ(left, 0);
}

TEST(Namespaces, AreNoMoreThanTheSandboxMayHave) {
  World world([](FakeContext&) { return Event{}; });
  Kernel& kernel = world.kernel();
  const auto fill = [](auto make) {
    std::vector<std::decay_t<decltype(make().value())>> held;
    for (int i = 0; i < Kernel::kMaxNamespaces; ++i) {
      auto made = make();
      ASSERT_TRUE(made.ok()) << i;
      held.push_back(std::move(made).value());
    }
    EXPECT_EQ(make().error(), Errno(ENOSPC));
    held.pop_back();
    EXPECT_TRUE(make().ok());
  };
  fill([&] { return kernel.new_users(Credentials()); });
  fill([&] { return kernel.new_names(kernel.names); });
  fill([&] { return kernel.new_sysv(); });
  fill([&] { return kernel.new_cgroups(nullptr); });
  fill([&] { return kernel.new_pids(kernel.pids); });
}

TEST(Namespaces, OfUsersAre33Deep) {
  World world([](FakeContext&) { return Event{}; });
  Credentials maker;
  for (int depth = 1; depth <= 33; ++depth) {
    UserSpacePtr made = world.kernel().new_users(maker).value();
    ASSERT_TRUE(made) << depth;
    EXPECT_EQ(made->depth, depth);
    for (const auto kind : {UserSpace::kUsers, UserSpace::kGroups})
      ASSERT_TRUE(made->set_map(kind, IdMap({{0, 0, 1}})).ok());
    maker.enter(std::move(made));
  }
  EXPECT_EQ(world.kernel().new_users(maker).error(), Errno(ENOSPC));
  // Who is nobody where it is makes none.
  maker.enter(world.kernel().new_users(Credentials()).value());
  EXPECT_EQ(world.kernel().new_users(maker).error(), Errno(EPERM));
}

}  // namespace
}  // namespace fluyt::guest
