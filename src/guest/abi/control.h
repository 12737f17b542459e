#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace fluyt::guest {

/// A control message of sendmsg(2) and recvmsg(2), without its header.
struct ControlMessage {
  int level = 0;
  int type = 0;
  std::vector<std::byte> data;

  template <class T>
  static ControlMessage of(int level, int type, const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    return {level, type, {bytes.begin(), bytes.end()}};
  }
};

}  // namespace fluyt::guest
