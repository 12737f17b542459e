#include "image/registry/blob_upload.h"

#include <algorithm>
#include <random>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::image::registry {

namespace {

constexpr const char* kOctets = "application/octet-stream";

// "0-1023" or "bytes=0-1023": how many bytes the registry has. "0-0" is what registries say of
// none: one byte less than the truth costs nothing, since it is compared with what was sent.
std::optional<uint64_t> taken_of(const HttpResponse& response) {
  std::string_view range = response.header("range");
  if (range.starts_with("bytes=")) range.remove_prefix(6);
  if (!range.starts_with("0-")) return std::nullopt;
  const auto last = parse_number<uint64_t>(trim(range.substr(2)));
  if (!last.has_value() || *last == UINT64_MAX) return std::nullopt;
  return *last == 0 ? 0 : *last + 1;
}

Url with_query(Url url, std::string_view name, std::string_view value) {
  url.query += cat(url.query.empty() ? "" : "&", name, "=", percent_encode(value));
  return url;
}

}  // namespace

BlobUpload::BlobUpload(Session& session, const BlobToPush& blob,
                       const std::function<void(uint64_t)>& progress)
    : session_(session),
      blob_(blob),
      progress_(progress),
      chunk_bytes_(std::max<uint64_t>(session.registry_.options_.push_chunk_bytes, 1)),
      in_chunks_(blob.size > chunk_bytes_),
      may_mount_(!blob.mount_from.empty()) {}

void BlobUpload::report() const {
  if (progress_) progress_(sent_);
}

Session::Ask BlobUpload::ask_for(Method method) {
  Session::Ask out;
  out.need = Session::Need::kPush;
  out.method = method;
  out.once = true;
  out.path = cat("/", session_.repository_, "/blobs/uploads/");
  out.url = location_;
  out.observe = [this](const HttpOutcome& outcome) {
    status_ = outcome.response.status;
    fault_ = outcome.fault;
    retry_after_ms_ = parse_retry_after_ms(outcome.response.header("retry-after"), now_unix_ns());
  };
  return out;
}

BodySource BlobUpload::source_from(uint64_t offset, uint64_t size) const {
  return {size, [this, offset](uint64_t at, std::span<char> into) {
            return blob_.read_at(offset + at, into);
          }};
}

// Where the upload goes on: absolute or relative, with a query that must be kept.
Result<> BlobUpload::follow(const HttpResponse& response) {
  const std::string_view location = response.header("location");
  if (location.empty()) {
    return Error(Code::kInternal,
                 cat("registry ", response.url.host_port(), ": ", response.url.path, " = ",
                     response.status, ": expected a Location header"));
  }
  Url next = FLUYT_TRY_CONTEXT(response.url.resolve(location), "upload location");
  if (response.url.scheme == "https" && next.scheme == "http") {
    // A registry behind a proxy that does TLS for it may not know its own scheme.
    if (next.host != response.url.host) {
      return Error(Code::kFailedPrecondition,
                   cat("upload location ", quote(location), ": plain http is refused after https"));
    }
    next.scheme = "https";
    next.port = response.url.port;
  }
  location_ = std::move(next);
  return {};
}

Result<bool> BlobUpload::begin_with(const std::string& mount_from) {
  Session::Ask what = ask_for(Method::kPost);
  if (!mount_from.empty()) {
    what.query =
        cat("mount=", percent_encode(blob_.digest.text()), "&from=", percent_encode(mount_from));
    what.from_repository = mount_from;
  } else if (blob_.digest.algorithm() != "sha256") {
    what.query = cat("digest-algorithm=", blob_.digest.algorithm());
  }
  const bool mounting = !mount_from.empty();
  what.good = [mounting](const HttpResponse& r) {
    return r.status == 202 || (mounting && r.status == 201);
  };
  const Session::Answer answer = FLUYT_TRY(session_.ask(what));
  if (answer.response.status == 201) return true;
  FLUYT_TRY(follow(answer.response));
  if (const auto least = parse_number<uint64_t>(answer.response.header("oci-chunk-min-length"))) {
    chunk_bytes_ = std::max(chunk_bytes_, *least);
  }
  return false;
}

// True: the registry has it from another repository.
Result<bool> BlobUpload::begin() {
  sent_ = 0;
  if (may_mount_) {
    may_mount_ = false;
    auto mounted = begin_with(blob_.mount_from);
    // Whoever may not read the other repository can still send the blob, whether the registry says
    // so or its token server; what else is wrong will show again.
    const bool refused = !mounted.ok() && (fault_ == HttpFault::kNone ||
                                           mounted.error().code() == Code::kUnauthenticated);
    const bool went = mounted.ok() || !refused;
    if (went) return mounted;
  }
  return begin_with("");
}

Result<> BlobUpload::send_whole() {
  Session::Ask what = ask_for(Method::kPut);
  what.url = with_query(*location_, "digest", blob_.digest.text());
  what.content_type = kOctets;
  what.prepare = [this](HttpRequest& request, EndpointIndex) {
    request.upload = source_from(0, blob_.size);
  };
  what.good = [](const HttpResponse& r) {
    return r.status == 201 || r.status == 200 || r.status == 204;
  };
  FLUYT_TRY(session_.ask(what));
  sent_ = blob_.size;
  report();
  return {};
}

Result<> BlobUpload::send_chunk() {
  const uint64_t size = std::min(chunk_bytes_, blob_.size - sent_);
  Session::Ask what = ask_for(Method::kPatch);
  what.content_type = kOctets;
  what.prepare = [&](HttpRequest& request, EndpointIndex) {
    request.headers.emplace_back("Content-Range", cat(sent_, "-", sent_ + size - 1));
    request.upload = source_from(sent_, size);
  };
  what.good = [](const HttpResponse& r) { return r.status == 202 || r.status == 204; };
  const Session::Answer answer = FLUYT_TRY(session_.ask(what));
  const uint64_t taken = taken_of(answer.response).value_or(sent_ + size);
  if (taken > sent_ + size) {
    return Error(Code::kDataLoss,
                 cat("registry ", session_.name_, ": upload of ", blob_.digest.text(), ": Range ",
                     quote(answer.response.header("range")), ": expected at most ", sent_ + size,
                     " bytes to be there"));
  }
  FLUYT_TRY(follow(answer.response));
  sent_ = taken;
  report();
  return {};
}

Result<> BlobUpload::finish() {
  Session::Ask what = ask_for(Method::kPut);
  what.url = with_query(*location_, "digest", blob_.digest.text());
  what.good = [](const HttpResponse& r) {
    return r.status == 201 || r.status == 200 || r.status == 204;
  };
  FLUYT_TRY(session_.ask(what));
  return {};
}

Result<PushedBlob> BlobUpload::attempt() {
  if (!location_.has_value() && FLUYT_TRY(begin())) return PushedBlob::kMounted;
  if (!in_chunks_) {
    FLUYT_TRY(send_whole());
    return PushedBlob::kUploaded;
  }
  while (sent_ < blob_.size) FLUYT_TRY(send_chunk());
  FLUYT_TRY(finish());
  return PushedBlob::kUploaded;
}

void BlobUpload::start_over() {
  abandon();
  location_.reset();
  sent_ = 0;
}

// Finds out where the registry is after a failure. True: it has the whole blob.
Result<bool> BlobUpload::recover() {
  if (FLUYT_TRY(session_.has_blob(blob_.digest))) return true;
  if (!location_.has_value()) return false;
  if (in_chunks_) {
    Session::Ask what = ask_for(Method::kGet);
    what.good = [](const HttpResponse& r) {
      return r.status == 204 || r.status == 202 || r.status == 200;
    };
    const auto answer = session_.ask(what);
    if (answer.ok()) {
      const auto taken = taken_of(answer->response);
      if (taken.has_value() && *taken <= blob_.size) {
        if (!answer->response.header("location").empty()) FLUYT_TRY(follow(answer->response));
        sent_ = *taken;
        report();
        return false;
      }
    } else if (fault_ == HttpFault::kCancelled) {
      return answer.error();
    }
  }
  start_over();
  return false;
}

bool BlobUpload::is_worth_another_try(const Error& error) {
  if (fault_ == HttpFault::kSink || fault_ == HttpFault::kCancelled) return false;
  // An upload that the registry has forgotten, or is at another place than we thought.
  if (location_.has_value() && (status_ == 404 || status_ == 416)) return true;
  const bool chunk_refused =
      location_.has_value() && in_chunks_ && sent_ == 0 &&
      (status_ == 400 || status_ == 405 || status_ == 411 || status_ == 415 || status_ == 501);
  if (chunk_refused) {
    in_chunks_ = false;
    return true;
  }
  if (status_ == 429) {
    return !retry_after_ms_.has_value() ||
           *retry_after_ms_ <= session_.registry_.options_.retry.retry_after_cap_ms;
  }
  return error.code() == Code::kUnavailable || error.code() == Code::kDeadlineExceeded;
}

// A last word, so that the registry need not keep the pieces until it tires of them. What comes of
// it changes nothing for us.
void BlobUpload::abandon() {
  if (!location_.has_value()) return;
  Session::Ask what = ask_for(Method::kDelete);
  what.observe = {};
  what.last_word = true;
  what.good = [](const HttpResponse& r) { return r.status == 204 || r.status == 202; };
  if (auto answer = session_.ask(what); !answer.ok()) {
    session_.registry_.logger_.debug(cat("upload left behind: ", answer.error().message()));
  }
  location_.reset();
}

Result<PushedBlob> BlobUpload::run() {
  const RetryPolicy& policy = session_.registry_.options_.retry;
  const auto fail = [&](Error error) {
    abandon();
    return std::move(error.add_context(cat("blob ", blob_.digest.text())));
  };
  uint64_t furthest = 0;
  for (int tries = 1;; ++tries) {
    auto result = attempt();
    if (result.ok()) return result;
    if (sent_ >= furthest + policy.progress_bytes) {
      furthest = sent_;
      tries = 1;
    }
    if (!is_worth_another_try(result.error()) || tries >= policy.max_tries) {
      return fail(std::move(result).error());
    }
    const int64_t wait_ms =
        std::max(backoff_ms(policy, tries, std::random_device{}()), retry_after_ms_.value_or(0));
    session_.registry_.logger_.debug(cat(result.error().message(), ": try ", tries, " of ",
                                         policy.max_tries, ", again in ", wait_ms, " ms"));
    if (!sleep_unless_cancelled(wait_ms, session_.cancelled_)) {
      return fail(Error(Code::kCancelled, "cancelled by the caller"));
    }
    auto there = recover();
    if (!there.ok()) return fail(std::move(there).error());
    if (*there) return PushedBlob::kUploaded;
  }
}

}  // namespace fluyt::image::registry
