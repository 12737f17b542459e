#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "guest/base/wait.h"
#include "guest/fs/mqueue.h"
#include "guest/vfs/credentials.h"
#include "guest/vfs/file.h"

/// System V IPC (sysvipc(7)): shared memory, semaphores and message queues of one IPC namespace.
namespace fluyt::guest {

/// struct ipc64_perm.
struct IpcPermissions {
  int32_t key = 0;
  uint32_t uid = 0, gid = 0, cuid = 0, cgid = 0;
  uint32_t mode = 0;
  uint16_t sequence = 0, padding = 0;
  uint32_t padding2 = 0;
  uint64_t unused[2] = {};
};
static_assert(sizeof(IpcPermissions) == 48);

/// What the three kinds share. Everything under SysV::lock.
struct IpcObject {
  IpcPermissions permissions;
  bool removed = false;
  int64_t changed_s = 0;
};

struct SharedSegment : IpcObject {
  uint64_t size = 0;
  FilePtr memory;              // until it is removed
  std::weak_ptr<File> mapped;  // it lives on while it is mapped
  int64_t attached_s = 0, detached_s = 0;
  int32_t creator = 0, last = 0;
};

struct SemaphoreSet : IpcObject {
  struct Semaphore {
    int32_t value = 0;
    int32_t pid = 0;
    int waiting_for_more = 0;
    int waiting_for_zero = 0;
  };
  std::vector<Semaphore> semaphores;
  int64_t operated_s = 0;
  WaitQueue changed;
};

struct MessageQueue : IpcObject {
  struct Message {
    int64_t type = 0;
    std::vector<std::byte> text;
  };
  std::deque<Message> messages;
  uint64_t bytes = 0;
  uint64_t most_bytes = 16384;
  int64_t sent_s = 0, received_s = 0;
  int32_t last_sender = 0, last_receiver = 0;
  WaitQueue changed;
};

/// The objects of one kind, by id and by key.
template <class Object>
struct IpcTable {
  std::map<int, std::shared_ptr<Object>> by_id;
  int next = 0;
};

/// What semop(2) with SEM_UNDO takes back at a process's end: by set and number.
using SemaphoreUndo = std::map<std::pair<int, uint16_t>, int32_t>;

struct SysV {
  uint64_t inode_number = 4026531839;  // as /proc shows the namespace
  UserSpacePtr user;                   // that it belongs to; null: the first
  std::mutex lock;                     // the last to be taken; not held while waiting
  IpcTable<SharedSegment> segments;
  IpcTable<SemaphoreSet> sets;
  IpcTable<MessageQueue> queues;
  /// The POSIX ones of the namespace; never null in a kernel's.
  std::shared_ptr<MessageQueues> posix_queues;

  /// Takes a process's operations back.
  void undo(const SemaphoreUndo& undo, int32_t pid);
};

}  // namespace fluyt::guest
