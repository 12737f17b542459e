#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guest/base/quota.h"
#include "guest/vfs/inode.h"

/// POSIX message queues (mq_overview(7)): files of one directory an IPC namespace.
namespace fluyt::guest {

/// struct mq_attr.
struct QueueAttributes {
  int64_t flags = 0;  // O_NONBLOCK, of a description
  int64_t most_messages = 0;
  int64_t message_bytes = 0;  // of one, at most
  int64_t messages = 0;
  int64_t reserved[4] = {};
};
static_assert(sizeof(QueueAttributes) == 64);

/// What /proc/sys/fs/mqueue sets for a namespace, in the order of kQueueLimits.
using QueueLimits = std::array<int64_t, 5>;
enum QueueLimit : uint8_t { kQueuesMax, kMsgMax, kMsgSizeMax, kMsgDefault, kMsgSizeDefault };
struct QueueLimitName {
  const char* name;
  int64_t usual;
  int64_t least;
  int64_t most;
};
inline constexpr int64_t kMostMessagesEver = 65536;
inline constexpr int64_t kMostMessageBytesEver = int64_t{16} << 20;
inline constexpr std::array<QueueLimitName, 5> kQueueLimits = {
    {{"queues_max", 256, 0, INT32_MAX},
     {"msg_max", 10, 1, kMostMessagesEver},
     {"msgsize_max", 8192, 128, kMostMessageBytesEver},
     {"msg_default", 10, 1, kMostMessagesEver},
     {"msgsize_default", 8192, 128, kMostMessageBytesEver}}};

/// What the queues of each user could hold, over all namespaces: RLIMIT_MSGQUEUE.
class QueueBytes {
 public:
  /// False: it would be more than `limit`.
  bool take(uint32_t uid, uint64_t bytes, uint64_t limit);
  void give_back(uint32_t uid, uint64_t bytes);

 private:
  std::mutex mutex_;
  std::map<uint32_t, uint64_t> taken_;
};

/// Who hears of a message that comes to an empty queue, once (mq_notify(3)).
struct QueueNotice {
  int32_t process = 0;  // whose
  // Whether the thread that calls is of it: a descriptor of the queue that one closes ends the
  // notice.
  std::function<bool()> is_callers;
  const FdTable* through = nullptr;  // its end does, too
  int how = 0;                       // SIGEV_*
  int signal = 0;                    // of SIGEV_SIGNAL
  enum class Told : uint8_t { kMessage, kRemoved };
  std::function<void(Told)> tell;  // called without locks of the queue's
};

struct QueueMessage {
  uint32_t priority = 0;
  std::vector<std::byte> text;
  std::unique_ptr<Charge> charge;
};

/// What somebody who makes a queue may have.
struct QueueRoom {
  uint64_t bytes = 819200;  // RLIMIT_MSGQUEUE; as Linux begins with it
  bool exceeds = false;     // the namespace's limits: CAP_SYS_RESOURCE
};

/// An open queue.
class QueueFile : public File {
 public:
  using File::File;
  virtual QueueAttributes attributes() = 0;
  /// One of so many bytes, to be filled, that counts already. EMSGSIZE; ENOMEM: the sandbox's
  /// memory does not hold it; EAGAIN: nor does the queue, and nobody would wait.
  virtual ErrnoOr<QueueMessage> make_message(uint64_t bytes, uint32_t priority) = 0;
  /// One that it made. EAGAIN, ETIMEDOUT, kRestartSys.
  virtual Errno send(Caller& caller, QueueMessage message, const Deadline& deadline) = 0;
  /// The oldest of the highest priority; EMSGSIZE: `room` does not do for every message.
  virtual ErrnoOr<QueueMessage> receive(Caller& caller, uint64_t room,
                                        const Deadline& deadline) = 0;
  /// EBUSY: somebody else is told already.
  virtual Errno set_notice(QueueNotice notice) = 0;
  /// The caller's; nothing where it has none.
  virtual void drop_notice() = 0;
};

/// The queues of one IPC namespace.
class MessageQueues {
 public:
  /// Queues and messages count against `memory`. `room` says what the thread that calls may have;
  /// it is asked without locks of the queues'.
  MessageQueues(std::shared_ptr<Quota> memory, std::shared_ptr<QueueBytes> bytes,
                std::function<QueueRoom()> room);

  /// The root of the file system that shows them.
  InodePtr root() const;

  QueueLimits limits();
  void set_limit(QueueLimit which, int64_t value);
  /// Where they are to be had from when somebody first asks.
  void take_limits_from(std::function<QueueLimits()> source);

  struct Opener {
    const Credentials& who;
    uint32_t umask = 0;
  };
  /// mq_open(2): `name` without its slash.
  ErrnoOr<FilePtr> open(std::string_view name, int flags, uint32_t mode,
                        const std::optional<QueueAttributes>& wanted, const Opener& opener);
  /// mq_unlink(2).
  Errno unlink(std::string_view name, const Credentials& who);

 private:
  class Folder;
  std::shared_ptr<Folder> folder_;
};

}  // namespace fluyt::guest
