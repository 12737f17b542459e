#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace fluyt::runtime {

/// What was done to the host so far: undone in reverse at the end of its life, unless kept.
class Undo {
 public:
  Undo() = default;
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() { now(); }
  void now() {
    for (auto action = actions_.rbegin(); action != actions_.rend(); ++action) (*action)();
    actions_.clear();
  }
  void add(std::function<void()> action) { actions_.push_back(std::move(action)); }
  void keep() { actions_.clear(); }

 private:
  std::vector<std::function<void()>> actions_;
};

}  // namespace fluyt::runtime
