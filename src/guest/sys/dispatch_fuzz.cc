#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "guest/fs/memfs.h"
#include "guest/platform/fake.h"
#include "guest/sys/table.h"
#include "guest/task/task.h"

// The guest kernel under a program whose calls, arguments and memory are the fuzzer's.
namespace fluyt::guest {
namespace {

constexpr uint64_t kMemory = 0x100000;
constexpr uint64_t kMemorySize = 0x10000;

class Input {
 public:
  Input(const uint8_t* data, size_t size) : at_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  uint8_t byte() {
    if (left_ == 0) return 0;
    --left_;
    return *at_++;
  }
  uint64_t word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value |= uint64_t{byte()} << (8 * i);
    return value;
  }
  uint64_t argument() {
    const uint8_t how = byte();
    switch (how % 8) {
      case 0:
        return 0;
      case 1:
        return how / 8;
      case 2:
        return kMemory + byte() * 16ULL;
      case 3:
        return kMemory + kMemorySize - how / 8;  // across the end
      case 4:
        return ~uint64_t{0} - how / 8;
      case 5:
        return uint64_t{1} << (byte() % 64);
      case 6:
        return uint64_t{byte()} | uint64_t{byte()} << 8;
      default:
        return word();
    }
  }

 private:
  const uint8_t* at_;
  size_t left_;
};

/// What would make the fake keep terabytes of page table is made small.
void keep_small(SyscallRequest& call) {
  constexpr uint64_t kMost = (uint64_t{1} << 20) - 1;
  switch (call.number) {
    case SYS_brk:
      call.args[0] &= kMost;
      break;
    // And what would fill the host's memory by a descriptor of it.
    case SYS_fallocate:
      call.args[2] &= kMost;
      call.args[3] &= kMost;
      break;
    case SYS_pwrite64:
    case SYS_pwritev:
      call.args[3] &= kMost;
      break;
    case SYS_truncate:
    case SYS_ftruncate:
    case SYS_shmget:
      call.args[1] &= kMost;
      break;
    case SYS_lseek:
      call.args[1] &= kMost;
      break;
    case SYS_copy_file_range:
      call.args[4] &= kMost;
      break;
    case SYS_sendfile:
      call.args[3] &= kMost;
      break;
    case SYS_mremap:
      call.args[2] &= kMost;
      [[fallthrough]];
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
      call.args[1] &= kMost;
      break;
    default:
      break;
  }
}

void run(const uint8_t* data, size_t size) {
  Input input(data, size);
  std::atomic<FakeContext*> first{nullptr};
  std::shared_ptr<Mm> memory;
  const auto program = [&](FakeContext& thread) {
    FakeContext* none = nullptr;
    first.compare_exchange_strong(none, &thread);
    // Only the first thread plays; its children end.
    if (first.load() != &thread || input.empty()) return fake_call(SYS_exit_group, {0});
    const uint8_t how = input.byte();
    if (how % 4 == 0) {
      std::array<std::byte, 128> bytes{};
      const size_t length = how / 2 + 1U;
      for (size_t i = 0; i < length; ++i) bytes[i] = static_cast<std::byte>(input.byte());
      (void)memory->space().write(kMemory + input.byte() * 16ULL, std::span(bytes).first(length));
    }
    const auto table = call_table();
    Event event =
        fake_call(table[(size_t{input.byte()} | size_t{input.byte()} << 8) % table.size()].number);
    for (uint64_t& argument : event.call.args) argument = input.argument();
    keep_small(event.call);
    return event;
  };
  FakePlatform platform(program);
  Kernel kernel(platform, std::make_shared<Tree>(make_memfs(0755), "tmpfs"), dispatch);
  kernel.shared_memory->set_limit(uint64_t{64} << 20);
  kernel.pids->init = 1;
  auto process = std::make_shared<Process>(kernel, 1, kernel.pids, 1);
  auto task = std::make_shared<Task>(kernel, process, 1, 1);
  process->group = process->session = 1;
  task->files = std::make_shared<FdTable>();
  task->fs = std::make_shared<FsContext>();
  task->fs->root = task->fs->cwd = kernel.tree->root();
  const WalkFrom from = task->walk_from();
  (void)kernel.tree->make(from, "/d", S_IFDIR | 0755, 0).ok();
  (void)kernel.tree->make(from, "/f", S_IFREG | 0644, 0).ok();
  (void)kernel.tree->symlink(from, "f", "/l").ok();
  for (const char* name : {"/f", "/d"})
    if (auto opened = kernel.tree->open(from, name, name[1] == 'd' ? O_RDONLY : O_RDWR, 0);
        opened.ok())
      (void)task->files->add(opened.value().file, false).ok();
  auto made = Mm::create(platform);
  if (!made.ok()) __builtin_trap();
  task->mm = memory = std::move(made).value();
  if (!memory
           ->map(kMemory, kMemorySize, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, nullptr, 0)
           .ok())
    __builtin_trap();
  task->context = std::move(memory->space().create_context({})).value();
  {
    std::lock_guard lock(kernel.lock);
    (void)kernel.new_id(*kernel.pids, *kernel.container).ok();
    kernel.enter(task);
  }
  // Calls that wait for what never comes end with their process.
  const Timers::Id end = kernel.timers.at(Clock::now() + std::chrono::milliseconds(50), [&] {
    std::lock_guard lock(kernel.lock);
    for (const auto& [pid, each] : std::map(kernel.processes)) kernel.end_process(*each, 9);
  });
  Task::run(std::move(task));
  kernel.wait_for_all();
  kernel.timers.cancel(end);
}

}  // namespace
}  // namespace fluyt::guest

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fluyt::guest::run(data, size);
  return 0;
}
