#pragma once

#include <cstdint>
#include <string>

#include "image/auth/credential_table.h"
#include "image/registry/proxy.h"

namespace fluyt::image::registry {

struct HttpTimeouts {
  /// Name, TCP and TLS. Well above what glibc waits for a name server that is down before it asks
  /// the next, which is 5 s (resolv.conf(5)); containerd's dialer has as long.
  int64_t connect_ms = 30'000;
  int64_t first_byte_ms = 30'000;  // from connected to the first byte of the answer
  int64_t stall_ms = 30'000;       // no stretch of this length may be slower than:
  uint64_t stall_bytes_per_second = 1024;
  /// A server that would need longer than this for the rest of a blob gives way to the next, if
  /// there is one.
  int64_t slow_blob_ms = 3'600'000;
};

/// When a request that failed is tried again (distribution-spec leaves it to the client).
struct RetryPolicy {
  int max_tries = 6;             // without progress in between
  int64_t first_delay_ms = 500;  // doubled each time, with jitter
  int64_t delay_cap_ms = 20'000;
  int64_t retry_after_cap_ms = 60'000;   // a registry that wants more is told to the caller
  uint64_t progress_bytes = 1UL << 20U;  // so many new bytes start the count again
};

struct RegistryOptions {
  std::string certs_dir;  // hosts.toml files; empty: none
  HttpTimeouts timeouts;
  RetryPolicy retry;
  /// What the node logs in with where a caller brings nothing for a host.
  CredentialTable credentials;
  /// The same in Docker's config.json form, read anew for each pull; empty: none. Helpers are not
  /// run: a file that names some is an error.
  std::string auth_file;
  ProxySettings proxies;
  uint64_t push_chunk_bytes = 32UL << 20U;  // a blob above this is sent in pieces of this size
};

}  // namespace fluyt::image::registry
