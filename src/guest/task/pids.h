#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "guest/abi/errno.h"
#include "guest/vfs/user_space.h"

namespace fluyt::guest {

/// pid_namespaces(7). The kernel numbers all its tasks in one row, its *ids*, which the first
/// namespace shows as they are. Every other one has *numbers* of its own for the tasks that were
/// born in it or below it. The fields are under Kernel::lock; the numbers may be asked for
/// anywhere.
class PidSpace {
 public:
  static constexpr int kDeepest = 32;  // MAX_PID_NS_LEVEL
  PidSpace(std::shared_ptr<PidSpace> within, uint64_t number_shown, UserSpacePtr of = {})
      : above(std::move(within)),
        depth(above ? above->depth + 1 : 0),
        inode_number(number_shown),
        user(std::move(of)) {}
  PidSpace(const PidSpace&) = delete;
  PidSpace& operator=(const PidSpace&) = delete;

  const std::shared_ptr<PidSpace> above;  // null: this is the first
  const int depth;
  const uint64_t inode_number;  // as /proc shows it
  const UserSpacePtr user;      // the user namespace that it belongs to; null: the first
  int32_t init = 0;             // the id of its process 1; 0: nobody was born in it yet
  bool has_ended = false;       // with its init: nobody is born in it any more
  /// Its process 1 is deaf to what it has no handler for. Not where the namespace stands for one
  /// that others have made.
  bool init_is_spared = true;

  /// The number of an id; 0 where the task is not of this namespace.
  int32_t number_of(int32_t id) const;
  /// The id of a number; 0: nobody has it. Of the first namespace's every id might be one.
  int32_t id_of(int32_t number) const;
  /// Whether it is `other` or lies somewhere below it.
  bool is_within(const PidSpace& other) const;

  /// Gives a task that is to be born its number here. EAGAIN: there is none left.
  ErrnoOr<int32_t> admit(int32_t id);
  void forget(int32_t id);

 private:
  mutable std::mutex mutex_;  // nothing is taken behind it
  std::map<int32_t, int32_t> by_id_;
  std::map<int32_t, int32_t> by_number_;
  int32_t last_ = 0;
};
using PidSpacePtr = std::shared_ptr<PidSpace>;

}  // namespace fluyt::guest
