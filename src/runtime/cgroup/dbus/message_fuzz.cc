// Whatever the other end sends is refused or understood, and what is understood can be said again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "runtime/cgroup/dbus/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fluyt::dbus;
  std::string buffer(reinterpret_cast<const char*>(data), size);
  while (true) {
    auto message = take_message(buffer);
    if (!message.ok() || !*message) break;
    std::string again = encode(**message);
    auto second = take_message(again);
    if (!second.ok() || !*second || **second != **message || !again.empty()) abort();
  }
  return 0;
}
