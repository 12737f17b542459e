#include "cmd/fluyt/text/ports.h"

#include "base/strings.h"

namespace fluyt::cli {

std::string ports_text(const std::vector<PublishedPort>& ports) {
  std::string out;
  for (const PublishedPort& port : ports) {
    std::string address = port.host_ip;
    if (address.find(':') != std::string::npos) address = cat("[", address, "]");
    out += cat(out.empty() ? "" : ", ", address, address.empty() ? "" : ":", port.host_port, "->",
               port.container_port, "/", port.protocol);
  }
  return out;
}

}  // namespace fluyt::cli
