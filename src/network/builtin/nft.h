#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct nft_ctx;

namespace fluyt::network {

/// libnftables, in the network namespace of the thread that calls first. One call at a time.
class Nft {
 public:
  Nft();
  ~Nft();
  Nft(const Nft&) = delete;
  Nft& operator=(const Nft&) = delete;

  /// Carries out commands of nft(8), all of them or none, and gives what they print, as JSON.
  /// Errors quote what the library said.
  Result<std::string> run(std::string_view commands);

 private:
  struct Free {
    void operator()(nft_ctx* context) const;
  };
  // Kept, not for the making of it: the kernel lets nobody close the socket before what was deleted
  // is free, and that takes it ten milliseconds.
  std::unique_ptr<nft_ctx, Free> context_;
};

}  // namespace fluyt::network
