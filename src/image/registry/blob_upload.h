#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "image/registry/session.h"

namespace fluyt::image::registry {

/// One blob on its way to a registry (distribution-spec, "Pushing a blob in chunks"):
///
///     begin ─ 201 ─▶ mounted
///       │ 202
///       ├─ small, or chunks are refused ─▶ PUT with the whole ─▶ done
///       └─ PATCH a chunk … ─▶ PUT without a body ─▶ done
///
/// After a lost connection the registry is asked how far it is; one that has forgotten the upload
/// gets a new one. Of one thread.
class BlobUpload {
 public:
  BlobUpload(Session& session, const BlobToPush& blob,
             const std::function<void(uint64_t)>& progress);
  Result<PushedBlob> run();

 private:
  Result<PushedBlob> attempt();
  Result<bool> begin();
  Result<bool> begin_with(const std::string& mount_from);
  Result<> send_whole();
  Result<> send_chunk();
  Result<> finish();
  Result<bool> recover();
  bool is_worth_another_try(const Error& error);
  void start_over();
  void abandon();

  Session::Ask ask_for(Method method);
  Result<> follow(const HttpResponse& response);
  BodySource source_from(uint64_t offset, uint64_t size) const;
  void report() const;

  Session& session_;
  const BlobToPush& blob_;
  const std::function<void(uint64_t)>& progress_;
  std::optional<Url> location_;  // of the upload under way
  uint64_t sent_ = 0;            // that the registry has, as far as we know
  uint64_t chunk_bytes_;
  bool in_chunks_;
  bool may_mount_;
  // Of the last answer:
  int status_ = 0;
  HttpFault fault_ = HttpFault::kNone;
  std::optional<int64_t> retry_after_ms_;
};

}  // namespace fluyt::image::registry
