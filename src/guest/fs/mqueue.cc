#include "guest/fs/mqueue.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "guest/fs/attributes.h"
#include "guest/fs/devices.h"
#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {

constexpr int64_t kMagic = 0x19800202;
constexpr uint64_t kDevice = make_device(0, 17);
constexpr size_t kMaxName = 255;
// As the file system shows them: what a file's text takes, and what each adds to its folder.
constexpr int64_t kFileSize = 80;
constexpr int64_t kEntrySize = 20;
// What Linux counts for a message besides its bytes; what one takes of us, and a queue.
constexpr uint64_t kCountedBytes = 96;
constexpr uint64_t kOwnBytes = 256;
constexpr uint64_t kQueueBytes = 2048;

/// What the queues of a namespace share; they may outlive it, in who has them open.
struct Common {
  std::shared_ptr<Quota> memory;
  std::shared_ptr<QueueBytes> bytes;
  std::function<QueueRoom()> room_of_caller;
  std::mutex mutex;
  // Under it:
  QueueLimits limits{};
  std::function<QueueLimits()> source;  // null: they are known
  int64_t queues = 0;
  uint64_t next_number = 2;
};

/// Errors of names, as looked up one by one.
Errno check_name(std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos)
    return Errno(EACCES);
  return name.size() > kMaxName ? Errno(ENAMETOOLONG) : kOk;
}

ErrnoOr<StatfsBuffer> statfs_of_queues() {
  StatfsBuffer out;
  out.type = kMagic;
  return out;
}

/// One of the queues that there may be, of its namespace, of its user's bytes and of the sandbox's
/// memory.
class Place {
 public:
  Place(std::shared_ptr<Common> common, uint32_t owner)
      : common_(std::move(common)), owner_(owner), own_(common_->memory) {}
  ~Place() {
    common_->bytes->give_back(owner_, counted_);
    std::lock_guard lock(common_->mutex);
    if (is_counted_) --common_->queues;
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  /// ENOSPC.
  Errno take(int64_t most, uint64_t own_bytes) {
    std::lock_guard lock(common_->mutex);
    if (common_->queues >= most || !own_.set(own_bytes)) return Errno(ENOSPC);
    ++common_->queues;
    is_counted_ = true;
    return kOk;
  }
  /// EMFILE.
  Errno take_bytes(uint64_t counted, uint64_t limit) {
    if (!common_->bytes->take(owner_, counted, limit)) return Errno(EMFILE);
    counted_ = counted;
    return kOk;
  }

 private:
  const std::shared_ptr<Common> common_;
  const uint32_t owner_;
  Charge own_;
  bool is_counted_ = false;
  uint64_t counted_ = 0;
};

/// A queue: its messages, and who waits for one, or for room.
class Queue final : public Inode {
 public:
  Queue(std::shared_ptr<Common> common, std::string name, const NewNode& node,
        const QueueAttributes& wanted, std::unique_ptr<Place> place)
      : common_(std::move(common)), place_(std::move(place)), name_(std::move(name)) {
    most_messages_ = static_cast<size_t>(wanted.most_messages);
    message_bytes_ = static_cast<size_t>(wanted.message_bytes);
    stat_.dev = kDevice;
    stat_.mode = node.mode;
    stat_.uid = node.uid;
    stat_.gid = node.gid;
    stat_.size = kFileSize;
    stat_.accessed = stat_.modified = stat_.changed = now();
    std::lock_guard lock(common_->mutex);
    stat_.ino = common_->next_number++;
  }

  uint32_t type() const override { return S_IFREG; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mutex_);
    return stat_;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mutex_);
    apply(change, stat_);
    return kOk;
  }
  Errno truncate(int64_t) override { return kOk; }  // it has no bytes to lose
  ErrnoOr<StatfsBuffer> statfs() override { return statfs_of_queues(); }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;

  void lose_name() {
    std::lock_guard lock(mutex_);
    stat_.nlink = 0;
    stat_.changed = now();
  }
  std::string describe() {
    std::lock_guard lock(mutex_);
    return "/" + name_ + (stat_.nlink == 0 ? " (deleted)" : "");
  }
  WaitQueue& queue() { return queue_; }

  QueueAttributes attributes() {
    std::lock_guard lock(mutex_);
    QueueAttributes out;
    out.most_messages = static_cast<int64_t>(most_messages_);
    out.message_bytes = static_cast<int64_t>(message_bytes_);
    out.messages = static_cast<int64_t>(messages_.size());
    return out;
  }

  uint32_t ready() {
    std::lock_guard lock(mutex_);
    uint32_t out = 0;
    if (!messages_.empty()) out |= POLLIN | POLLRDNORM;
    if (!is_full()) out |= POLLOUT | POLLWRNORM;
    return out;
  }

  ErrnoOr<QueueMessage> make_message(uint64_t bytes, uint32_t priority, bool nonblocking) {
    if (bytes > message_bytes_) return Errno(EMSGSIZE);
    QueueMessage out{priority, {}, std::make_unique<Charge>(common_->memory)};
    if (!out.charge->set(bytes + kOwnBytes)) {
      std::lock_guard lock(mutex_);
      return Errno(nonblocking && is_full() ? EAGAIN : ENOMEM);
    }
    out.text.resize(bytes);
    return out;
  }

  Errno send(Caller& caller, QueueMessage message, bool nonblocking, const Deadline& deadline) {
    std::optional<QueueNotice> due;
    bool is_in_line = false;
    Waiting own{caller.sleeper, {}, false};
    {
      Wakes wakes;
      std::lock_guard lock(mutex_);
      stat_.accessed = stat_.modified = stat_.changed = now();
      if (!receivers_.empty()) {
        // Who waits has it at once: nobody comes in between, and nobody is told.
        Waiting& receiver = *receivers_.front();
        receiver.message = std::move(message);
        finish(receivers_, receiver, wakes);
        return kOk;
      }
      if (!is_full()) {
        insert(std::move(message), wakes);
        if (messages_.size() == 1) due = std::exchange(notice_, {});
      } else {
        if (nonblocking) return Errno(EAGAIN);
        own.message = std::move(message);
        senders_.push_back(&own);
        is_in_line = true;
      }
    }
    if (is_in_line) return wait(caller, senders_, own, deadline);
    if (due) due->tell(QueueNotice::Told::kMessage);
    return kOk;
  }

  ErrnoOr<QueueMessage> receive(Caller& caller, uint64_t room, bool nonblocking,
                                const Deadline& deadline) {
    if (room < message_bytes_) return Errno(EMSGSIZE);
    Waiting own{caller.sleeper, {}, false};
    {
      Wakes wakes;
      std::lock_guard lock(mutex_);
      if (!messages_.empty()) {
        QueueMessage out = std::move(messages_.begin()->second);
        messages_.erase(messages_.begin());
        stat_.accessed = stat_.modified = stat_.changed = now();
        if (!senders_.empty()) {
          Waiting& sender = *senders_.front();
          insert(std::move(sender.message), wakes);
          finish(senders_, sender, wakes);
        } else {
          queue_.wake_all(POLLOUT | POLLWRNORM, wakes);
        }
        return out;
      }
      if (nonblocking) return Errno(EAGAIN);
      receivers_.push_back(&own);
    }
    GUEST_TRY(wait(caller, receivers_, own, deadline));
    return std::move(own.message);
  }

  Errno set_notice(QueueNotice notice) {
    std::lock_guard lock(mutex_);
    if (notice_) return Errno(EBUSY);
    notice_ = std::move(notice);
    stat_.accessed = stat_.changed = now();
    return kOk;
  }
  /// The one that `is` says, if there is one.
  template <class Is>
  void drop_notice(Is is) {
    std::optional<QueueNotice> dropped;
    {
      std::lock_guard lock(mutex_);
      if (!notice_ || !is(*notice_)) return;
      dropped = std::exchange(notice_, {});
    }
    dropped->tell(QueueNotice::Told::kRemoved);
  }

  /// As read(2) shows it, to who sees the process of a notice as `shown` says.
  std::string text(const JobControl* reader) {
    std::lock_guard lock(mutex_);
    uint64_t bytes = 0;
    for (const auto& [priority, message] : messages_) bytes += message.text.size();
    const int how = notice_ ? notice_->how : 0;
    const int signal = notice_ && how == SIGEV_SIGNAL ? notice_->signal : 0;
    const int process = notice_ && reader != nullptr ? reader->shown(notice_->process) : 0;
    char line[128];
    std::snprintf(line, sizeof line, "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", bytes,
                  how, signal, process);
    return line;
  }

 private:
  /// Who sleeps until somebody gives it a message, or takes the one that it has.
  struct Waiting {
    Sleeper& sleeper;
    QueueMessage message;
    bool is_done = false;
  };
  using Line = std::deque<Waiting*>;

  // Under the lock.
  bool is_full() const { return messages_.size() >= most_messages_; }
  void insert(QueueMessage message, Wakes& wakes) {
    const uint32_t priority = message.priority;
    messages_.emplace(priority, std::move(message));  // behind those of the same
    queue_.wake_all(POLLIN | POLLRDNORM, wakes);
  }
  static void finish(Line& line, Waiting& first, Wakes& wakes) {
    line.pop_front();
    first.is_done = true;
    first.sleeper.wake(wakes);
  }

  Errno wait(Caller& caller, Line& line, Waiting& own, const Deadline& deadline) {
    for (;;) {
      const Sleeper::Outcome outcome = caller.sleeper.sleep(deadline);
      std::lock_guard lock(mutex_);
      if (own.is_done) return kOk;
      if (outcome == Sleeper::Outcome::kWoken) continue;
      std::erase(line, &own);
      return Errno(outcome == Sleeper::Outcome::kTimedOut ? ETIMEDOUT : kRestartSys);
    }
  }

  const std::shared_ptr<Common> common_;
  const std::unique_ptr<Place> place_;
  const std::string name_;
  size_t most_messages_ = 0;
  size_t message_bytes_ = 0;
  WaitQueue queue_;  // who polls
  std::mutex mutex_;
  // Under it:
  Stat stat_;
  std::multimap<uint32_t, QueueMessage, std::greater<>> messages_;  // by priority
  Line receivers_;                                                  // then there are no messages
  Line senders_;                                                    // then there is no room
  std::optional<QueueNotice> notice_;
};

class OpenQueue final : public QueueFile {
 public:
  OpenQueue(DentryPtr path, InodePtr inode, int flags)
      : QueueFile(std::move(path), std::move(inode), flags) {}
  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override {
    const std::string text = of().text(caller.job);
    if (*offset < 0) return Errno(EINVAL);
    if (*offset >= static_cast<int64_t>(text.size())) return size_t{0};
    const size_t count = std::min(to.size(), text.size() - static_cast<size_t>(*offset));
    std::memcpy(to.data(), text.data() + *offset, count);
    *offset += static_cast<int64_t>(count);
    return count;
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    return seek_within(offset, whence, kFileSize);
  }
  uint32_t ready(uint32_t) override { return of().ready(); }
  WaitQueue* queue() override { return &of().queue(); }
  std::string describe() const override { return of().describe(); }
  void closed() override { drop_notice(); }
  void ended_with(const FdTable& table) override {
    of().drop_notice([&](const QueueNotice& notice) { return notice.through == &table; });
  }

  QueueAttributes attributes() override {
    QueueAttributes out = of().attributes();
    out.flags = flags() & O_NONBLOCK;
    return out;
  }
  ErrnoOr<QueueMessage> make_message(uint64_t bytes, uint32_t priority) override {
    return of().make_message(bytes, priority, nonblocking());
  }
  Errno send(Caller& caller, QueueMessage message, const Deadline& deadline) override {
    return of().send(caller, std::move(message), nonblocking(), deadline);
  }
  ErrnoOr<QueueMessage> receive(Caller& caller, uint64_t room, const Deadline& deadline) override {
    return of().receive(caller, room, nonblocking(), deadline);
  }
  Errno set_notice(QueueNotice notice) override { return of().set_notice(std::move(notice)); }
  void drop_notice() override {
    of().drop_notice([](const QueueNotice& notice) { return notice.is_callers(); });
  }

 private:
  Queue& of() const { return static_cast<Queue&>(*inode()); }
};

ErrnoOr<FilePtr> Queue::open(DentryPtr path, int flags) {
  return FilePtr(std::make_shared<OpenQueue>(std::move(path), shared_from_this(), flags));
}

class FolderFile final : public File {
 public:
  using File::File;
  ErrnoOr<size_t> read(Caller&, std::span<std::byte>, int64_t*) override { return Errno(EISDIR); }
  ErrnoOr<std::vector<DirEntry>> list() override { return inode()->list(); }
};

}  // namespace

/// The folder of a namespace's queues.
class MessageQueues::Folder final : public Inode {
 public:
  explicit Folder(std::shared_ptr<Common> common) : common_(std::move(common)) {
    stat_.dev = kDevice;
    stat_.ino = 1;
    stat_.nlink = 2;
    stat_.mode = S_IFDIR | S_ISVTX | 0777;
    stat_.accessed = stat_.modified = stat_.changed = now();
  }
  Common& common() { return *common_; }

  uint32_t type() const override { return S_IFDIR; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mutex_);
    Stat out = stat_;
    out.size = kEntrySize * (2 + static_cast<int64_t>(queues_.size()));
    return out;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mutex_);
    apply(change, stat_);
    return kOk;
  }
  ErrnoOr<StatfsBuffer> statfs() override { return statfs_of_queues(); }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override {
    return FilePtr(std::make_shared<FolderFile>(std::move(path), shared_from_this(), flags));
  }
  // mq_open(2) and mq_unlink(2) go by no mount of it.
  bool cacheable() const override { return false; }
  ErrnoOr<InodePtr> lookup(std::string_view name) override {
    if (name.size() > kMaxName) return Errno(ENAMETOOLONG);
    const std::shared_ptr<Queue> found = find(name);
    if (!found) return Errno(ENOENT);
    return InodePtr(found);
  }
  ErrnoOr<std::vector<DirEntry>> list() override {
    std::lock_guard lock(mutex_);
    std::vector<DirEntry> out;
    for (const auto& [name, queue] : queues_) {
      const FileKey key = GUEST_TRY(queue->key());
      out.push_back({name, key.second, entry_type(S_IFREG)});
    }
    return out;
  }
  ErrnoOr<InodePtr> make(std::string_view name, const NewNode& node) override {
    if (!S_ISREG(node.mode)) return Errno(EPERM);
    const QueueLimits limits = this->limits();
    QueueAttributes usual;
    usual.most_messages = std::min(limits[kMsgDefault], limits[kMsgMax]);
    usual.message_bytes = std::min(limits[kMsgSizeDefault], limits[kMsgSizeMax]);
    return InodePtr(GUEST_TRY(add(name, node, usual)));
  }
  ErrnoOr<InodePtr> symlink(std::string_view, std::string_view, const NewNode&) override {
    return Errno(EPERM);
  }
  Errno link(std::string_view, Inode&) override { return Errno(EPERM); }
  Errno rename(std::string_view, Inode&, std::string_view, int) override { return Errno(EPERM); }
  Errno unlink(std::string_view name, Inode& target) override {
    std::shared_ptr<Queue> gone;  // it may end here, without the lock
    std::lock_guard lock(mutex_);
    const auto found = queues_.find(name);
    if (found == queues_.end() || found->second.get() != &target) return Errno(ENOENT);
    gone = std::move(found->second);
    queues_.erase(found);
    gone->lose_name();
    stat_.modified = stat_.changed = now();
    return kOk;
  }

  std::shared_ptr<Queue> find(std::string_view name) {
    std::lock_guard lock(mutex_);
    const auto found = queues_.find(name);
    return found == queues_.end() ? nullptr : found->second;
  }
  QueueLimits limits() {
    std::function<QueueLimits()> source;
    {
      std::lock_guard lock(common_->mutex);
      if (!common_->source) return common_->limits;
      source = common_->source;
    }
    const QueueLimits known = source();
    std::lock_guard lock(common_->mutex);
    if (common_->source) common_->limits = known;
    common_->source = nullptr;
    return common_->limits;
  }
  /// EEXIST, ENOSPC, EINVAL, EMFILE.
  ErrnoOr<std::shared_ptr<Queue>> add(std::string_view name, const NewNode& node,
                                      const QueueAttributes& wanted) {
    if (name.size() > kMaxName) return Errno(ENAMETOOLONG);
    const QueueLimits limits = this->limits();
    const QueueRoom room = common_->room_of_caller();
    // However privileged, what a sandbox's kernel keeps has an end.
    const int64_t most =
        room.exceeds ? kMostQueuesEver : std::min(kMostQueuesEver, limits[kQueuesMax]);
    auto place = std::make_unique<Place>(common_, node.uid);
    GUEST_TRY(place->take(most, kQueueBytes + name.size()));
    const int64_t messages = wanted.most_messages;
    const int64_t bytes = wanted.message_bytes;
    if (messages <= 0 || bytes <= 0 ||
        messages > (room.exceeds ? kMostMessagesEver : limits[kMsgMax]) ||
        bytes > (room.exceeds ? kMostMessageBytesEver : limits[kMsgSizeMax]))
      return Errno(EINVAL);
    GUEST_TRY(place->take_bytes(
        static_cast<uint64_t>(messages) * (static_cast<uint64_t>(bytes) + kCountedBytes),
        room.bytes));
    auto made = std::make_shared<Queue>(common_, std::string(name), node, wanted, std::move(place));
    std::lock_guard lock(mutex_);
    if (!queues_.emplace(std::string(name), made).second) return Errno(EEXIST);
    stat_.modified = stat_.changed = now();
    return made;
  }

 private:
  static constexpr int64_t kMostQueuesEver = 65536;
  const std::shared_ptr<Common> common_;
  std::mutex mutex_;
  // Under it:
  Stat stat_;
  std::map<std::string, std::shared_ptr<Queue>, std::less<>> queues_;
};

bool QueueBytes::take(uint32_t uid, uint64_t bytes, uint64_t limit) {
  std::lock_guard lock(mutex_);
  const auto found = taken_.find(uid);
  const uint64_t taken = found == taken_.end() ? 0 : found->second;
  if (taken > limit || bytes > limit - taken) return false;
  taken_[uid] = taken + bytes;
  return true;
}

void QueueBytes::give_back(uint32_t uid, uint64_t bytes) {
  std::lock_guard lock(mutex_);
  const auto found = taken_.find(uid);
  if (found != taken_.end() && (found->second -= bytes) == 0) taken_.erase(found);
}

MessageQueues::MessageQueues(std::shared_ptr<Quota> memory, std::shared_ptr<QueueBytes> bytes,
                             std::function<QueueRoom()> room) {
  auto common = std::make_shared<Common>();
  common->memory = std::move(memory);
  common->bytes = std::move(bytes);
  common->room_of_caller = std::move(room);
  for (size_t i = 0; i < kQueueLimits.size(); ++i) common->limits[i] = kQueueLimits[i].usual;
  folder_ = std::make_shared<Folder>(std::move(common));
}

InodePtr MessageQueues::root() const { return folder_; }

QueueLimits MessageQueues::limits() { return folder_->limits(); }

void MessageQueues::set_limit(QueueLimit which, int64_t value) {
  (void)folder_->limits();
  std::lock_guard lock(folder_->common().mutex);
  folder_->common().limits[which] = value;
}

void MessageQueues::take_limits_from(std::function<QueueLimits()> source) {
  std::lock_guard lock(folder_->common().mutex);
  folder_->common().source = std::move(source);
}

ErrnoOr<FilePtr> MessageQueues::open(std::string_view name, int flags, uint32_t mode,
                                     const std::optional<QueueAttributes>& wanted,
                                     const Opener& opener) {
  constexpr int kOfOpening = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;
  GUEST_TRY(check_name(name));
  std::shared_ptr<Queue> queue = folder_->find(name);
  if (!queue) {
    if ((flags & O_CREAT) == 0) return Errno(ENOENT);
    const Stat folder = GUEST_TRY(folder_->stat());
    GUEST_TRY(may_access(opener.who, folder, 3));
    const QueueLimits limits = folder_->limits();
    QueueAttributes attributes;
    attributes.most_messages = std::min(limits[kMsgDefault], limits[kMsgMax]);
    attributes.message_bytes = std::min(limits[kMsgSizeDefault], limits[kMsgSizeMax]);
    const NewNode node{S_IFREG | (mode & 07777 & ~opener.umask), 0, opener.who.fsuid,
                       opener.who.fsgid};
    auto made = folder_->add(name, node, wanted.value_or(attributes));
    if (made.ok()) return made.value()->open(nullptr, flags & ~kOfOpening);
    // Somebody else was faster.
    if (made.error().value() != EEXIST || (flags & O_EXCL) != 0) return made.error();
    queue = folder_->find(name);
    if (!queue) return Errno(ENOENT);
  }
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return Errno(EEXIST);
  constexpr int kWants[] = {4, 2, 6};
  const int how = flags & O_ACCMODE;
  if (how == O_ACCMODE) return Errno(EINVAL);
  const Stat stat = GUEST_TRY(queue->stat());
  GUEST_TRY(may_access(opener.who, stat, kWants[how]));
  return queue->open(nullptr, flags & ~kOfOpening);
}

Errno MessageQueues::unlink(std::string_view name, const Credentials& who) {
  GUEST_TRY(check_name(name));
  const std::shared_ptr<Queue> queue = folder_->find(name);
  if (!queue) return Errno(ENOENT);
  const Stat folder = GUEST_TRY(folder_->stat());
  GUEST_TRY(may_access(who, folder, 3));
  const Stat own = GUEST_TRY(queue->stat());
  if ((folder.mode & S_ISVTX) != 0 && own.uid != who.fsuid && folder.uid != who.fsuid &&
      !who.can_over(kCapFowner, own.uid, own.gid))
    return Errno(EPERM);
  return folder_->unlink(name, *queue);
}

}  // namespace fluyt::guest
