#pragma once

#include <future>
#include <map>
#include <string>

#include "base/guarded.h"
#include "base/result.h"

namespace fluyt::engine {

/// Who has which name. A second claim of a name joins the verb that is making the first; once that
/// has ended well the name is taken until it is released. Thread-safe.
template <class Name>
class Names {
 public:
  using Outcome = std::shared_future<Result<std::string>>;
  struct Claim {
    enum class Kind { kMine, kUnderWay, kTaken } kind;
    std::string holder;  // id of the object that has or will have the name
    Outcome outcome;     // with kUnderWay: what the first claimer will get
  };

  Claim claim(const Name& name, const std::string& id) {
    auto table = table_.lock();
    const auto [place, inserted] = table->try_emplace(name);
    Entry& entry = place->second;
    if (inserted) {
      entry.holder = id;
      entry.outcome = entry.promise.get_future().share();
      return {Claim::Kind::kMine, id, {}};
    }
    if (entry.settled) return {Claim::Kind::kTaken, entry.holder, {}};
    return {Claim::Kind::kUnderWay, entry.holder, entry.outcome};
  }

  /// How the verb that claimed `name` ended: everybody who joined gets the same. With `keep` the
  /// name stays taken, unless its object has been released meanwhile: it is visible, and may be
  /// removed, a moment before its verb ends.
  enum class Keep { kYes, kNo };
  void settle(const Name& name, const Result<std::string>& outcome, Keep keep) {
    auto table = table_.lock();
    const auto found = table->find(name);
    if (found == table->end()) return;
    found->second.promise.set_value(outcome);
    found->second.settled = true;
    if (keep == Keep::kNo || found->second.released) table->erase(found);
  }

  /// For an object that was loaded. The first one wins.
  void hold(const Name& name, const std::string& id) {
    auto table = table_.lock();
    const auto [place, inserted] = table->try_emplace(name);
    if (!inserted) return;
    place->second.holder = id;
    place->second.settled = true;
  }

  void release(const Name& name, const std::string& id) {
    auto table = table_.lock();
    const auto found = table->find(name);
    if (found == table->end() || found->second.holder != id) return;
    found->second.released = true;
    if (found->second.settled) table->erase(found);
  }

 private:
  struct Entry {
    std::string holder;
    bool settled = false;
    bool released = false;  // before it was settled
    std::promise<Result<std::string>> promise;
    Outcome outcome;
  };
  Guarded<std::map<Name, Entry>> table_;
};

}  // namespace fluyt::engine
