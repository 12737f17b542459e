#include "guest/platform/fake.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <mutex>

namespace fluyt::guest {
namespace {

constexpr int kZeroPages = 4;  // MADV_DONTNEED

struct Page {
  int protection = 0;
  int shared_fd = -1;  // read and written through, when it is valid
  uint64_t offset = 0;
  std::shared_ptr<std::array<std::byte, kPageSize>> bytes;  // null: zeros
};

class FakeAddressSpace final : public AddressSpace {
 public:
  explicit FakeAddressSpace(FakeProgram program) : program_(std::move(program)) {}

  Errno map(const Mapping& mapping) override {
    GUEST_TRY(check(mapping.address, mapping.length));
    std::lock_guard lock(mutex_);
    for (uint64_t at = 0; at < mapping.length; at += kPageSize) {
      Page page;
      page.protection = mapping.protection;
      if (mapping.backing == Backing::kSharedFile) {
        page.shared_fd = mapping.host_fd;
        page.offset = mapping.offset + at;
      } else if (mapping.backing == Backing::kPrivateFile) {
        page.bytes = std::make_shared<std::array<std::byte, kPageSize>>();
        if (pread(mapping.host_fd, page.bytes->data(), kPageSize,
                  static_cast<off_t>(mapping.offset + at)) < 0)
          return Errno(errno);
      }
      pages_[mapping.address + at] = std::move(page);
    }
    return kOk;
  }

  Errno unmap(uint64_t address, uint64_t length) override {
    if (address % kPageSize != 0 || address < kGuestBottom || length > kGuestTop ||
        address > kGuestTop - length)
      return Errno(EINVAL);
    std::lock_guard lock(mutex_);
    pages_.erase(pages_.lower_bound(address), pages_.lower_bound(up(address + length)));
    return kOk;
  }

  Errno protect(uint64_t address, uint64_t length, int protection) override {
    GUEST_TRY(check(address, length));
    std::lock_guard lock(mutex_);
    for (uint64_t at = address; at < address + length; at += kPageSize) {
      const auto page = pages_.find(at);
      if (page == pages_.end()) return Errno(ENOMEM);
      page->second.protection = protection;
    }
    return kOk;
  }

  Errno move(uint64_t from, uint64_t old_length, uint64_t to, uint64_t new_length) override {
    GUEST_TRY(check(from, old_length));
    GUEST_TRY(check(to, new_length));
    std::lock_guard lock(mutex_);
    Page last;
    std::map<uint64_t, Page> moved;
    for (uint64_t at = 0; at < old_length; at += kPageSize) {
      const auto page = pages_.find(from + at);
      if (page == pages_.end()) return Errno(EFAULT);
      last = page->second;
      moved[to + at] = page->second;
    }
    for (uint64_t at = old_length; at < new_length; at += kPageSize) {
      Page page;
      page.protection = last.protection;
      moved[to + at] = page;
    }
    pages_.erase(pages_.lower_bound(from), pages_.lower_bound(from + old_length));
    for (auto& [at, page] : moved) pages_[at] = std::move(page);
    return kOk;
  }

  Errno advise(uint64_t address, uint64_t length, int advice) override {
    GUEST_TRY(check(address, length));
    std::lock_guard lock(mutex_);
    for (uint64_t at = address; at < address + length; at += kPageSize) {
      const auto page = pages_.find(at);
      if (page == pages_.end()) return Errno(ENOMEM);
      if (advice == kZeroPages) page->second.bytes.reset();
    }
    return kOk;
  }

  size_t read(uint64_t address, std::span<std::byte> to) override {
    return copy(
        address, to.size(), PROT_READ, [&](Page& page, size_t in_page, size_t done, size_t step) {
          if (page.shared_fd >= 0)
            return pread(page.shared_fd, to.data() + done, step,
                         static_cast<off_t>(page.offset + in_page)) == static_cast<ssize_t>(step);
          if (page.bytes)
            std::memcpy(to.data() + done, page.bytes->data() + in_page, step);
          else
            std::memset(to.data() + done, 0, step);
          return true;
        });
  }
  size_t write(uint64_t address, std::span<const std::byte> from) override {
    return copy(address, from.size(), PROT_WRITE,
                [&](Page& page, size_t in_page, size_t done, size_t step) {
                  if (page.shared_fd >= 0)
                    return pwrite(page.shared_fd, from.data() + done, step,
                                  static_cast<off_t>(page.offset + in_page)) ==
                           static_cast<ssize_t>(step);
                  // A page of a fork is copied when it is written.
                  if (!page.bytes)
                    page.bytes = std::make_shared<std::array<std::byte, kPageSize>>();
                  else if (page.bytes.use_count() > 1)
                    page.bytes = std::make_shared<std::array<std::byte, kPageSize>>(*page.bytes);
                  std::memcpy(page.bytes->data() + in_page, from.data() + done, step);
                  return true;
                });
  }

  ErrnoOr<std::unique_ptr<Context>> create_context(const ThreadImage& image) override {
    auto context = std::make_unique<FakeContext>(program_, image);
    context->drop_rseq();
    return std::unique_ptr<Context>(std::move(context));
  }
  ErrnoOr<Forked> fork(const ThreadImage& image) override {
    auto child = std::make_unique<FakeAddressSpace>(program_);
    {
      std::lock_guard lock(mutex_);
      child->pages_ = pages_;
    }
    Forked forked;
    forked.memory = std::move(child);
    forked.context = std::make_unique<FakeContext>(program_, image);
    return forked;
  }
  void kill() override {}

 private:
  static uint64_t up(uint64_t value) { return (value + kPageSize - 1) & ~(kPageSize - 1); }
  static Errno check(uint64_t address, uint64_t length) {
    // A fake must not be made to keep a page table of terabytes.
    constexpr uint64_t kMax = uint64_t{1} << 40;
    if (address % kPageSize != 0) return Errno(EINVAL);
    if (address < kGuestBottom || length > kMax || address > kGuestTop - length)
      return Errno(ENOMEM);
    return kOk;
  }
  template <class Each>
  size_t copy(uint64_t address, size_t length, int needed, Each each) {
    std::lock_guard lock(mutex_);
    size_t done = 0;
    while (done < length) {
      const uint64_t at = address + done;
      const size_t in_page = at % kPageSize;
      const size_t step = std::min(length - done, kPageSize - in_page);
      const auto page = pages_.find(at - in_page);
      if (page == pages_.end() || (page->second.protection & needed) == 0) break;
      if (!each(page->second, in_page, done, step)) break;
      done += step;
    }
    return done;
  }

  FakeProgram program_;
  std::mutex mutex_;
  std::map<uint64_t, Page> pages_;
};

}  // namespace

ErrnoOr<std::unique_ptr<AddressSpace>> FakePlatform::create_address_space() {
  return std::unique_ptr<AddressSpace>(std::make_unique<FakeAddressSpace>(program_));
}

Event FakeContext::run() {
  if (gone_) return {};
  if (interrupted_.exchange(false)) {
    last_ = {};
    last_.kind = Event::Kind::kInterrupt;
    return last_;
  }
  last_ = program_(*this);
  return last_;
}

void FakeContext::carry_out() {
  if (last_.kind != Event::Kind::kSyscall) return;
  if (last_.call.number == SYS_exit) gone_ = true;
  if (last_.call.number == SYS_arch_prctl && last_.call.args[0] == 0x1002)
    image_.fs_base = last_.call.args[1];
  if (last_.call.number == SYS_rseq) image_.rseq = rseq_after(last_.call);
}

Errno FakeContext::set_fp_state(std::span<const std::byte> state) {
  image_.fp.assign(state.begin(), state.end());
  return kOk;
}

void FakeContext::interrupt() { interrupted_.store(true); }

Event fake_call(int number, std::initializer_list<uint64_t> arguments) {
  Event event;
  event.kind = Event::Kind::kSyscall;
  event.call.number = number;
  std::copy(arguments.begin(), arguments.end(), event.call.args);
  return event;
}

}  // namespace fluyt::guest
