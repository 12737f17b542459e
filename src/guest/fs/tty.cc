#include "guest/fs/tty.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <map>

#include "guest/fs/attributes.h"
#include "guest/fs/ioctl.h"
#include "guest/platform/host/io.h"
#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kDevptsMagic = 0x1cd1;
constexpr uint32_t kSlaveMajor = 136;
constexpr uint32_t kSlavesAMajor = 256;

uint64_t slave_device(uint32_t number) {
  return make_device(kSlaveMajor + number / kSlavesAMajor, number % kSlavesAMajor);
}

}  // namespace

/// Both sides of one terminal, and who has them open. Its own lock is never held while the table of
/// processes is asked, nor while somebody sleeps.
class Tty final : public Terminal, public std::enable_shared_from_this<Tty> {
 public:
  Tty(TerminalHost& host, uint32_t number) : host_(host), number_(number) {}

  uint32_t number() const { return number_; }
  uint64_t device() const override { return slave_device(number_); }
  ErrnoOr<FilePtr> reopen(const DentryPtr& path, const InodePtr& inode, int flags) override;
  WaitQueue& queue() { return queue_; }

  // The slave side.
  /// EIO while it is locked, or without a master.
  Errno may_open() {
    std::lock_guard lock(state_);
    return locked_ || hung_up_ ? Errno(EIO) : kOk;
  }
  Errno may_share(const Credentials& who) {
    std::lock_guard lock(state_);
    return exclusive_ && slaves_ > 1 && !who.can(kCapSysAdmin) ? Errno(EBUSY) : kOk;
  }
  void slave_opened() {
    std::lock_guard lock(state_);
    ++slaves_;
    slave_seen_ = true;
  }
  void slave_closed() {
    {
      std::lock_guard lock(state_);
      if (--slaves_ == 0) exclusive_ = false;
    }
    queue_.wake_all();
  }

  ErrnoOr<size_t> slave_read(Caller& caller, bool nonblocking, std::span<std::byte> to) {
    if (to.empty()) return size_t{0};
    if (caller.job != nullptr && !hung_up()) GUEST_TRY(may_use(*this, *caller.job, SIGTTIN));
    WaitQueue::Entry entry(queue_, caller.sleeper);
    const Clock::time_point began = Clock::now();
    Deadline deadline;
    size_t done = 0;
    for (;;) {
      bool finished = false;
      size_t got = 0;
      std::vector<int> signals;
      {
        std::lock_guard lock(state_);
        if (hung_up_) return done;
        if (line_.has_input()) {
          const bool line = line_.canonical();
          got = line_.read(to.subspan(done));
          done += got;
          finished = line;
          signals = feed();
        }
        if (!finished) {
          const std::chrono::milliseconds time(line_.character(VTIME) * 100);
          const size_t minimum = line_.canonical() ? 1 : line_.character(VMIN);
          if (done == to.size() || (done != 0 && done >= minimum)) {
            finished = true;
          } else if (!line_.canonical() && minimum == 0) {
            // Until something comes, for the time from the call on; at once without any.
            if (time.count() == 0) finished = true;
            deadline = began + time;
          } else if (!line_.canonical() && time.count() != 0 && got != 0) {
            deadline = Clock::now() + time;  // between two bytes
          }
        }
      }
      if (got != 0) queue_.wake_all();
      deliver(signals);
      if (finished) return done;
      if (nonblocking) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EAGAIN);
      switch (caller.sleeper.sleep(deadline)) {
        case Sleeper::Outcome::kWoken:
          break;
        case Sleeper::Outcome::kTimedOut:
          return done;
        case Sleeper::Outcome::kInterrupted:
          return done != 0 ? ErrnoOr<size_t>(done) : Errno(kRestartSys);
      }
    }
  }

  ErrnoOr<size_t> slave_write(Caller& caller, bool nonblocking, std::span<const std::byte> from) {
    bool background_stops = false;
    {
      std::lock_guard lock(state_);
      background_stops = (line_.settings().local & TOSTOP) != 0 && !hung_up_;
    }
    if (background_stops && caller.job != nullptr) GUEST_TRY(may_use(*this, *caller.job, SIGTTOU));
    WaitQueue::Entry entry(queue_, caller.sleeper);
    size_t done = 0;
    for (;;) {
      size_t taken = 0;
      {
        std::lock_guard lock(state_);
        if (hung_up_) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EIO);
        taken = line_.write(from.subspan(done));
      }
      done += taken;
      if (taken != 0) queue_.wake_all();
      if (done == from.size()) return done;
      if (nonblocking) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EAGAIN);
      if (caller.sleeper.sleep({}) == Sleeper::Outcome::kInterrupted)
        return done != 0 ? ErrnoOr<size_t>(done) : Errno(kRestartSys);
    }
  }

  uint32_t slave_ready() {
    std::lock_guard lock(state_);
    if (hung_up_) return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLERR | POLLHUP;
    uint32_t out = 0;
    // Where a read waits for several bytes and no timer runs, so does poll.
    const size_t wanted = !line_.canonical() && line_.character(VTIME) == 0
                              ? std::max<size_t>(line_.character(VMIN), 1)
                              : 1;
    if (line_.has_input() && (line_.canonical() || line_.input_bytes() >= wanted))
      out |= POLLIN | POLLRDNORM;
    if (line_.has_room()) out |= POLLOUT | POLLWRNORM;
    return out;
  }

  // The master side.
  ErrnoOr<size_t> master_read(Caller& caller, bool nonblocking, std::span<std::byte> to) {
    if (to.empty()) return size_t{0};
    WaitQueue::Entry entry(queue_, caller.sleeper);
    for (;;) {
      {
        std::unique_lock lock(state_);
        if (packet_ && (line_.packet_status() | extra_packet_status_) != 0) {
          to[0] = std::byte(line_.take_packet_status() | std::exchange(extra_packet_status_, 0));
          return size_t{1};
        }
        if (line_.output_bytes() != 0 && !line_.stopped()) {
          const size_t header = packet_ ? 1 : 0;
          if (packet_) to[0] = std::byte{TIOCPKT_DATA};
          const size_t got = line_.take_output(to.subspan(header)) + header;
          lock.unlock();
          queue_.wake_all();
          return got;
        }
        if (slave_seen_ && slaves_ == 0) return Errno(EIO);
      }
      if (nonblocking) return Errno(EAGAIN);
      if (caller.sleeper.sleep({}) == Sleeper::Outcome::kInterrupted) return Errno(kRestartSys);
    }
  }

  ErrnoOr<size_t> master_write(Caller& caller, bool nonblocking, std::span<const std::byte> from) {
    WaitQueue::Entry entry(queue_, caller.sleeper);
    size_t done = 0;
    for (;;) {
      done += type(from.subspan(done));
      if (done == from.size()) return done;
      if (nonblocking) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EAGAIN);
      if (caller.sleeper.sleep({}) == Sleeper::Outcome::kInterrupted)
        return done != 0 ? ErrnoOr<size_t>(done) : Errno(kRestartSys);
    }
  }

  /// Bytes typed; gives how many there was room for.
  size_t type(std::span<const std::byte> from) {
    std::vector<int> signals;
    size_t count = 0;
    {
      std::lock_guard lock(state_);
      count = std::min(from.size(), kTypedRoom - typed_.size());
      for (size_t i = 0; i < count; ++i) typed_.push_back(static_cast<uint8_t>(from[i]));
      signals = feed();
    }
    if (count != 0) queue_.wake_all();
    deliver(signals);
    return count;
  }
  /// What is to be shown.
  size_t take_output(std::span<std::byte> to) {
    size_t got = 0;
    {
      std::lock_guard lock(state_);
      if (!line_.stopped()) got = line_.take_output(to);
    }
    if (got != 0) queue_.wake_all();
    return got;
  }
  bool output_is_out() {
    std::lock_guard lock(state_);
    return line_.output_bytes() == 0;
  }
  bool slaves_are_gone() {
    std::lock_guard lock(state_);
    return slave_seen_ && slaves_ == 0;
  }

  uint32_t master_ready() {
    std::lock_guard lock(state_);
    uint32_t out = 0;
    if (line_.output_bytes() != 0 && !line_.stopped()) out |= POLLIN | POLLRDNORM;
    if (packet_ && (line_.packet_status() | extra_packet_status_) != 0)
      out |= POLLIN | POLLRDNORM | POLLPRI;
    if (typed_.size() < kTypedRoom) out |= POLLOUT | POLLWRNORM;
    if (slave_seen_ && slaves_ == 0) out |= POLLHUP;
    return out;
  }

  void unlock() {
    std::lock_guard lock(state_);
    locked_ = false;
  }
  bool hung_up() {
    std::lock_guard lock(state_);
    return hung_up_;
  }
  void master_closed() {
    {
      std::lock_guard lock(state_);
      hung_up_ = true;
    }
    queue_.wake_all();
    host_.hang_up(*this);
  }
  void set_size(const winsize& size) {
    {
      std::lock_guard lock(state_);
      if (std::memcmp(&size_, &size, sizeof size) == 0) return;
      size_ = size;
    }
    host_.signal_foreground(*this, SIGWINCH);
  }

  ErrnoOr<uint64_t> ioctl(TerminalSide side, Caller& caller, const File& file, uint32_t request,
                          uint64_t argument);

 private:
  static constexpr size_t kTypedRoom = 65536;

  /// Typed bytes into the line, as long as it has room. Under the lock; gives the signals to send.
  std::vector<int> feed() {
    while (!typed_.empty() && line_.type(typed_.front())) typed_.pop_front();
    return line_.take_signals();
  }
  void deliver(const std::vector<int>& signals) {
    for (int signal : signals) host_.signal_foreground(*this, signal);
  }
  /// Changes something, then lets everybody look again.
  template <class Change>
  void change(Change apply) {
    std::vector<int> signals;
    {
      std::lock_guard lock(state_);
      apply();
      signals = feed();
    }
    queue_.wake_all();
    deliver(signals);
  }
  ErrnoOr<uint64_t> set_settings(Caller& caller, uint32_t request, uint64_t argument);
  ErrnoOr<uint64_t> master_ioctl(Caller& caller, uint32_t request, uint64_t argument);
  Errno control_flow(uint64_t argument);
  Errno flush(TerminalSide side, uint64_t argument);

  TerminalHost& host_;
  const uint32_t number_;
  WaitQueue queue_;
  std::mutex state_;
  // Under it:
  LineDiscipline line_;
  std::deque<uint8_t> typed_;
  winsize size_{};
  int slaves_ = 0;
  bool slave_seen_ = false;
  bool hung_up_ = false;  // there is no master any more
  bool locked_ = true;
  bool exclusive_ = false;
  bool packet_ = false;
  uint8_t extra_packet_status_ = 0;
};

namespace {

class SlaveFile final : public File {
 public:
  SlaveFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<Tty> tty)
      : File(std::move(path), std::move(inode), flags), tty_(std::move(tty)) {
    tty_->slave_opened();
  }
  ~SlaveFile() override { tty_->slave_closed(); }
  ErrnoOr<FilePtr> finish_open(Caller& caller) override {
    GUEST_TRY(tty_->may_share(caller.credentials));
    take_at_open(tty_, caller, flags());
    return FilePtr();
  }
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t*) override {
    return tty_->slave_read(caller, nonblocking(), to);
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t*) override {
    return tty_->slave_write(caller, nonblocking(), from);
  }
  uint32_t ready(uint32_t) override { return tty_->slave_ready(); }
  WaitQueue* queue() override { return &tty_->queue(); }
  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override {
    if (tty_->hung_up()) return Errno(request == TIOCSPGRP ? ENOTTY : EIO);
    return tty_->ioctl(TerminalSide::kSlave, caller, *this, request, argument);
  }
  std::string describe() const override { return "/dev/pts/" + std::to_string(tty_->number()); }

 private:
  std::shared_ptr<Tty> tty_;
};

/// /dev/pts/N.
class SlaveInode final : public Inode {
 public:
  SlaveInode(std::shared_ptr<Tty> tty, uint64_t device, uint32_t mode, uint32_t uid, uint32_t gid)
      : tty_(std::move(tty)) {
    stat_.dev = device;
    stat_.ino = tty_->number() + 3;
    stat_.mode = S_IFCHR | (mode & 07777);
    stat_.uid = uid;
    stat_.gid = gid;
    stat_.rdev = tty_->device();
    stat_.block_size = 1024;
    stat_.accessed = stat_.modified = stat_.changed = now();
  }
  uint32_t type() const override { return S_IFCHR; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mutex_);
    return stat_;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mutex_);
    apply(change, stat_);
    return kOk;
  }
  ErrnoOr<StatfsBuffer> statfs() override {
    StatfsBuffer out;
    out.type = kDevptsMagic;
    return out;
  }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    GUEST_TRY(tty_->may_open());
    return FilePtr(std::make_shared<SlaveFile>(std::move(path), shared_from_this(), flags, tty_));
  }
  const std::shared_ptr<Tty>& tty() const { return tty_; }

 private:
  std::shared_ptr<Tty> tty_;
  std::mutex mutex_;
  Stat stat_;
};

class Bridge;

class DevPts final : public Pts, public Inode {
 public:
  DevPts(const PtsOptions& options, TerminalHost& host) : options_(options), host_(host) {
    static std::atomic<uint32_t> next_device{200};
    device_ = make_device(0, next_device.fetch_add(1));
    ptmx_mode_ = options.ptmx_mode;
  }

  // Pts.
  InodePtr root() override { return shared_from_this(); }
  void mounted_at(const DentryPtr& root) override {
    std::lock_guard lock(mutex_);
    mount_ = root;
  }
  ErrnoOr<Console> open_console(Workers& workers, std::shared_ptr<host::Poller> poller,
                                sys::Fd descriptor, const Credentials& owner) override;

  ErrnoOr<std::shared_ptr<SlaveInode>> allocate(const Credentials& owner) {
    std::lock_guard lock(mutex_);
    if (slaves_.size() >= options_.max) return Errno(ENOSPC);
    uint32_t number = 0;
    for (const auto& [taken, slave] : slaves_) {
      if (taken != number) break;
      ++number;
    }
    auto made = std::make_shared<SlaveInode>(std::make_shared<Tty>(host_, number), device_,
                                             options_.mode, owner.fsuid, options_.gid);
    slaves_[number] = made;
    return made;
  }
  void release(uint32_t number) {
    std::lock_guard lock(mutex_);
    slaves_.erase(number);
  }
  DentryPtr name_of(const std::shared_ptr<SlaveInode>& slave) {
    std::lock_guard lock(mutex_);
    const DentryPtr root = mount_.lock();
    if (!root) return nullptr;
    return std::make_shared<Dentry>(root, std::to_string(slave->tty()->number()), slave);
  }

  // The directory.
  uint32_t type() const override { return S_IFDIR; }
  ErrnoOr<Stat> stat() override { return stat_of(1, S_IFDIR | 0755); }
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  ErrnoOr<StatfsBuffer> statfs() override {
    StatfsBuffer out;
    out.type = kDevptsMagic;
    return out;
  }
  bool cacheable() const override { return false; }
  ErrnoOr<InodePtr> lookup(std::string_view name) override;
  ErrnoOr<std::vector<DirEntry>> list() override {
    std::lock_guard lock(mutex_);
    std::vector<DirEntry> out = {{"ptmx", 2, entry_type(S_IFCHR)}};
    for (const auto& [number, slave] : slaves_)
      out.push_back({std::to_string(number), number + 3, entry_type(S_IFCHR)});
    return out;
  }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;
  ErrnoOr<InodePtr> make(std::string_view, const NewNode&) override { return Errno(EPERM); }

  ErrnoOr<Stat> ptmx_stat() {
    std::lock_guard lock(mutex_);
    Stat out = stat_of(2, S_IFCHR | ptmx_mode_);
    out.rdev = make_device(5, 2);
    return out;
  }
  void set_ptmx_mode(uint32_t mode) {
    std::lock_guard lock(mutex_);
    ptmx_mode_ = mode & 07777;
  }

 private:
  Stat stat_of(uint64_t ino, uint32_t mode) const {
    Stat out;
    out.dev = device_;
    out.ino = ino;
    out.mode = mode;
    out.nlink = S_ISDIR(mode) ? 2 : 1;
    out.block_size = 1024;
    out.accessed = out.modified = out.changed = made_;
    return out;
  }

  PtsOptions options_;
  TerminalHost& host_;
  uint64_t device_ = 0;
  Timestamp made_ = now();
  std::mutex mutex_;
  std::map<uint32_t, std::shared_ptr<SlaveInode>> slaves_;
  std::weak_ptr<Dentry> mount_;
  uint32_t ptmx_mode_ = 0;
};

class DirFile final : public File {
 public:
  using File::File;
  ErrnoOr<std::vector<DirEntry>> list() override { return inode()->list(); }
};

class MasterFile final : public File {
 public:
  MasterFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<DevPts> pts,
             std::shared_ptr<SlaveInode> slave)
      : File(std::move(path), std::move(inode), flags),
        pts_(std::move(pts)),
        slave_(std::move(slave)),
        tty_(slave_->tty()) {}
  ~MasterFile() override {
    pts_->release(tty_->number());
    tty_->master_closed();
  }
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t*) override {
    return tty_->master_read(caller, nonblocking(), to);
  }
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t*) override {
    return tty_->master_write(caller, nonblocking(), from);
  }
  uint32_t ready(uint32_t) override { return tty_->master_ready(); }
  WaitQueue* queue() override { return &tty_->queue(); }
  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override {
    return tty_->ioctl(TerminalSide::kMaster, caller, *this, request, argument);
  }
  std::string describe() const override { return "/dev/ptmx"; }

  ErrnoOr<FilePtr> peer(Caller& caller, int flags) {
    GUEST_TRY(tty_->may_open());
    auto made = std::make_shared<SlaveFile>(pts_->name_of(slave_), slave_,
                                            flags & (O_ACCMODE | O_NONBLOCK), tty_);
    take_at_open(tty_, caller, flags);
    return FilePtr(std::move(made));
  }

 private:
  std::shared_ptr<DevPts> pts_;
  std::shared_ptr<SlaveInode> slave_;
  std::shared_ptr<Tty> tty_;
};

/// What opening ptmx gives before it is known who opens: finish_open makes the terminal.
class PtmxFile final : public File {
 public:
  PtmxFile(DentryPtr path, InodePtr inode, int flags, std::shared_ptr<DevPts> pts)
      : File(std::move(path), std::move(inode), flags), pts_(std::move(pts)) {}
  ErrnoOr<FilePtr> finish_open(Caller& caller) override {
    std::shared_ptr<SlaveInode> slave = GUEST_TRY(pts_->allocate(caller.credentials));
    return FilePtr(std::make_shared<MasterFile>(path(), inode(), flags(), pts_, std::move(slave)));
  }

 private:
  std::shared_ptr<DevPts> pts_;
};

class PtmxInode final : public Inode {
 public:
  explicit PtmxInode(std::shared_ptr<DevPts> pts) : pts_(std::move(pts)) {}
  uint32_t type() const override { return S_IFCHR; }
  ErrnoOr<Stat> stat() override { return pts_->ptmx_stat(); }
  Errno set_attributes(const SetAttributes& change) override {
    if (change.uid || change.gid) return Errno(EPERM);
    if (change.mode) pts_->set_ptmx_mode(*change.mode);
    return kOk;
  }
  ErrnoOr<StatfsBuffer> statfs() override { return pts_->statfs(); }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    return FilePtr(std::make_shared<PtmxFile>(std::move(path), shared_from_this(), flags, pts_));
  }

 private:
  std::shared_ptr<DevPts> pts_;
};

ErrnoOr<InodePtr> DevPts::lookup(std::string_view name) {
  auto self = std::static_pointer_cast<DevPts>(shared_from_this());
  if (name == "ptmx") return InodePtr(std::make_shared<PtmxInode>(std::move(self)));
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size()) return Errno(ENOENT);
  if (name != std::to_string(number)) return Errno(ENOENT);
  std::lock_guard lock(mutex_);
  const auto found = slaves_.find(number);
  if (found == slaves_.end()) return Errno(ENOENT);
  return InodePtr(found->second);
}

ErrnoOr<FilePtr> DevPts::open(DentryPtr path, int flags) {
  return FilePtr(std::make_shared<DirFile>(std::move(path), shared_from_this(), flags));
}

class Bridge final : public TtyBridge {
 public:
  Bridge(std::shared_ptr<DevPts> pts, std::shared_ptr<Tty> tty,
         std::shared_ptr<host::Poller> poller, sys::Fd fd)
      : pts_(std::move(pts)),
        tty_(std::move(tty)),
        poller_(std::move(poller)),
        fd_(std::move(fd)) {}

  void resize(uint16_t rows, uint16_t columns) override {
    winsize size{};
    size.ws_row = rows;
    size.ws_col = columns;
    tty_->set_size(size);
  }
  void refresh_size() override {
    winsize size{};
    std::lock_guard lock(mutex_);
    if (fd_.valid() && host::terminal_control(fd_, TIOCGWINSZ, &size).ok()) tty_->set_size(size);
  }
  void drain(int timeout_ms) override {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                      [&] { return ended_ || (to_host_.empty() && tty_->output_is_out()); });
  }

  /// A terminal of the host becomes a pipe that has a size.
  Errno prepare() {
    TerminalSettings settings;
    if (!host::terminal_control(fd_, TCGETS, &settings).ok()) return kOk;  // no terminal: a stream
    settings.input &= ~uint32_t{IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON};
    settings.output &= ~uint32_t{OPOST};
    settings.local &= ~uint32_t{ECHO | ECHONL | ICANON | ISIG | IEXTEN};
    settings.control = (settings.control & ~uint32_t{CSIZE | PARENB}) | CS8;
    settings.characters[VMIN] = 1;
    settings.characters[VTIME] = 0;
    return host::terminal_control(fd_, TCSETS, &settings);
  }

  static Errno start(Workers& workers, const std::shared_ptr<Bridge>& bridge) {
    auto* handed = new std::shared_ptr<Bridge>(bridge);
    const Errno started = workers.start(
        [](void* raw) {
          const std::shared_ptr<Bridge> self =
              std::move(*static_cast<std::shared_ptr<Bridge>*>(raw));
          delete static_cast<std::shared_ptr<Bridge>*>(raw);
          self->run();
        },
        handed);
    if (!started.ok()) delete handed;
    return started;
  }

 private:
  enum class Step : uint8_t { kNothing, kMoved, kEnded };

  void run() {
    {
      WaitQueue::Entry at_tty(tty_->queue(), sleeper_);
      WaitQueue::Entry at_host(host_queue_, sleeper_);
      for (;;) {
        const Step in = move_in();
        if (in == Step::kEnded) break;
        const Step out = move_out();
        if (out == Step::kEnded) break;
        changed_.notify_all();
        if (in == Step::kMoved || out == Step::kMoved) continue;
        // Level by level: what is not ready now wakes us when it is.
        uint32_t events = to_guest_.empty() ? POLLIN : 0;
        if (!to_host_.empty()) events |= POLLOUT;
        poller_->watch(fd_, events, host_queue_);
        sleeper_.sleep({});
      }
    }
    poller_->forget(fd_);
    {
      std::lock_guard lock(mutex_);
      fd_.reset();
      ended_ = true;
    }
    changed_.notify_all();
    pts_->release(tty_->number());
    tty_->master_closed();
  }

  Step move_in() {
    Step step = Step::kNothing;
    if (to_guest_.empty()) {
      const uint32_t ready = host::ready(fd_, POLLIN);
      if ((ready & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) == 0) return step;
      std::array<std::byte, 4096> buffer;
      const ErrnoOr<size_t> got = host::read(fd_, buffer);
      if (!got.ok()) return got.error().value() == EAGAIN ? step : Step::kEnded;
      if (got.value() == 0) return Step::kEnded;
      to_guest_.assign(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got.value()));
      step = Step::kMoved;
    }
    const size_t typed = tty_->type(to_guest_);
    to_guest_.erase(to_guest_.begin(), to_guest_.begin() + static_cast<std::ptrdiff_t>(typed));
    return typed != 0 ? Step::kMoved : step;
  }

  Step move_out() {
    std::lock_guard lock(mutex_);
    Step step = Step::kNothing;
    if (to_host_.empty()) {
      const bool last = tty_->slaves_are_gone();  // asked first: what they wrote is still there
      std::array<std::byte, 4096> buffer;
      const size_t got = tty_->take_output(buffer);
      if (got == 0) return last ? Step::kEnded : step;
      to_host_.assign(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(got));
      step = Step::kMoved;
    }
    if ((host::ready(fd_, POLLOUT) & (POLLOUT | POLLHUP | POLLERR)) == 0) return step;
    const ErrnoOr<size_t> put = host::write(fd_, to_host_);
    if (!put.ok()) return put.error().value() == EAGAIN ? step : Step::kEnded;
    to_host_.erase(to_host_.begin(), to_host_.begin() + static_cast<std::ptrdiff_t>(put.value()));
    return Step::kMoved;
  }

  std::shared_ptr<DevPts> pts_;
  std::shared_ptr<Tty> tty_;
  std::shared_ptr<host::Poller> poller_;
  Sleeper sleeper_;
  WaitQueue host_queue_;
  std::vector<std::byte> to_guest_;  // the thread's own
  std::mutex mutex_;
  std::condition_variable changed_;
  sys::Fd fd_;                      // reset under the lock
  std::vector<std::byte> to_host_;  // under it
  bool ended_ = false;
};

ErrnoOr<Pts::Console> DevPts::open_console(Workers& workers, std::shared_ptr<host::Poller> poller,
                                           sys::Fd descriptor, const Credentials& owner) {
  const std::shared_ptr<SlaveInode> slave = GUEST_TRY(allocate(owner));
  const std::shared_ptr<Tty>& tty = slave->tty();
  auto self = std::static_pointer_cast<DevPts>(shared_from_this());
  auto bridge = std::make_shared<Bridge>(self, tty, std::move(poller), std::move(descriptor));
  tty->unlock();
  Console console;
  console.slave = std::make_shared<SlaveFile>(name_of(slave), slave, O_RDWR, tty);
  console.terminal = tty;
  console.bridge = bridge;
  Errno ready = bridge->prepare();
  if (ready.ok()) {
    bridge->refresh_size();
    ready = Bridge::start(workers, bridge);
  }
  if (!ready.ok()) {
    release(tty->number());
    return ready;
  }
  return console;
}

}  // namespace

ErrnoOr<FilePtr> Tty::reopen(const DentryPtr& path, const InodePtr& inode, int flags) {
  if (hung_up()) return Errno(EIO);
  return FilePtr(std::make_shared<SlaveFile>(path, inode, flags, shared_from_this()));
}

ErrnoOr<uint64_t> Tty::set_settings(Caller& caller, uint32_t request, uint64_t argument) {
  const bool with_speeds =
      request == kSetSettings2 || request == kSetSettingsWait2 || request == kSetSettingsFlush2;
  TerminalSettings settings;
  {
    std::lock_guard lock(state_);
    settings = line_.settings();
  }
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&settings, 1))
                                         .first(with_speeds ? sizeof settings : kShortSettings);
  if (caller.memory == nullptr || caller.memory->read(argument, bytes) != bytes.size())
    return Errno(EFAULT);
  // What was written is out as soon as the master has it: to wait for that would be for ever.
  const bool discard = request == TCSETSF || request == kSetSettingsFlush2;
  change([&] {
    if (discard) {
      line_.flush_input();
      typed_.clear();
    }
    line_.set(settings);
  });
  return uint64_t{0};
}

Errno Tty::control_flow(uint64_t argument) {
  switch (argument) {
    case TCOOFF:
      change([&] { line_.stop(); });
      return kOk;
    case TCOON:
      change([&] { line_.start(); });
      return kOk;
    case TCIOFF:
    case TCION:
      // The other side is asked to stop or go on, by the character for it.
      change([&] {
        const uint8_t byte = line_.character(argument == TCIOFF ? VSTOP : VSTART);
        if (byte == 0) return;
        const std::byte shown{byte};
        line_.write(std::span(&shown, 1));
      });
      return kOk;
    default:
      return Errno(EINVAL);
  }
}

Errno Tty::flush(TerminalSide side, uint64_t argument) {
  if (argument > TCIOFLUSH) return Errno(EINVAL);
  const bool in = argument != TCOFLUSH;
  const bool out = argument != TCIFLUSH;
  // What is input at one side is output at the other.
  const bool slave_input = side == TerminalSide::kSlave ? in : out;
  const bool slave_output = side == TerminalSide::kSlave ? out : in;
  change([&] {
    if (slave_input) {
      line_.flush_input();
      typed_.clear();
    }
    if (slave_output && side == TerminalSide::kSlave) line_.flush_output();
    if (slave_output && side == TerminalSide::kMaster) line_.drop_output();
  });
  return kOk;
}

ErrnoOr<uint64_t> Tty::master_ioctl(Caller& caller, uint32_t request, uint64_t argument) {
  int value = 0;
  switch (request) {
    case TIOCGPTN:
      GUEST_TRY(copy_out(caller, argument, number_));
      return uint64_t{0};
    case TIOCSPTLCK: {
      GUEST_TRY(copy_in(caller, argument, value));
      std::lock_guard lock(state_);
      locked_ = value != 0;
      return uint64_t{0};
    }
    case TIOCGPTLCK: {
      {
        std::lock_guard lock(state_);
        value = locked_ ? 1 : 0;
      }
      GUEST_TRY(copy_out(caller, argument, value));
      return uint64_t{0};
    }
    case TIOCPKT: {
      GUEST_TRY(copy_in(caller, argument, value));
      std::lock_guard lock(state_);
      if (value != 0 && !packet_) {
        line_.take_packet_status();
        extra_packet_status_ = 0;
      }
      packet_ = value != 0;
      return uint64_t{0};
    }
    case TIOCGPKT: {
      {
        std::lock_guard lock(state_);
        value = packet_ ? 1 : 0;
      }
      GUEST_TRY(copy_out(caller, argument, value));
      return uint64_t{0};
    }
    case TIOCSIG: {
      const auto signal = static_cast<int>(argument);
      if (signal != SIGINT && signal != SIGQUIT && signal != SIGTSTP) return Errno(EINVAL);
      host_.signal_foreground(*this, signal);
      return uint64_t{0};
    }
    default:
      return Errno(kNoSuchRequest);
  }
}

ErrnoOr<uint64_t> Tty::ioctl(TerminalSide side, Caller& caller, const File& file, uint32_t request,
                             uint64_t argument) {
  if (side == TerminalSide::kMaster) {
    ErrnoOr<uint64_t> done = master_ioctl(caller, request, argument);
    if (done.ok() || done.error().value() != kNoSuchRequest) return done;
  }
  ErrnoOr<uint64_t> jobs = control_jobs(shared_from_this(), side, caller, file, request, argument);
  if (jobs.ok() || jobs.error().value() != kNoSuchRequest) return jobs;
  const bool slave = side == TerminalSide::kSlave;
  // What changes the terminal is the foreground's.
  switch (request) {
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case kSetSettings2:
    case kSetSettingsWait2:
    case kSetSettingsFlush2:
    case TCXONC:
    case TCFLSH:
    case TCSBRK:
    case TCSBRKP:
    case TIOCSETD:
      if (slave && caller.job != nullptr) GUEST_TRY(may_use(*this, *caller.job, SIGTTOU));
      break;
    default:
      break;
  }
  switch (request) {
    case TCGETS:
    case kGetSettings2: {
      TerminalSettings settings;
      {
        std::lock_guard lock(state_);
        settings = line_.settings();
      }
      const auto bytes = std::as_bytes(std::span(&settings, 1))
                             .first(request == kGetSettings2 ? sizeof settings : kShortSettings);
      if (caller.memory == nullptr || caller.memory->write(argument, bytes) != bytes.size())
        return Errno(EFAULT);
      return uint64_t{0};
    }
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case kSetSettings2:
    case kSetSettingsWait2:
    case kSetSettingsFlush2:
      return set_settings(caller, request, argument);
    case TCXONC:
      GUEST_TRY(control_flow(argument));
      return uint64_t{0};
    case TCFLSH:
      GUEST_TRY(flush(side, argument));
      return uint64_t{0};
    case TCSBRK:  // no line that could break; what was written is out
    case TCSBRKP:
    case TIOCSBRK:
    case TIOCCBRK:
      return uint64_t{0};
    case TIOCGWINSZ: {
      winsize size{};
      {
        std::lock_guard lock(state_);
        size = size_;
      }
      GUEST_TRY(copy_out(caller, argument, size));
      return uint64_t{0};
    }
    case TIOCSWINSZ: {
      winsize size{};
      GUEST_TRY(copy_in(caller, argument, size));
      set_size(size);
      return uint64_t{0};
    }
    case FIONREAD:
    case TIOCOUTQ: {
      int count = 0;
      {
        std::lock_guard lock(state_);
        if (request == FIONREAD)
          count = static_cast<int>(slave ? line_.input_bytes() : line_.output_bytes());
      }
      GUEST_TRY(copy_out(caller, argument, count));
      return uint64_t{0};
    }
    case TIOCEXCL:
    case TIOCNXCL: {
      std::lock_guard lock(state_);
      exclusive_ = request == TIOCEXCL;
      return uint64_t{0};
    }
    case TIOCGEXCL: {
      int value = 0;
      {
        std::lock_guard lock(state_);
        value = exclusive_ ? 1 : 0;
      }
      GUEST_TRY(copy_out(caller, argument, value));
      return uint64_t{0};
    }
    case TIOCGETD:
      GUEST_TRY(copy_out(caller, argument, int{0}));  // N_TTY
      return uint64_t{0};
    case TIOCSETD: {
      int value = 0;
      GUEST_TRY(copy_in(caller, argument, value));
      if (value != 0) return Errno(EINVAL);
      return uint64_t{0};
    }
    case TIOCGDEV:
      GUEST_TRY(
          copy_out(caller, argument, static_cast<uint32_t>(slave ? device() : make_device(5, 2))));
      return uint64_t{0};
    case TIOCSTI:
      // Typing on behalf of others is how one escapes from a terminal that is shared.
      return Errno(EIO);
    default:
      return Errno(ENOTTY);
  }
}

std::shared_ptr<Pts> make_devpts(const PtsOptions& options, TerminalHost& host) {
  return std::make_shared<DevPts>(options, host);
}

ErrnoOr<FilePtr> open_peer(Caller& caller, File& master, int flags) {
  if ((flags & ~(O_ACCMODE | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)) != 0) return Errno(EINVAL);
  auto* file = dynamic_cast<MasterFile*>(&master);
  if (file == nullptr) return Errno(ENOTTY);
  return file->peer(caller, flags);
}

}  // namespace fluyt::guest
