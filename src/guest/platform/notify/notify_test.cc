#include "guest/platform/notify/notify.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "guest/platform/host/broker.h"
#include "guest/platform/host/io.h"
#include "guest/platform/notify/stub_process.h"
#include "guest/stub/layout.h"
#include "guest/testing/platform_suite.h"

// Guest programs, as they are copied into guest memory.
#define GUEST_CODE(name, text)                                                          \
  __asm__(".section .rodata\n" #name "_begin:\n" text "\n" #name "_end:\n.previous\n"); \
  extern "C" const char name##_begin[];                                                 \
  extern "C" const char name##_end[];

GUEST_CODE(getppid_loop, "1: mov $110, %eax\n syscall\n jmp 1b")
GUEST_CODE(spin, "1: inc %rbx\n jmp 1b")
GUEST_CODE(fault, "mov $0x123456789000, %rax\n movb $1, (%rax)\n nop\n mov $110, %eax\n syscall")
// rax and the arguments come from the registers that the test sets; then an exit of a thread.
GUEST_CODE(one_call,
           "syscall\n mov %rax, %rdi\n mov $110, %eax\n syscall\n mov $60, %eax\n syscall")
GUEST_CODE(int80, "mov $20, %eax\n int $0x80\n mov %rax, %rdi\n mov $110, %eax\n syscall")
GUEST_CODE(vsyscall,
           "mov $0xffffffffff600400, %rax\n xor %edi, %edi\n call *%rax\n mov %rax, %rdi\n"
           "mov $110, %eax\n syscall")
GUEST_CODE(jump, "jmp *%rbx")
GUEST_CODE(set_fs,
           "mov $158, %eax\n mov $0x1002, %edi\n mov %rbx, %rsi\n syscall\n mov %fs:0, %rdi\n"
           "mov $110, %eax\n syscall")
GUEST_CODE(wide,
           "vmovdqu64 (%rbx), %zmm17\n mov $110, %eax\n syscall\n vmovdqu64 %zmm17, 64(%rbx)\n"
           "mov $111, %eax\n syscall")
GUEST_CODE(count, "1: incq (%rbx)\n jmp 1b")
// By the stub's way back from a signal to the second instruction, with a mask of its own.
GUEST_CODE(masked, "jmp *%rbx\n mov $110, %eax\n syscall\n 1: jmp 1b")
GUEST_CODE(name_listener, "1: mov %eax, (%rbx)\n jmp 1b")
GUEST_CODE(poke, "movb $1, (%rbx)\n mov $110, %eax\n syscall")
GUEST_CODE(stack_poke,
           "1: mov $110, %eax\n syscall\n mov %rbx, %rdi\n mov $0x41, %al\n"
           "mov $0x7000, %ecx\n rep stosb\n jmp 1b")

namespace fluyt::guest {
namespace {

constexpr uint64_t kCode = 0x400000;
constexpr uint64_t kData = 0x500000;

class NotifyPlatform : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string missing = notify_platform_missing(); !missing.empty()) GTEST_SKIP() << missing;
    auto made = create_notify_platform();
    ASSERT_TRUE(made.ok()) << made.error().message();
    platform_ = std::move(made).value();
    auto memory = platform_->create_address_space();
    ASSERT_TRUE(memory.ok()) << memory.error().value();
    memory_ = std::move(memory).value();
    ASSERT_TRUE(
        memory_->map({.address = kData, .length = 0x10000, .protection = PROT_READ | PROT_WRITE})
            .ok());
  }
  void TearDown() override {
    memory_.reset();
    platform_.reset();
  }

  ThreadImage load(const char* begin, const char* end) {
    EXPECT_TRUE(
        memory_->map({.address = kCode, .length = 4096, .protection = PROT_READ | PROT_WRITE})
            .ok());
    const auto* bytes = reinterpret_cast<const std::byte*>(begin);
    const auto size = static_cast<size_t>(end - begin);
    EXPECT_EQ(memory_->write(kCode, {bytes, size}), size);
    EXPECT_TRUE(memory_->protect(kCode, 4096, PROT_READ | PROT_EXEC).ok());
    ThreadImage image;
    image.registers.rip = kCode;
    image.registers.rsp = kData + 0x8000;
    return image;
  }
  std::unique_ptr<Context> start(const ThreadImage& image) {
    auto made = memory_->create_context(image);
    EXPECT_TRUE(made.ok()) << made.error().value();
    return std::move(made).value();
  }
  static void expect_call(const Event& event, int number) {
    ASSERT_EQ(event.kind, Event::Kind::kSyscall);
    ASSERT_EQ(event.call.number, number);
  }

  /// uretprobe (335) and uprobe (336) pass every seccomp filter (since 6.14): from anywhere but the
  /// kernel's own trampolines the one is SIGILL, the other an error at once.
  static bool is_uprobe(uint64_t number, const Event& event) {
    if (number == 335) return event.kind == Event::Kind::kFault && event.fault.signo == SIGILL;
    return number == 336 && event.kind == Event::Kind::kSyscall && event.call.number != 336;
  }

  std::unique_ptr<Platform> platform_;
  std::unique_ptr<AddressSpace> memory_;
};

#define LOAD(name) load(name##_begin, name##_end)

TEST_F(NotifyPlatform, ASystemCallComesWithItsArgumentsAndReturnsOurValue) {
  ThreadImage image = LOAD(one_call);
  image.registers.rax = 7777;
  image.registers.rdi = 1;
  image.registers.rsi = 2;
  image.registers.rdx = 3;
  image.registers.r10 = 4;
  image.registers.r8 = 5;
  image.registers.r9 = 6;
  auto thread = start(image);
  Event event = thread->run();
  expect_call(event, 7777);
  EXPECT_TRUE(event.call.native);
  for (uint64_t i = 0; i < 6; ++i) EXPECT_EQ(event.call.args[i], i + 1);
  thread->set_return(0xfeedfacecafe);
  event = thread->run();
  expect_call(event, SYS_getppid);
  EXPECT_EQ(event.call.args[0], 0xfeedfacecafe);
  thread->set_return(0);
  expect_call(thread->run(), SYS_exit);
  thread->carry_out();
  EXPECT_EQ(thread->run().kind, Event::Kind::kGone);
}

TEST_F(NotifyPlatform, RegistersAreSwappedAfterACallAndAnywhere) {
  auto thread = start(LOAD(getppid_loop));
  expect_call(thread->run(), SYS_getppid);
  thread->set_return(41);
  Registers* registers = thread->registers();
  ASSERT_NE(registers, nullptr);
  EXPECT_EQ(registers->rax, 41U);
  EXPECT_EQ(registers->rip, kCode + 7);  // behind the call
  registers->rbx = 99;
  expect_call(thread->run(), SYS_getppid);
  thread->set_return(0);
  registers = thread->registers();
  ASSERT_NE(registers, nullptr);
  EXPECT_EQ(registers->rbx, 99U);
}

TEST_F(NotifyPlatform, AThreadThatComputesIsCalledIn) {
  auto thread = start(LOAD(spin));
  std::atomic<bool> enough = false;
  std::thread caller([&] {
    while (!enough) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      thread->interrupt();
    }
  });
  uint64_t before = 0;
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(thread->run().kind, Event::Kind::kInterrupt);
    const uint64_t now = thread->registers()->rbx;
    EXPECT_GE(now, before);  // two calls may come in one
    before = now;
  }
  EXPECT_GT(before, 0U);
  enough = true;
  caller.join();
}

TEST_F(NotifyPlatform, AFaultShowsItsAddressAndCanBeSteppedOver) {
  auto thread = start(LOAD(fault));
  const Event event = thread->run();
  ASSERT_EQ(event.kind, Event::Kind::kFault);
  EXPECT_EQ(event.fault.signo, SIGSEGV);
  EXPECT_EQ(event.fault.address(), 0x123456789000U);
  thread->registers()->rip += 3;  // movb $1, (%rax)
  expect_call(thread->run(), SYS_getppid);
}

// Trap (a): a listener is inherited and a thread can have one, so whoever clones has none.
TEST_F(NotifyPlatform, ThreadsAndForksEachHaveAListenerOfTheirOwn) {
  const ThreadImage image = LOAD(getppid_loop);
  std::vector<std::unique_ptr<Context>> threads;
  for (int i = 0; i < 8; ++i) threads.push_back(start(image));
  std::vector<AddressSpace::Forked> forks;
  for (int i = 0; i < 8; ++i) {
    auto forked = memory_->fork(image);
    ASSERT_TRUE(forked.ok()) << forked.error().value();
    forks.push_back(std::move(forked).value());
  }
  for (int round = 0; round < 3; ++round) {
    for (auto& thread : threads) {
      expect_call(thread->run(), SYS_getppid);
      thread->set_return(0);
    }
    for (auto& fork : forks) {
      expect_call(fork.context->run(), SYS_getppid);
      fork.context->set_return(0);
    }
  }
  // A fork of a fork, of which the first is gone.
  auto grandchild = forks[0].memory->fork(image);
  ASSERT_TRUE(grandchild.ok());
  forks.clear();
  expect_call(grandchild->context->run(), SYS_getppid);
}

TEST_F(NotifyPlatform, ABranchHasNoMoreThanItsShareOfDescriptors) {
  // Its first process, and one more with a thread or two.
  const auto descriptors = std::make_shared<Quota>(12);
  auto branch = std::move(platform_->branch(false, descriptors)).value();
  memory_ = std::move(branch->create_address_space()).value();
  auto thread = start(LOAD(getppid_loop));
  expect_call(thread->run(), SYS_getppid);
  thread->set_return(0);
  EXPECT_EQ(branch->create_address_space().error().value(), EAGAIN);
  EXPECT_EQ(memory_->fork(ThreadImage()).error().value(), EAGAIN);
  std::vector<std::unique_ptr<Context>> more;
  for (;;) {
    auto made = memory_->create_context(ThreadImage());
    if (!made.ok()) {
      EXPECT_EQ(made.error().value(), EAGAIN);
      break;
    }
    more.push_back(std::move(made).value());
    ASSERT_LT(more.size(), 12U);
  }
  EXPECT_GE(descriptors->used(), 11U);
  // The others have theirs, and it has what it gives back.
  EXPECT_TRUE(platform_->create_address_space().ok());
  more.clear();
  thread.reset();
  memory_.reset();
  for (int tries = 0; tries < 1000 && descriptors->used() > 5; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(descriptors->used(), 5U);
  EXPECT_TRUE(branch->create_address_space().ok());
}

TEST_F(NotifyPlatform, ABranchHasAProcessThatItsProgramsDescendFrom) {
  auto branch = std::move(platform_->branch(false, nullptr)).value();
  EXPECT_NE(branch->host_pid(), platform_->host_pid());
  EXPECT_EQ(kill(branch->host_pid(), 0), 0);
  EXPECT_EQ(branch->clock_pages().start, platform_->clock_pages().start);
  memory_ = std::move(branch->create_address_space()).value();
  auto thread = start(LOAD(getppid_loop));
  expect_call(thread->run(), SYS_getppid);
  thread->set_return(0);
  expect_call(thread->run(), SYS_getppid);
  // Its first process may go before its programs.
  EXPECT_EQ(branch->branch(true, nullptr).error().value(), ENOSYS);
  const pid_t first = branch->host_pid();
  branch.reset();
  for (int tries = 0; tries < 1000 && kill(first, 0) == 0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(kill(first, 0), -1);
  thread->set_return(0);
  expect_call(thread->run(), SYS_getppid);
  auto beside = std::move(platform_->create_address_space()).value();
  EXPECT_TRUE(beside->map({.address = kData, .length = 4096, .protection = PROT_READ}).ok());
}

TEST_F(NotifyPlatform, AForkHasACopyOfTheMemory) {
  const char text[] = "before";
  ASSERT_EQ(memory_->write(kData, std::as_bytes(std::span(text))), sizeof text);
  auto forked = memory_->fork(LOAD(getppid_loop));
  ASSERT_TRUE(forked.ok());
  const char other[] = "after!";
  ASSERT_EQ(memory_->write(kData, std::as_bytes(std::span(other))), sizeof other);
  char seen[sizeof text];
  ASSERT_EQ(forked->memory->read(kData, std::as_writable_bytes(std::span(seen))), sizeof seen);
  EXPECT_STREQ(seen, "before");
}

// Trap (b): KILL comes before USER_NOTIF, so the program below lets pass what the guest calls from
// its own text, whatever the number.
TEST_F(NotifyPlatform, EveryCallFromGuestTextIsOurs) {
  ThreadImage image = LOAD(one_call);
  for (uint64_t number = 0; number <= 600; ++number) {
    image.registers.rax = number;
    image.registers.rdi = ~uint64_t{0};
    auto thread = start(image);
    const Event event = thread->run();
    if (!is_uprobe(number, event)) {
      expect_call(event, static_cast<int>(number));
      thread->set_return(0);
    }
    thread->finish();
  }
}

// ... and kills what the stub itself never calls when guest code jumps at the stub's instructions.
TEST_F(NotifyPlatform, CallsFromTheStubsTextAreOursOrDeadly) {
  uint64_t at = 0;
  {
    // The first `syscall` of the text.
    std::byte text[STUB_TEXT_SIZE];
    ASSERT_EQ(memory_->read(STUB_TEXT, text), 0U) << "the stub lies outside guest memory";
  }
  at = STUB_TEXT + STUB_TRAP_NO_FSGSBASE_OFFSET + 5;  // behind mov $STUB_CALL_TRAP, %eax
  const ThreadImage code = LOAD(jump);
  int killed = 0;
  int seen = 0;
  for (uint64_t number = 0; number <= 600; ++number) {
    if (number == SYS_rt_sigreturn) continue;  // loads whatever frame: see below
    auto forked = memory_->fork([&] {
      ThreadImage image = code;
      image.registers.rbx = at;
      image.registers.rax = number;
      image.registers.rdi = ~uint64_t{0};
      image.registers.rsi = ~uint64_t{0};
      return image;
    }());
    ASSERT_TRUE(forked.ok());
    const Event event = forked->context->run();
    if (event.kind == Event::Kind::kGone || is_uprobe(number, event)) {
      ++killed;
    } else {
      expect_call(event, static_cast<int>(number));
      ++seen;
    }
  }
  EXPECT_GT(killed, 550);
  EXPECT_EQ(killed + seen, 600);
}

TEST_F(NotifyPlatform, ALossIsToldWhereNobodyWaitsAndAnOrderlyEndIsNone) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int64_t> lost;
  platform_->on_loss([&](int64_t id) {
    std::lock_guard lock(mutex);
    lost.push_back(id);
    changed.notify_one();
  });
  auto orderly = memory_->fork(LOAD(getppid_loop));
  auto victim = memory_->fork(LOAD(getppid_loop));
  ASSERT_TRUE(orderly.ok() && victim.ok());
  expect_call(orderly->context->run(), SYS_getppid);
  expect_call(victim->context->run(), SYS_getppid);
  orderly->memory->kill();
  siginfo_t info{};
  ASSERT_EQ(
      waitid(P_PID, static_cast<id_t>(orderly->memory->id()), &info, WEXITED | WNOWAIT | __WALL),
      0);
  ASSERT_EQ(kill(static_cast<pid_t>(victim->memory->id()), SIGKILL), 0);
  {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::minutes(1), [&] { return !lost.empty(); }));
    EXPECT_EQ(lost, std::vector{victim->memory->id()});
  }
  platform_->on_loss({});
}

TEST_F(NotifyPlatform, AStubThatGivesNoAnswerIsEnded) {
  auto mute = memory_->fork(LOAD(getppid_loop));
  ASSERT_TRUE(mute.ok());
  expect_call(mute->context->run(), SYS_getppid);
  const auto pid = static_cast<pid_t>(mute->memory->id());
  ASSERT_EQ(kill(pid, SIGSTOP), 0);
  EXPECT_FALSE(mute->memory->fork(LOAD(getppid_loop)).ok()) << "it did what it was asked";
  // What it would have said now is for nobody to hear.
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT | __WALL), 0);
  EXPECT_EQ(info.si_status, SIGKILL);
  auto other = memory_->fork(LOAD(getppid_loop));
  ASSERT_TRUE(other.ok());
  expect_call(other->context->run(), SYS_getppid);
}

TEST_F(NotifyPlatform, AThreadThatMasksOurSignalAndComputesIsEnded) {
  UserContext frame{};
  frame.flags = kContextFlags;
  frame.signal_mask = ~uint64_t{0};
  ThreadImage image = LOAD(masked);
  frame.registers = image.registers;
  frame.registers.rip = kCode + 2;
  const uint64_t at = kData + 0x1000;
  ASSERT_EQ(memory_->write(at, std::as_bytes(std::span(&frame, 1))), sizeof frame);
  image.registers.rbx = STUB_TEXT + STUB_TRAP_NO_FSGSBASE_OFFSET + 5;  // a `syscall`
  image.registers.rax = SYS_rt_sigreturn;
  image.registers.rsp = at;
  auto forked = memory_->fork(image);
  ASSERT_TRUE(forked.ok());
  expect_call(forked->context->run(), SYS_getppid);
  forked->context->set_return(0);
  EXPECT_EQ(forked->context->registers(), nullptr);
  EXPECT_EQ(forked->context->run().kind, Event::Kind::kGone);
}

TEST(NotifyPatience, AThreadHasItsTurnWhenAllOfItsProcessHave) {
  constexpr int64_t kSecond = 1'000'000'000;
  static_assert(!each_had_a_turn(kSecond - 1, 1) && each_had_a_turn(kSecond, 1));
  // Of hundreds that can run, on a tenth of a processor, one gets none for long.
  static_assert(!each_had_a_turn(300 * kSecond - 1, 300) && each_had_a_turn(300 * kSecond, 300));
}

bool stands_still(int64_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::ifstream file(task.path() / "stat");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    if (text.at(text.rfind(')') + 2) != 'T') return false;
  }
  return true;
}

TEST_F(NotifyPlatform, WhatIsHaltedDoesNothingUntilItGoesOnOrEnds) {
  using namespace std::chrono_literals;
  ThreadImage image = LOAD(count);
  image.registers.rbx = kData;
  auto forked = memory_->fork(image);
  ASSERT_TRUE(forked.ok());
  AddressSpace& memory = *forked->memory;
  const auto counted = [&] {
    uint64_t word = 0;
    EXPECT_EQ(memory.read(kData, std::as_writable_bytes(std::span(&word, 1))), sizeof word);
    return word;
  };
  const auto goes_on_from = [&](uint64_t before) {
    while (counted() == before) std::this_thread::sleep_for(1ms);
  };
  Event event;
  std::thread runner([&] { event = forked->context->run(); });
  goes_on_from(0);
  ASSERT_TRUE(forked->context->halt());
  while (!stands_still(memory.id())) std::this_thread::sleep_for(1ms);
  const uint64_t before = counted();
  std::atomic<bool> is_mapped = false;
  const Mapping more{.address = 0x600000, .length = 4096, .protection = PROT_READ};
  std::thread mapper([&] {
    EXPECT_TRUE(memory.map(more).ok());
    is_mapped = true;
  });
  for (int i = 0; i < 50; ++i) {
    std::this_thread::sleep_for(1ms);
    ASSERT_EQ(counted(), before);
    ASSERT_FALSE(is_mapped.load());
  }
  memory.go_on();
  mapper.join();
  goes_on_from(before);
  forked->context->interrupt();
  runner.join();
  EXPECT_EQ(event.kind, Event::Kind::kInterrupt);

  runner = std::thread([&] { event = forked->context->run(); });
  ASSERT_TRUE(forked->context->halt());
  mapper = std::thread([&] { EXPECT_FALSE(memory.map(more).ok()); });
  memory.kill();
  mapper.join();
  runner.join();
  EXPECT_EQ(event.kind, Event::Kind::kGone);
}

class BesideABroker : public NotifyPlatform {
 protected:
  void SetUp() override {
    auto procfs = host::open_procfs();
    ASSERT_TRUE(procfs.ok());
    auto parts = host::Broker::fork_keeper("/", *procfs);
    ASSERT_TRUE(parts.ok()) << parts.error().message();
    listener_ = parts->listener.raw();
    auto broker = host::Broker::adopt(std::move(*parts));
    ASSERT_TRUE(broker.ok()) << broker.error().message();
    broker_ = std::move(*broker);
    NotifyPlatform::SetUp();
  }
  std::unique_ptr<host::Broker> broker_;
  int listener_ = -1;
};

// The number by which a new thread says which listener is its own lies in memory that the others
// can write.
TEST_F(BesideABroker, AGuestThatNamesTheBrokersListenerDoesNotGetIt) {
  ThreadImage image = LOAD(name_listener);
  image.registers.rax = static_cast<uint64_t>(listener_);
  image.registers.rbx = STUB_SLOTS + STUB_SLOT_SIZE + SLOT_LISTENER;  // of the second thread
  Errno refused;
  for (int tries = 0; refused.ok() && tries < 1000; ++tries) {
    auto forked = memory_->fork(image);
    ASSERT_TRUE(forked.ok());
    std::thread writer([&] {
      // Until the second thread's slot is there.
      while (forked->context->run().kind == Event::Kind::kFault) {
      }
    });
    auto second = forked->memory->create_context(image);
    if (!second.ok()) refused = second.error();
    forked->memory->kill();
    writer.join();
  }
  EXPECT_EQ(refused, Errno(EBADF));
  EXPECT_TRUE(broker_->find_root().ok()) << "the broker hears us no more";
}

TEST_F(NotifyPlatform, AForgedTrapHarmsTheForgerAlone) {
  ThreadImage image = LOAD(jump);
  image.registers.rbx = STUB_TEXT + STUB_TRAP_NO_FSGSBASE_OFFSET;
  image.registers.rdi = SIGSEGV;
  image.registers.rdx = kData;  // not in the slot
  auto forked = memory_->fork(image);
  ASSERT_TRUE(forked.ok());
  EXPECT_EQ(forked->context->run().kind, Event::Kind::kGone);
  auto thread = start(LOAD(getppid_loop));
  expect_call(thread->run(), SYS_getppid);
}

TEST_F(NotifyPlatform, CallsByOtherDoorsAreOursAndNotNative) {
  auto thread = start(LOAD(int80));
  Event event = thread->run();
  expect_call(event, 20);
  EXPECT_FALSE(event.call.native);
  thread->set_return(static_cast<uint64_t>(-ENOSYS));
  event = thread->run();
  expect_call(event, SYS_getppid);
  thread->finish();

  ThreadImage x32 = LOAD(one_call);
  x32.registers.rax = 0x40000000 | SYS_getpid;
  thread = start(x32);
  event = thread->run();
  ASSERT_EQ(event.kind, Event::Kind::kSyscall);
  EXPECT_FALSE(event.call.native);
}

TEST_F(NotifyPlatform, TheVsyscallPageIsOursToo) {
  auto thread = start(LOAD(vsyscall));
  Event event = thread->run();
  if (event.kind == Event::Kind::kFault) GTEST_SKIP() << "the kernel has no vsyscall page";
  expect_call(event, SYS_time);
  thread->set_return(12345);
  event = thread->run();
  expect_call(event, SYS_getppid);
  EXPECT_EQ(event.call.args[0], 12345U);
}

// Trap (c): what the sentry tells the stub cannot be written by the guest, and what the guest can
// write is not believed.
TEST_F(NotifyPlatform, RequestsAndConstantsAreReadOnlyToTheGuest) {
  for (uint64_t page : {uint64_t{STUB_BOOT}, uint64_t{STUB_REQUEST}, uint64_t{STUB_TEXT}}) {
    ThreadImage image = LOAD(poke);
    image.registers.rbx = page;
    auto thread = start(image);
    const Event event = thread->run();
    ASSERT_EQ(event.kind, Event::Kind::kFault);
    EXPECT_EQ(event.fault.address(), page);
    thread->finish();
  }
}

TEST_F(NotifyPlatform, AGuestThatScribblesOverItsSlotIsNotOurTrouble) {
  ThreadImage image = LOAD(stack_poke);
  image.registers.rbx = STUB_SLOTS;
  auto forked = memory_->fork(image);
  ASSERT_TRUE(forked.ok());
  Context& thread = *forked->context;
  for (int i = 0; i < 100; ++i) {
    Event event = thread.run();
    if (event.kind == Event::Kind::kGone) break;
    if (event.kind == Event::Kind::kSyscall) thread.set_return(0);
    if (i % 3 == 0) thread.registers();
    if (i % 5 == 0) thread.interrupt();
  }
  auto other = start(LOAD(getppid_loop));
  expect_call(other->run(), SYS_getppid);
}

// Trap (d): a call carried out by the host has scalar arguments only.
TEST_F(NotifyPlatform, TheThreadPointerIsSetByTheHost) {
  const uint64_t value = 0x1122334455667788;
  ASSERT_EQ(memory_->write(kData, std::as_bytes(std::span(&value, 1))), sizeof value);
  ThreadImage image = LOAD(set_fs);
  image.registers.rbx = kData;
  auto thread = start(image);
  expect_call(thread->run(), SYS_arch_prctl);
  thread->carry_out();
  Event event = thread->run();
  expect_call(event, SYS_getppid);
  EXPECT_EQ(event.call.args[0], value);
  ASSERT_NE(thread->registers(), nullptr);
  EXPECT_EQ(thread->fs_base(), kData);
}

// Trap (f): the widest registers live through a swap and into a fork, so the frame had room.
TEST_F(NotifyPlatform, TheHostKeepsAnRseqAreaUntilItIsToForgetIt) {
  if (!platform_->has_rseq()) GTEST_SKIP() << "the host has no rseq(2)";
  constexpr uint64_t kProcessor = kData + 4;
  constexpr uint32_t kNone = ~0U;
  const RseqArea area{kData, 32, 0x53053053};
  const auto processor = [](AddressSpace& memory) {
    uint32_t word = 0;
    EXPECT_EQ(memory.read(kProcessor, std::as_writable_bytes(std::span(&word, 1))), sizeof word);
    return word;
  };
  const auto forget_here = [&] {
    EXPECT_EQ(memory_->write(kProcessor, std::as_bytes(std::span(&kNone, 1))), sizeof kNone);
  };
  ThreadImage image = LOAD(one_call);
  image.registers.rax = SYS_rseq;
  image.registers.rdi = area.address;
  image.registers.rsi = area.length;
  image.registers.r10 = area.signature;
  auto thread = start(image);
  expect_call(thread->run(), SYS_rseq);
  thread->carry_out();
  const Event event = thread->run();
  expect_call(event, SYS_getppid);
  EXPECT_EQ(event.call.args[0], 0U) << "what rseq(2) returned";
  EXPECT_EQ(thread->rseq(), area);
  EXPECT_NE(processor(*memory_), kNone);

  // A fork's thread has its own, from its first instruction on.
  forget_here();
  image.registers.rax = SYS_getpid;
  image.rseq = thread->rseq();
  auto forked = memory_->fork(image);
  ASSERT_TRUE(forked.ok());
  expect_call(forked->context->run(), SYS_getpid);
  EXPECT_EQ(forked->context->rseq(), area);
  EXPECT_NE(processor(*forked->memory), kNone);
  EXPECT_EQ(processor(*memory_), kNone);

  forked->context->drop_rseq();
  EXPECT_EQ(forked->context->rseq(), RseqArea{});
  EXPECT_EQ(processor(*forked->memory), kNone);
  thread->drop_rseq();
  EXPECT_EQ(thread->rseq(), RseqArea{});
  // The thread goes on where it was, and another one after it writes to no memory of its.
  thread->set_return(0);
  expect_call(thread->run(), SYS_exit);
  thread->finish();
  forget_here();
  image.rseq = {};
  auto next = start(image);
  expect_call(next->run(), SYS_getpid);
  EXPECT_EQ(processor(*memory_), kNone);
}

TEST_F(NotifyPlatform, WhatIsNotToBeForgottenAnyMoreIsNotUsedAgain) {
  if (!platform_->has_rseq()) GTEST_SKIP() << "the host has no rseq(2)";
  ThreadImage image = LOAD(one_call);
  image.registers.rax = SYS_rseq;
  image.registers.rdi = kData + 0x8000;
  image.registers.rsi = 32;
  auto thread = start(image);
  expect_call(thread->run(), SYS_rseq);
  thread->carry_out();
  expect_call(thread->run(), SYS_getppid);
  ASSERT_TRUE(memory_->unmap(kData + 0x8000, 0x8000).ok());
  thread->drop_rseq();
  thread->finish();
  image.registers.rax = SYS_getpid;
  auto next = start(image);
  expect_call(next->run(), SYS_getpid);
}

TEST_F(NotifyPlatform, VectorRegistersSurviveASwapAndAFork) {
  if (!__builtin_cpu_supports("avx512f")) GTEST_SKIP() << "the processor has no AVX-512";
  std::vector<uint8_t> pattern(64);
  for (size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<uint8_t>(i * 3 + 1);
  ASSERT_EQ(memory_->write(kData, std::as_bytes(std::span(pattern))), 64U);
  ThreadImage image = LOAD(wide);
  image.registers.rbx = kData;
  auto thread = start(image);
  expect_call(thread->run(), SYS_getppid);
  thread->set_return(0);
  Registers* registers = thread->registers();
  ASSERT_NE(registers, nullptr);
  ThreadImage copy;
  copy.registers = *registers;
  copy.fp.assign(thread->fp_state().begin(), thread->fp_state().end());
  EXPECT_GT(copy.fp.size(), 2000U);
  auto forked = memory_->fork(copy);
  ASSERT_TRUE(forked.ok());
  expect_call(thread->run(), 111);
  expect_call(forked->context->run(), 111);
  for (AddressSpace* memory : {memory_.get(), forked->memory.get()}) {
    std::vector<uint8_t> seen(64);
    ASSERT_EQ(memory->read(kData + 64, std::as_writable_bytes(std::span(seen))), 64U);
    EXPECT_EQ(seen, pattern);
  }
}

TEST_F(NotifyPlatform, AKilledSpaceEndsItsThreads) {
  auto thread = start(LOAD(spin));
  std::thread killer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    memory_->kill();
  });
  EXPECT_EQ(thread->run().kind, Event::Kind::kGone);
  killer.join();
  EXPECT_EQ(thread->registers(), nullptr);
  EXPECT_FALSE(memory_->map({.address = 0x700000, .length = 4096, .protection = PROT_READ}).ok());
}

// Two threads race unmapping against mapping: what is mapped is what was asked for last.
TEST_F(NotifyPlatform, MemoryOperationsAreSerialisedByTheHelper) {
  const uint64_t at = 0x800000;
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(
        memory_->map({.address = at, .length = 4096, .protection = PROT_READ | PROT_WRITE}).ok());
    uint8_t one = 1;
    ASSERT_EQ(memory_->write(at, std::as_bytes(std::span(&one, 1))), 1U);
    ASSERT_TRUE(memory_->unmap(at, 4096).ok());
    ASSERT_EQ(memory_->write(at, std::as_bytes(std::span(&one, 1))), 0U);
  }
}

TEST_F(NotifyPlatform, NothingIsMappedOverTheStub) {
  for (uint64_t address : {uint64_t{STUB_TEXT}, uint64_t{STUB_REQUEST}, kGuestTop, uint64_t{0}}) {
    EXPECT_FALSE(memory_->map({.address = address, .length = 4096, .protection = PROT_READ}).ok());
    EXPECT_FALSE(memory_->unmap(address, 4096).ok());
    EXPECT_FALSE(memory_->protect(address, 4096, PROT_READ).ok());
  }
  EXPECT_FALSE(memory_->unmap(kGuestBottom, STUB_TEXT).ok());
  EXPECT_TRUE(memory_->unmap(kGuestBottom, kGuestTop - kGuestBottom).ok());
  // The helper still answers.
  EXPECT_TRUE(memory_->map({.address = kData, .length = 4096, .protection = PROT_READ}).ok());
}

TEST_F(NotifyPlatform, RoundTrips) {
  auto thread = start(LOAD(getppid_loop));
  const auto timed = [](const char* what, int times, auto body) {
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < times; ++i) body();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    std::printf("  %s: %.2f us\n", what, took.count() / times);
  };
  timed("system call", 20000, [&] {
    thread->run();
    thread->set_return(1);
  });
  timed("system call and register swap", 5000, [&] {
    thread->run();
    thread->registers();
  });
  timed("memory operation", 5000,
        [&] { ASSERT_TRUE(memory_->protect(kData, 4096, PROT_READ | PROT_WRITE).ok()); });
  thread->run();
  const ThreadImage image = LOAD(getppid_loop);
  timed("fork, first call, end", 200, [&] {
    auto forked = memory_->fork(image);
    ASSERT_TRUE(forked.ok());
    forked->context->run();
  });
  timed("thread, first call, end", 200, [&] {
    auto other = memory_->create_context(image);
    ASSERT_TRUE(other.ok());
    (*other)->run();
    (*other)->finish();
  });
}

struct MakeNotify {
  static std::unique_ptr<Platform> make(std::string& missing) {
    missing = notify_platform_missing();
    if (!missing.empty()) return nullptr;
    auto made = create_notify_platform();
    return made.ok() ? std::move(made).value() : nullptr;
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(Notify, PlatformMemory, MakeNotify);

// The pages for reading the time are in every stub, and nobody changes them.
TEST(NotifyClock, TheHostsClockIsInEveryStub) {
  std::ifstream file("/proc/self/maps");
  const std::string maps((std::istreambuf_iterator<char>(file)), {});
  const HostClock clock = find_host_clock(maps);
  if (clock.pieces.empty()) GTEST_SKIP() << "the host has no vdso that could be moved";
  auto made = create_notify_platform(clock);
  ASSERT_TRUE(made.ok()) << made.error().message();
  const ClockPages pages = (*made)->clock_pages();
  EXPECT_GE(pages.start, kGuestTop);
  auto memory = std::move((*made)->create_address_space()).value();
  EXPECT_FALSE(memory->unmap(pages.start, kPageSize).ok());
  EXPECT_FALSE(memory->protect(pages.library, kPageSize, PROT_READ | PROT_WRITE).ok());
  EXPECT_FALSE(
      memory->map({.address = pages.start, .length = kPageSize, .protection = PROT_READ}).ok());
}

TEST(NotifyClock, AClockThatCannotBeMovedIsLeft) {
  EXPECT_TRUE(find_host_clock("").pieces.empty());
  EXPECT_TRUE(find_host_clock("junk\n7f00-7f10 r-xp [vdso]\n").pieces.empty());
  EXPECT_TRUE(find_host_clock("1000-2000 r--p 0 0:0 0 [vvar]\n").pieces.empty());
}

}  // namespace
}  // namespace fluyt::guest
