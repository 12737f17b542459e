#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/builtin/nft.h"
#include "network/builtin/rules.h"

namespace fluyt::network {

/// The kernel's side of rules.h, in one network namespace: of the thread that calls first.
/// Thread-safe.
class Firewall {
 public:
  /// In one transaction. What an earlier owner of `addresses` left behind is replaced: an address
  /// belongs to one sandbox. kAlreadyExists when another sandbox has a host port, which it names.
  Result<> add(const Rules& rules, const std::vector<Address>& addresses);
  /// The owner's elements of the maps whose names start with one of `maps`.
  Result<std::vector<Element>> find(const std::string& owner,
                                    const std::vector<std::string_view>& maps);
  /// Removes those in one transaction, and the table with the last element. None is success.
  Result<> remove(const std::string& owner, const std::vector<std::string_view>& maps);

  /// Removes what is about addresses that `is_in` holds for and belongs to none of `valid`, or
  /// tells `leftovers` of it.
  Result<> collect(const std::set<std::string>& valid,
                   const std::function<bool(const Address&)>& is_in,
                   std::vector<std::string>* leftovers);

  /// Of foreign_rules.h.
  Result<std::string> find_foreign_drop();

 private:
  Result<std::vector<Element>> list();
  Result<> remove_some(const std::function<bool(const Element&)>& which);

  std::mutex mutex_;  // from looking to acting
  Nft nft_;
  bool has_sent_table_ = false;
};

/// How a sandbox's elements are marked. Errors name the id when it is too long for that.
Result<std::string> owner_name(const std::string& container_id, const std::string& device);

}  // namespace fluyt::network
