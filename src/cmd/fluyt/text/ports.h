#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fluyt::cli {

struct PublishedPort {
  std::string host_ip;  // empty: every address
  uint16_t host_port = 0;
  uint16_t container_port = 0;
  std::string protocol;
};
/// "8080->80/tcp, 127.0.0.1:53->53/udp, [::1]:443->443/tcp".
std::string ports_text(const std::vector<PublishedPort>& ports);

}  // namespace fluyt::cli
