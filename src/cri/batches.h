#pragma once

#include "cri/api.h"
// after api.h
#include <cstddef>

namespace fluyt::cri {

/// How much one message of a streamed list holds, about: far below the 16 MiB that the kubelet
/// takes, and enough that a node's lists are a handful of messages.
inline constexpr size_t kBatchBytes = 1UL << 20U;

/// Sends every one of `items` once, several in a message and none without one: a list of nothing is
/// the end alone. `add(message, item)` puts one in and returns it. Ends early for a caller who went
/// away.
template <class Response, class Writer, class Items, class Add>
grpc::Status send_in_batches(Writer& writer, const Items& items, Add add) {
  Response batch;
  size_t bytes = 0;
  const auto flush = [&] {
    const bool sent = writer.Write(batch);
    batch.Clear();
    bytes = 0;
    return sent;
  };
  const grpc::Status gone(grpc::StatusCode::CANCELLED, "the caller went away");
  for (const auto& item : items) {
    bytes += add(batch, item).ByteSizeLong() + 1;
    if (bytes >= kBatchBytes && !flush()) return gone;
  }
  return bytes == 0 || flush() ? grpc::Status::OK : gone;
}

}  // namespace fluyt::cri
