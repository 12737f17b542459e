#include "guest/task/sysv.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <limits>

#include "guest/fs/charged_memory.h"
#include "guest/fs/devices.h"
#include "guest/platform/host/io.h"
#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr int kCreate = 01000, kExclusive = 02000, kNoWait = 04000;
constexpr int kRemove = 0, kSet = 1, kStat = 2;
constexpr int kCapIpcOwner = 15, kCapIpcLock = 14;
constexpr uint32_t kRead = 4, kWrite = 2;
constexpr size_t kMostObjects = 1024;  // of each kind
constexpr size_t kMostSemaphores = size_t{1} << 18;

int64_t now_s() { return host::clock_ns(0) / 1'000'000'000; }

bool may(const Task& task, const IpcPermissions& to, uint32_t wanted) {
  const Credentials& who = task.credentials;
  uint32_t granted = to.mode & 7;
  if (who.euid == to.uid || who.euid == to.cuid)
    granted = to.mode >> 6 & 7;
  else if (who.in_group(to.gid) || who.in_group(to.cgid))
    granted = to.mode >> 3 & 7;
  return (wanted & ~granted) == 0 || who.can_in(kCapIpcOwner, task.sysv().user.get());
}

bool owns(const Task& task, const IpcPermissions& object) {
  return task.credentials.euid == object.uid || task.credentials.euid == object.cuid ||
         task.credentials.can_in(kCapSysAdmin, task.sysv().user.get());
}

/// As the caller's user namespace has its owners.
IpcPermissions shown(const Task& task, IpcPermissions of) {
  const Credentials& who = task.credentials;
  of.uid = who.shown_uid(of.uid);
  of.gid = who.shown_gid(of.gid);
  of.cuid = who.shown_uid(of.cuid);
  of.cgid = who.shown_gid(of.cgid);
  return of;
}

/// The ...get calls: the object of a key, or a new one that `make` fills.
template <class Object, class Fits, class Make>
ErrnoOr<int> find_or_make(Task& task, IpcTable<Object>& table, int32_t key, int flags, Fits fits,
                          Make make) {
  if (key != 0) {
    for (const auto& [id, object] : table.by_id) {
      if (object->permissions.key != key || object->removed) continue;
      if ((flags & kCreate) != 0 && (flags & kExclusive) != 0) return Errno(EEXIST);
      GUEST_TRY(fits(*object));
      const auto wanted = static_cast<uint32_t>((flags >> 6 | flags >> 3 | flags) & 7);
      if (!may(task, object->permissions, wanted)) return Errno(EACCES);
      return id;
    }
    if ((flags & kCreate) == 0) return Errno(ENOENT);
  }
  if (table.by_id.size() >= kMostObjects) return Errno(ENOSPC);
  auto object = std::make_shared<Object>();
  GUEST_TRY(make(*object));
  IpcPermissions& permissions = object->permissions;
  permissions.key = key;
  permissions.uid = permissions.cuid = task.credentials.euid;
  permissions.gid = permissions.cgid = task.credentials.egid;
  permissions.mode = static_cast<uint32_t>(flags) & 0777;
  object->changed_s = now_s();
  const int id = table.next;
  table.next = table.next == std::numeric_limits<int>::max() ? 0 : table.next + 1;
  table.by_id[id] = std::move(object);
  return id;
}

template <class Object>
ErrnoOr<std::shared_ptr<Object>> find(IpcTable<Object>& table, int id) {
  const auto found = table.by_id.find(id);
  if (id < 0 || found == table.by_id.end()) return Errno(EINVAL);
  return found->second;
}

/// IPC_SET's part that all three have; `given` came from the program.
Errno set_owner(Task& task, IpcObject& object, const IpcPermissions& given) {
  if (!owns(task, object.permissions)) return Errno(EPERM);
  const uint32_t uid = task.kernel_uid(given.uid);
  const uint32_t gid = task.kernel_gid(given.gid);
  if (uid == kNoId || gid == kNoId) return Errno(EINVAL);
  object.permissions.uid = uid;
  object.permissions.gid = gid;
  object.permissions.mode = (object.permissions.mode & ~0777U) | (given.mode & 0777);
  object.changed_s = now_s();
  return kOk;
}

// Shared memory.

class SegmentFile final : public File {
 public:
  SegmentFile(std::unique_ptr<ChargedMemory> memory, int32_t key)
      : File(nullptr, make_anonymous_inode(0100600, 0), O_RDWR),
        memory_(std::move(memory)),
        key_(key) {}
  ErrnoOr<int> host_descriptor() override { return memory_->map(); }
  // What was attached to be read alone (SHM_RDONLY) stays so.
  ErrnoOr<SharedUse> map_shared(bool writes) override { return SharedUse{writes, nullptr}; }
  std::string describe() const override {
    char name[32];
    std::snprintf(name, sizeof name, "/SYSV%08x (deleted)", static_cast<uint32_t>(key_));
    return name;
  }

 private:
  std::unique_ptr<ChargedMemory> memory_;
  int32_t key_;
};

struct SegmentInfo {  // struct shmid64_ds
  IpcPermissions permissions;
  uint64_t size = 0;
  int64_t attached_s = 0, detached_s = 0, changed_s = 0;
  int32_t creator = 0, last = 0;
  uint64_t attachments = 0;
  uint64_t unused[2] = {};
};
static_assert(sizeof(SegmentInfo) == 112);

FilePtr memory_of(const SharedSegment& segment) {
  return segment.memory ? segment.memory : segment.mapped.lock();
}

/// How often it is mapped in the whole sandbox.
uint64_t attachments(Task& task, const FilePtr& memory) {
  std::vector<std::shared_ptr<Mm>> spaces;
  {
    std::lock_guard lock(task.kernel.lock);
    for (const auto& [id, other] : task.kernel.tasks)
      if (other->mm && std::find(spaces.begin(), spaces.end(), other->mm) == spaces.end())
        spaces.push_back(other->mm);
  }
  uint64_t count = 0;
  for (const std::shared_ptr<Mm>& space : spaces)
    for (const auto& [start, area] : space->areas())
      if (area.file == memory && area.offset == 0) ++count;
  return count;
}

}  // namespace

ErrnoOr<uint64_t> sys_shmget(Task& task, Arguments a) {
  SysV& ipc = task.sysv();
  const int32_t key = as_int(a[0]);
  const uint64_t size = a[1];
  std::lock_guard lock(ipc.lock);
  const int id = GUEST_TRY(find_or_make(
      task, ipc.segments, key, as_int(a[2]),
      [&](const SharedSegment& segment) { return size > segment.size ? Errno(EINVAL) : kOk; },
      [&](SharedSegment& segment) -> Errno {
        if (size == 0 || size > kGuestTop) return Errno(EINVAL);
        segment.size = size;
        const uint64_t pages = (size + kPageSize - 1) & ~(kPageSize - 1);
        std::unique_ptr<ChargedMemory> memory =
            GUEST_TRY(ChargedMemory::create("guest-sysv", task.memory_charge()));
        GUEST_TRY(memory->truncate(static_cast<int64_t>(pages)));
        // All of it is charged now: who attaches it later is not refused.
        GUEST_TRY(memory->map());
        segment.memory = std::make_shared<SegmentFile>(std::move(memory), key);
        segment.mapped = segment.memory;
        segment.creator = task.process->pid;
        return kOk;
      }));
  return static_cast<uint64_t>(id);
}

ErrnoOr<uint64_t> sys_shmat(Task& task, Arguments a) {
  constexpr int kReadOnly = 010000, kRound = 020000, kRemap = 040000, kExecute = 0100000;
  const int flags = as_int(a[2]);
  SysV& ipc = task.sysv();
  FilePtr memory;
  uint64_t size = 0;
  std::shared_ptr<SharedSegment> segment;
  {
    std::lock_guard lock(ipc.lock);
    segment = GUEST_TRY(find(ipc.segments, as_int(a[0])));
    memory = memory_of(*segment);
    if (!memory) return Errno(EINVAL);
    const uint32_t wanted = (flags & kReadOnly) != 0 ? kRead : kRead | kWrite;
    if (!may(task, segment->permissions, wanted)) return Errno(EACCES);
    size = segment->size;
  }
  uint64_t address = a[1];
  if (address % kPageSize != 0) {
    if ((flags & kRound) == 0) return Errno(EINVAL);
    address &= ~(kPageSize - 1);
  }
  if (address == 0 && (flags & kRemap) != 0) return Errno(EINVAL);
  int protection = PROT_READ;
  if ((flags & kReadOnly) == 0) protection |= PROT_WRITE;
  if ((flags & kExecute) != 0) protection |= PROT_EXEC;
  int how = MAP_SHARED;
  if (address != 0) how |= (flags & kRemap) != 0 ? MAP_FIXED : MAP_FIXED_NOREPLACE;
  ErrnoOr<uint64_t> mapped = task.mm->map(address, size, protection, how, memory, 0);
  if (!mapped.ok()) return mapped.error().value() == EEXIST ? Errno(EINVAL) : mapped.error();
  std::lock_guard lock(ipc.lock);
  segment->attached_s = now_s();
  segment->last = task.process->pid;
  return mapped.value();
}

ErrnoOr<uint64_t> sys_shmdt(Task& task, Arguments a) {
  const uint64_t address = a[0];
  const std::map<uint64_t, Mm::Area> areas = task.mm->areas();
  const auto first = areas.find(address);
  if (first == areas.end() || first->second.offset != 0 ||
      dynamic_cast<const SegmentFile*>(first->second.file.get()) == nullptr)
    return Errno(EINVAL);
  for (auto at = first; at != areas.end(); ++at)
    if (at->second.file == first->second.file && at->first - at->second.offset == address)
      GUEST_TRY(task.mm->unmap(at->first, at->second.end - at->first));
  SysV& ipc = task.sysv();
  std::lock_guard lock(ipc.lock);
  for (auto& [id, segment] : ipc.segments.by_id) {
    if (memory_of(*segment) != first->second.file) continue;
    segment->detached_s = now_s();
    segment->last = task.process->pid;
  }
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_shmctl(Task& task, Arguments a) {
  constexpr int kInfo = 3, kLock = 11, kUnlock = 12, kStatIndex = 13, kStatAny = 15;
  const int id = as_int(a[0]);
  const int command = as_int(a[1]);
  SysV& ipc = task.sysv();
  if (id < 0 || command < 0) return Errno(EINVAL);
  switch (command) {
    case kInfo: {
      struct {
        uint64_t most = ~uint64_t{0} - (1 << 24), least = 1, segments = kMostObjects,
                 per_process = kMostObjects, pages = ~uint64_t{0} - (1 << 24), unused[4] = {};
      } limits;
      GUEST_TRY(task.put(a[2], limits));
      std::lock_guard lock(ipc.lock);
      return static_cast<uint64_t>(ipc.segments.by_id.empty() ? 0
                                                              : ipc.segments.by_id.rbegin()->first);
    }
    case kStat:
    case kStatIndex:
    case kStatAny: {
      SegmentInfo info;
      FilePtr memory;
      {
        std::lock_guard lock(ipc.lock);
        const std::shared_ptr<SharedSegment> segment = GUEST_TRY(find(ipc.segments, id));
        memory = memory_of(*segment);
        if (!memory) return Errno(EINVAL);
        if (command != kStatAny && !may(task, segment->permissions, kRead)) return Errno(EACCES);
        info.permissions = shown(task, segment->permissions);
        if (segment->removed) info.permissions.mode |= 01000;  // SHM_DEST
        info.size = segment->size;
        info.attached_s = segment->attached_s;
        info.detached_s = segment->detached_s;
        info.changed_s = segment->changed_s;
        info.creator = task.shown(segment->creator);
        info.last = task.shown(segment->last);
      }
      info.attachments = attachments(task, memory);
      GUEST_TRY(task.put(a[2], info));
      return static_cast<uint64_t>(command == kStat ? 0 : id);
    }
    case kSet: {
      const SegmentInfo given = GUEST_TRY(task.get<SegmentInfo>(a[2]));
      std::lock_guard lock(ipc.lock);
      const std::shared_ptr<SharedSegment> segment = GUEST_TRY(find(ipc.segments, id));
      GUEST_TRY(set_owner(task, *segment, given.permissions));
      return uint64_t{0};
    }
    case kRemove: {
      FilePtr last;
      std::lock_guard lock(ipc.lock);
      const std::shared_ptr<SharedSegment> segment = GUEST_TRY(find(ipc.segments, id));
      if (!owns(task, segment->permissions)) return Errno(EPERM);
      segment->removed = true;
      segment->permissions.key = 0;
      last = std::move(segment->memory);
      // Those that nothing maps any more go with the next that is removed.
      last.reset();
      std::erase_if(ipc.segments.by_id,
                    [](const auto& entry) { return !memory_of(*entry.second); });
      return uint64_t{0};
    }
    case kLock:
    case kUnlock: {
      std::lock_guard lock(ipc.lock);
      const std::shared_ptr<SharedSegment> segment = GUEST_TRY(find(ipc.segments, id));
      if (!owns(task, segment->permissions) &&
          !task.credentials.can_in(kCapIpcLock, ipc.user.get()))
        return Errno(EPERM);
      return uint64_t{0};
    }
    default:
      return Errno(EINVAL);
  }
}

// Semaphores.
namespace {

constexpr int32_t kHighestValue = 32767;

struct Operation {  // struct sembuf
  uint16_t number = 0;
  int16_t change = 0;
  int16_t flags = 0;
};
constexpr int16_t kUndoFlag = 010000;

struct SetInfo {  // struct semid64_ds
  IpcPermissions permissions;
  int64_t operated_s = 0;
  uint64_t unused1 = 0;
  int64_t changed_s = 0;
  uint64_t unused2 = 0;
  uint64_t count = 0;
  uint64_t unused[2] = {};
};
static_assert(sizeof(SetInfo) == 104);

/// All of them or none: kOk; EAGAIN with the one that has to wait; ERANGE.
Errno attempt(SemaphoreSet& set, std::span<const Operation> operations, size_t& stuck) {
  std::vector<int32_t> values(set.semaphores.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = set.semaphores[i].value;
  for (size_t i = 0; i < operations.size(); ++i) {
    const Operation& operation = operations[i];
    int32_t& value = values[operation.number];
    stuck = i;
    if (operation.change == 0 ? value != 0 : value + operation.change < 0) return Errno(EAGAIN);
    value += operation.change;
    if (value > kHighestValue) return Errno(ERANGE);
  }
  for (size_t i = 0; i < values.size(); ++i) set.semaphores[i].value = values[i];
  return kOk;
}

ErrnoOr<uint64_t> operate(Task& task, int id, uint64_t address, uint64_t count,
                          const Deadline& deadline) {
  constexpr uint64_t kMostOperations = 500;
  if (count == 0 || id < 0) return Errno(EINVAL);
  if (count > kMostOperations) return Errno(E2BIG);
  std::vector<Operation> operations(count);
  GUEST_TRY(task.copy_in(address, std::as_writable_bytes(std::span(operations))));
  SysV& ipc = task.sysv();
  std::shared_ptr<SemaphoreSet> set;
  {
    std::lock_guard lock(ipc.lock);
    set = GUEST_TRY(find(ipc.sets, id));
    bool alters = false;
    for (const Operation& operation : operations) {
      if (operation.number >= set->semaphores.size()) return Errno(EFBIG);
      alters = alters || operation.change != 0;
    }
    if (!may(task, set->permissions, alters ? kWrite : kRead)) return Errno(EACCES);
  }
  Errno outcome;
  SemaphoreSet::Semaphore* counted = nullptr;
  bool for_zero = false;
  const auto uncount = [&] {
    if (counted != nullptr) --(for_zero ? counted->waiting_for_zero : counted->waiting_for_more);
    counted = nullptr;
  };
  const Errno waited = wait_until(set->changed, task.sleeper, deadline, [&] {
    std::lock_guard lock(ipc.lock);
    uncount();
    if (set->removed) {
      outcome = Errno(EIDRM);
      return true;
    }
    size_t stuck = 0;
    outcome = attempt(*set, operations, stuck);
    if (outcome.value() == EAGAIN && (operations[stuck].flags & kNoWait) == 0) {
      counted = &set->semaphores[operations[stuck].number];
      for_zero = operations[stuck].change == 0;
      ++(for_zero ? counted->waiting_for_zero : counted->waiting_for_more);
      return false;
    }
    return true;
  });
  {
    std::lock_guard lock(ipc.lock);
    uncount();
  }
  // A wait for a semaphore is never made again by itself (signal(7)).
  if (!waited.ok()) return Errno(waited.value() == ETIMEDOUT ? EAGAIN : EINTR);
  GUEST_TRY(outcome);
  {
    std::lock_guard lock(task.kernel.lock);
    task.process->undo_in = task.ipc;
    for (const Operation& operation : operations)
      if ((operation.flags & kUndoFlag) != 0 && operation.change != 0)
        task.process->semaphore_undo[{id, operation.number}] -= operation.change;
  }
  std::lock_guard lock(ipc.lock);
  for (const Operation& operation : operations)
    set->semaphores[operation.number].pid = task.process->pid;
  set->operated_s = now_s();
  set->changed.wake_all();
  return uint64_t{0};
}

}  // namespace

ErrnoOr<uint64_t> sys_semget(Task& task, Arguments a) {
  constexpr int kMostInASet = 32000;
  const int count = as_int(a[1]);
  if (count < 0 || count > kMostInASet) return Errno(EINVAL);
  SysV& ipc = task.sysv();
  std::lock_guard lock(ipc.lock);
  const int id = GUEST_TRY(find_or_make(
      task, ipc.sets, as_int(a[0]), as_int(a[2]),
      [&](const SemaphoreSet& set) {
        return static_cast<size_t>(count) > set.semaphores.size() ? Errno(EINVAL) : kOk;
      },
      [&](SemaphoreSet& set) -> Errno {
        if (count == 0) return Errno(EINVAL);
        size_t have = static_cast<size_t>(count);
        for (const auto& entry : ipc.sets.by_id) have += entry.second->semaphores.size();
        if (have > kMostSemaphores) return Errno(ENOSPC);
        set.semaphores.resize(static_cast<size_t>(count));
        return kOk;
      }));
  return static_cast<uint64_t>(id);
}

ErrnoOr<uint64_t> sys_semop(Task& task, Arguments a) {
  return operate(task, as_int(a[0]), a[1], static_cast<uint32_t>(a[2]), {});
}

ErrnoOr<uint64_t> sys_semtimedop(Task& task, Arguments a) {
  Deadline deadline;
  if (a[3] != 0) {
    const GuestTime time = GUEST_TRY(get_time(task, a[3]));
    deadline = after_ns(in_ns(time));
  }
  return operate(task, as_int(a[0]), a[1], static_cast<uint32_t>(a[2]), deadline);
}

ErrnoOr<uint64_t> sys_semctl(Task& task, Arguments a) {
  constexpr int kGetPid = 11, kGetValue = 12, kGetAll = 13, kGetMore = 14, kGetZero = 15,
                kSetValue = 16, kSetAll = 17;
  const int id = as_int(a[0]);
  const int command = as_int(a[2]);
  SysV& ipc = task.sysv();
  if (id < 0) return Errno(EINVAL);
  // What comes from memory is read before the lock, what goes there written behind it.
  SetInfo info;
  std::vector<uint16_t> all;
  size_t count = 0;
  if (command == kSet) info = GUEST_TRY(task.get<SetInfo>(a[3]));
  if (command == kSetAll) {
    {
      std::lock_guard lock(ipc.lock);
      const std::shared_ptr<SemaphoreSet> set = GUEST_TRY(find(ipc.sets, id));
      count = set->semaphores.size();
    }
    all.resize(count);
    GUEST_TRY(task.copy_in(a[3], std::as_writable_bytes(std::span(all))));
    for (const uint16_t value : all)
      if (value > kHighestValue) return Errno(ERANGE);
  }
  {
    std::lock_guard lock(ipc.lock);
    const std::shared_ptr<SemaphoreSet> set = GUEST_TRY(find(ipc.sets, id));
    const auto number = static_cast<uint32_t>(a[1]);
    const bool of_one = command == kGetPid || command == kGetValue || command == kGetMore ||
                        command == kGetZero || command == kSetValue;
    if (of_one && number >= set->semaphores.size()) return Errno(EINVAL);
    const bool writes = command == kSetValue || command == kSetAll;
    if ((of_one || command == kGetAll || command == kSetAll || command == kStat) &&
        !may(task, set->permissions, writes ? kWrite : kRead))
      return Errno(EACCES);
    switch (command) {
      case kGetPid:
        return static_cast<uint64_t>(task.shown(set->semaphores[number].pid));
      case kGetValue:
        return static_cast<uint64_t>(set->semaphores[number].value);
      case kGetMore:
        return static_cast<uint64_t>(set->semaphores[number].waiting_for_more);
      case kGetZero:
        return static_cast<uint64_t>(set->semaphores[number].waiting_for_zero);
      case kSetValue: {
        const int value = as_int(a[3]);
        if (value < 0 || value > kHighestValue) return Errno(ERANGE);
        set->semaphores[number].value = value;
        set->semaphores[number].pid = task.process->pid;
        set->changed_s = now_s();
        set->changed.wake_all();
        return uint64_t{0};
      }
      case kSetAll:
        for (size_t i = 0; i < std::min(all.size(), set->semaphores.size()); ++i) {
          set->semaphores[i].value = all[i];
          set->semaphores[i].pid = task.process->pid;
        }
        set->changed_s = now_s();
        set->changed.wake_all();
        return uint64_t{0};
      case kGetAll:
        for (const SemaphoreSet::Semaphore& each : set->semaphores)
          all.push_back(static_cast<uint16_t>(each.value));
        break;
      case kStat:
        info.permissions = shown(task, set->permissions);
        info.operated_s = set->operated_s;
        info.changed_s = set->changed_s;
        info.count = set->semaphores.size();
        break;
      case kSet:
        GUEST_TRY(set_owner(task, *set, info.permissions));
        return uint64_t{0};
      case kRemove:
        if (!owns(task, set->permissions)) return Errno(EPERM);
        set->removed = true;
        ipc.sets.by_id.erase(id);
        set->changed.wake_all();
        return uint64_t{0};
      default:
        return Errno(EINVAL);
    }
  }
  if (command == kStat)
    GUEST_TRY(task.put(a[3], info));
  else
    GUEST_TRY(task.copy_out(a[3], std::as_bytes(std::span(all))));
  return uint64_t{0};
}

// Messages.
namespace {

constexpr uint64_t kMostInAMessage = 8192;

struct QueueInfo {  // struct msqid64_ds
  IpcPermissions permissions;
  int64_t sent_s = 0, received_s = 0, changed_s = 0;
  uint64_t bytes = 0, messages = 0, most_bytes = 0;
  int32_t last_sender = 0, last_receiver = 0;
  uint64_t unused[2] = {};
};
static_assert(sizeof(QueueInfo) == 120);

}  // namespace

ErrnoOr<uint64_t> sys_msgget(Task& task, Arguments a) {
  SysV& ipc = task.sysv();
  std::lock_guard lock(ipc.lock);
  const int id = GUEST_TRY(find_or_make(
      task, ipc.queues, as_int(a[0]), as_int(a[1]), [](const MessageQueue&) { return kOk; },
      [](MessageQueue&) { return kOk; }));
  return static_cast<uint64_t>(id);
}

ErrnoOr<uint64_t> sys_msgsnd(Task& task, Arguments a) {
  if (a[2] > kMostInAMessage || as_int(a[0]) < 0) return Errno(EINVAL);
  MessageQueue::Message message;
  message.type = GUEST_TRY(task.get<int64_t>(a[1]));
  if (message.type < 1) return Errno(EINVAL);
  message.text.resize(a[2]);
  GUEST_TRY(task.copy_in(a[1] + 8, message.text));
  SysV& ipc = task.sysv();
  std::shared_ptr<MessageQueue> queue;
  {
    std::lock_guard lock(ipc.lock);
    queue = GUEST_TRY(find(ipc.queues, as_int(a[0])));
    if (!may(task, queue->permissions, kWrite)) return Errno(EACCES);
  }
  Errno outcome;
  GUEST_TRY(wait_until(queue->changed, task.sleeper, {}, [&] {
    std::lock_guard lock(ipc.lock);
    if (queue->removed) {
      outcome = Errno(EIDRM);
      return true;
    }
    const bool fits = queue->bytes + message.text.size() <= queue->most_bytes &&
                      queue->messages.size() + 1 <= queue->most_bytes;
    if (!fits) {
      outcome = Errno(EAGAIN);
      return (as_int(a[3]) & kNoWait) != 0;
    }
    outcome = kOk;
    queue->bytes += message.text.size();
    queue->messages.push_back(std::move(message));
    queue->sent_s = now_s();
    queue->last_sender = task.process->pid;
    return true;
  }));
  GUEST_TRY(outcome);
  queue->changed.wake_all();
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_msgrcv(Task& task, Arguments a) {
  constexpr int kTruncate = 010000, kExcept = 020000, kCopy = 040000;
  const auto type = static_cast<int64_t>(a[3]);
  const int flags = as_int(a[4]);
  const uint64_t room = a[2];
  if (room > INT64_MAX || as_int(a[0]) < 0) return Errno(EINVAL);
  if ((flags & kCopy) != 0) return Errno(ENOSYS);
  SysV& ipc = task.sysv();
  std::shared_ptr<MessageQueue> queue;
  {
    std::lock_guard lock(ipc.lock);
    queue = GUEST_TRY(find(ipc.queues, as_int(a[0])));
    if (!may(task, queue->permissions, kRead)) return Errno(EACCES);
  }
  Errno outcome;
  MessageQueue::Message message;
  GUEST_TRY(wait_until(queue->changed, task.sleeper, {}, [&] {
    std::lock_guard lock(ipc.lock);
    if (queue->removed) {
      outcome = Errno(EIDRM);
      return true;
    }
    auto& all = queue->messages;
    auto found = all.end();
    for (auto at = all.begin(); at != all.end(); ++at) {
      const bool meant = type == 0  ? true
                         : type > 0 ? ((flags & kExcept) != 0) != (at->type == type)
                                    : at->type <= -std::max(type, -INT64_MAX) &&
                                          (found == all.end() || at->type < found->type);
      if (!meant) continue;
      found = at;
      if (type >= 0) break;
    }
    if (found == all.end()) {
      outcome = Errno(ENOMSG);
      return (flags & kNoWait) != 0;
    }
    if (found->text.size() > room && (flags & kTruncate) == 0) {
      outcome = Errno(E2BIG);
      return true;
    }
    outcome = kOk;
    queue->bytes -= found->text.size();
    message = std::move(*found);
    all.erase(found);
    queue->received_s = now_s();
    queue->last_receiver = task.process->pid;
    return true;
  }));
  GUEST_TRY(outcome);
  queue->changed.wake_all();
  const size_t length = std::min<size_t>(message.text.size(), room);
  GUEST_TRY(task.put(a[1], message.type));
  GUEST_TRY(task.copy_out(a[1] + 8, std::span(message.text).first(length)));
  return uint64_t{length};
}

ErrnoOr<uint64_t> sys_msgctl(Task& task, Arguments a) {
  const int id = as_int(a[0]);
  const int command = as_int(a[1]);
  SysV& ipc = task.sysv();
  if (id < 0) return Errno(EINVAL);
  QueueInfo info;
  if (command == kSet) info = GUEST_TRY(task.get<QueueInfo>(a[2]));
  {
    std::lock_guard lock(ipc.lock);
    const std::shared_ptr<MessageQueue> queue = GUEST_TRY(find(ipc.queues, id));
    switch (command) {
      case kStat:
        if (!may(task, queue->permissions, kRead)) return Errno(EACCES);
        info.permissions = shown(task, queue->permissions);
        info.sent_s = queue->sent_s;
        info.received_s = queue->received_s;
        info.changed_s = queue->changed_s;
        info.bytes = queue->bytes;
        info.messages = queue->messages.size();
        info.most_bytes = queue->most_bytes;
        info.last_sender = task.shown(queue->last_sender);
        info.last_receiver = task.shown(queue->last_receiver);
        break;
      case kSet: {
        constexpr uint64_t kMost = 16384;
        if (info.most_bytes > kMost && !task.credentials.can(kCapSysResource)) return Errno(EPERM);
        GUEST_TRY(set_owner(task, *queue, info.permissions));
        // However great the privilege, what a sandbox's kernel keeps has an end.
        queue->most_bytes = std::min(info.most_bytes, kMost * 4);
        queue->changed.wake_all();
        return uint64_t{0};
      }
      case kRemove:
        if (!owns(task, queue->permissions)) return Errno(EPERM);
        queue->removed = true;
        ipc.queues.by_id.erase(id);
        queue->changed.wake_all();
        return uint64_t{0};
      default:
        return Errno(EINVAL);
    }
  }
  GUEST_TRY(task.put(a[2], info));
  return uint64_t{0};
}

}  // namespace fluyt::guest
