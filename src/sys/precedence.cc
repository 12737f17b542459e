#include "sys/precedence.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

#include "base/time.h"

namespace fluyt::sys {

namespace {

constexpr int64_t kMsNs = 1'000'000;

Result<void*> map(FdRef fd, int protection) {
  void* const at = ::mmap(nullptr, sizeof(PrecedencePage), protection, MAP_SHARED, fd.raw(), 0);
  if (at == MAP_FAILED) return Error::from_errno(errno, "mmap(precedence)");
  return at;
}

// What another process maps afterwards, it can only read.
Result<> seal(FdRef fd) {
  constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
  if (fcntl(fd.raw(), F_ADD_SEALS, kSeals) == 0) return {};
  return Error::from_errno(errno, "fcntl(F_ADD_SEALS, precedence)");
}

// The word of the atomic itself: not private, for processes share it.
void wait_for_change(const std::atomic<uint32_t>& word, uint32_t seen, int64_t ns) {
  const timespec most{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &most, nullptr, 0);
}

}  // namespace

Result<std::shared_ptr<Precedence>> Precedence::create() {
  Fd fd(memfd_create("precedence", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return Error::from_errno(errno, "memfd_create(precedence)");
  if (ftruncate(fd.raw(), sizeof(PrecedencePage)) != 0)
    return Error::from_errno(errno, "ftruncate(precedence)");
  void* const at = FLUYT_TRY(map(fd, PROT_READ | PROT_WRITE));
  std::shared_ptr<Precedence> out(new Precedence(std::move(fd), static_cast<PrecedencePage*>(at)));
  FLUYT_TRY(seal(out->fd_));
  return out;
}

Precedence::~Precedence() { ::munmap(page_, sizeof *page_); }

Precedence::Count::Count(std::shared_ptr<Precedence> of, std::atomic<uint32_t>& count)
    : of_(std::move(of)), count_(&count) {
  ++*count_;
}

Precedence::Count::~Count() {
  if (count_ == nullptr || --*count_ != 0) return;
  if (count_ != &of_->page_->calls) return;
  syscall(SYS_futex, count_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

Precedence::Count Precedence::begin_call(const std::shared_ptr<Precedence>& of) {
  of->page_->last_call_begins = now_boot_ns();
  return {of, of->page_->calls};
}

Precedence::Count Precedence::begin_work(const std::shared_ptr<Precedence>& of) {
  return {of, of->page_->works};
}

GiveWay::GiveWay(std::shared_ptr<const Precedence> to)
    : to_(std::move(to)),
      page_(to_ == nullptr ? nullptr : to_->page_),
      processors_(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L)) {}

Result<GiveWay> GiveWay::open(FdRef page) {
  GiveWay out(nullptr);
  out.page_ = static_cast<const PrecedencePage*>(FLUYT_TRY(map(page, PROT_READ)));
  return out;
}

bool GiveWay::between_steps() {
  if (page_ == nullptr) return false;
  const auto calls = [&](int64_t now) -> uint32_t {
    if (now - page_->last_call_begins >= kCallMs * kMsNs) return 0;
    return processors_ > kThreadsOfWork * page_->works ? 0 : page_->calls.load();
  };
  int64_t now = now_boot_ns();
  if (now < free_until_ns_ || calls(now) == 0) return false;
  const int64_t end = now + kMostMs * kMsNs;
  while (now < end) {
    const uint32_t seen = calls(now);
    if (seen == 0) return true;
    wait_for_change(page_->calls, seen, end - now);
    now = now_boot_ns();
  }
  free_until_ns_ = now + kMostMs * kMsNs / 2;
  return true;
}

}  // namespace fluyt::sys
