#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// Network devices by rtnetlink(7), as far as moving one to another network namespace needs.
namespace fluyt::sys {

struct Link {
  int index = 0;
  std::string name;
  bool up = false;
};

struct LinkAddress {
  uint8_t family = 0;  // AF_INET, AF_INET6
  uint8_t prefix_length = 0;
  uint8_t scope = 0;      // RT_SCOPE_*
  uint32_t flags = 0;     // IFA_F_*
  std::string address;    // bytes; of the peer on a point-to-point device
  std::string local;      // bytes; empty where the family has none
  std::string broadcast;  // bytes; may be empty
  bool operator==(const LinkAddress&) const = default;
};

/// One socket in one network namespace, for one thread. Every request waits for the kernel's
/// answer; errors carry what the kernel said.
class Netlink {
 public:
  /// In our own network namespace.
  static Result<Netlink> open();
  /// In another one. The thread is there for a moment: single-threaded programs only.
  static Result<Netlink> open_in(FdRef network);

  Result<std::vector<Link>> links();
  /// Nothing when there is no such device.
  Result<std::optional<Link>> find_link(const std::string& name);
  Result<std::vector<LinkAddress>> addresses(int index);
  Result<> add_address(int index, const LinkAddress& address);
  /// The device goes to `network` and is called `name` there; `%d` in it becomes a free number.
  Result<> move_link(int index, FdRef network, const std::string& name);
  Result<> set_up(int index);

 private:
  explicit Netlink(Fd socket) : socket_(std::move(socket)) {}
  struct Request;
  struct Answer;
  Result<std::vector<Answer>> ask(Request& request, const std::string& what);
  Fd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace fluyt::sys
