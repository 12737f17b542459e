#include "base/strings.h"
#include "image/registry/session.h"

namespace fluyt::image::registry {

namespace {

// One blob on its way: how far the consumer is, and what the answer of the moment begins with.
struct BlobStream {
  uint64_t size;
  const std::function<Result<>(std::string_view)>& sink;
  uint64_t given = 0;            // to the consumer, in order
  uint64_t skip = 0;             // of this answer, which started before `given`
  bool started = false;          // this answer's head was looked at
  bool server_is_wrong = false;  // this answer contradicts the manifest
  bool ranges_work = true;       // false once the server has refused one

  Error wrong(std::string text) {
    server_is_wrong = true;
    return Error(Code::kDataLoss, std::move(text));
  }

  void ask_for_rest(HttpRequest& request) {
    started = false;
    server_is_wrong = false;
    skip = given;
    if (given > 0 && ranges_work) {
      request.headers.emplace_back("Range", cat("bytes=", given, "-"));
    }
  }

  Result<> begin(const HttpResponse& head) {
    started = true;
    const std::string_view encoding = head.header("content-encoding");
    if (!encoding.empty() && encoding != "identity") {
      return wrong(cat("Content-Encoding ", quote(encoding), ": expected identity, as asked for"));
    }
    uint64_t from = 0;
    if (head.status == 206) {
      // "bytes 100-199/200"
      std::string_view range = head.header("content-range");
      if (range.starts_with("bytes ")) range.remove_prefix(6);
      const auto start = parse_number<uint64_t>(trim(range.substr(0, range.find('-'))));
      if (!start.has_value() || *start > given) {
        return wrong(cat("Content-Range ", quote(head.header("content-range")),
                         ": expected one from byte ", given));
      }
      from = *start;
    }
    skip = given - from;
    if (const auto length = parse_number<uint64_t>(head.header("content-length"));
        length.has_value() && *length != size - from) {
      return wrong(cat("Content-Length ", *length, ": expected ", size - from,
                       " of a blob that the manifest says has ", size, " bytes"));
    }
    return {};
  }

  Result<> take(const HttpResponse& head, std::string_view bytes) {
    if (!started) FLUYT_TRY(begin(head));
    const uint64_t skipped = std::min<uint64_t>(skip, bytes.size());
    skip -= skipped;
    bytes.remove_prefix(skipped);
    if (bytes.empty()) return {};
    if (bytes.size() > size - given) {
      return wrong(cat("more bytes than the ", size, " that the manifest says"));
    }
    FLUYT_TRY(sink(bytes));
    given += bytes.size();
    return {};
  }
};

}  // namespace

Result<> Session::fetch_blob(const oci::Digest& digest, uint64_t size,
                             const std::function<Result<>(std::string_view)>& sink,
                             EndpointIndex* served_by) {
  BlobStream stream{size, sink};
  Ask what;
  what.expected_bytes = size;
  what.path = cat("/", repository_, "/blobs/", digest.text());
  what.prepare = [&](HttpRequest& request, EndpointIndex endpoint) {
    if (served_by != nullptr) *served_by = endpoint;
    stream.ask_for_rest(request);
  };
  what.progress = [&] { return stream.given; };
  what.sink = [&](const HttpResponse& head, std::string_view bytes) {
    return stream.take(head, bytes);
  };
  what.server_is_wrong = [&] { return stream.server_is_wrong; };
  what.good = [&](const HttpResponse& response) {
    if (response.status == 416) stream.ranges_work = false;
    return (response.status == 200 || response.status == 206) && stream.given == size;
  };
  FLUYT_TRY(ask(what));
  return {};
}

// The registry decides what is in a manifest, and with that where we would knock: not at this
// machine, and not in the open, unless it is like that itself.
Result<> Session::check_foreign_url(const Url& url) const {
  const auto health = *health_.lock();
  bool is_plain = false;
  bool is_local = false;
  for (EndpointIndex i = 0; i < endpoints_.size(); ++i) {
    is_plain = is_plain || health[i].plain_http || endpoints_[i].base.scheme == "http";
    is_local = is_local || endpoints_[i].base.is_loopback();
  }
  if (url.scheme != "https" && !is_plain) {
    return Error(Code::kFailedPrecondition, cat("urls: ", quote(url.text()), ": expected https"));
  }
  if (url.is_loopback() && !is_local) {
    return Error(Code::kFailedPrecondition,
                 cat("urls: ", quote(url.text()), ": expected another machine"));
  }
  return {};
}

Result<> Session::fetch_foreign_blob(const oci::Digest& digest, uint64_t size,
                                     const std::vector<std::string>& urls,
                                     const std::function<Result<>(std::string_view)>& sink,
                                     EndpointIndex* served_by) {
  constexpr size_t kMaxUrls = 8;
  uint64_t given = 0;
  const std::function<Result<>(std::string_view)> count = [&](std::string_view bytes) -> Result<> {
    FLUYT_TRY(sink(bytes));
    given += bytes.size();
    return {};
  };
  auto result = fetch_blob(digest, size, count, served_by);
  for (size_t i = 0; i < std::min(urls.size(), kMaxUrls); ++i) {
    // Only what is not there: the registry's own trouble is told as it is.
    if (result.ok() || result.error().code() != Code::kNotFound || given > 0) return result;
    const auto url = Url::parse(urls[i]);
    Result<> allowed = url.ok() ? check_foreign_url(*url) : url.error();
    if (!allowed.ok()) {
      result =
          Error(Code::kNotFound, cat(result.error().message(), "; ", allowed.error().message()));
      continue;
    }
    BlobStream stream{size, count};
    Ask what;
    what.url = *url;
    what.elsewhere = true;
    what.prepare = [&](HttpRequest& request, EndpointIndex) { stream.ask_for_rest(request); };
    what.progress = [&] { return stream.given; };
    what.sink = [&](const HttpResponse& head, std::string_view bytes) {
      return stream.take(head, bytes);
    };
    what.server_is_wrong = [&] { return stream.server_is_wrong; };
    what.good = [&](const HttpResponse& response) {
      if (response.status == 416) stream.ranges_work = false;
      return (response.status == 200 || response.status == 206) && stream.given == size;
    };
    auto fetched = ask(what);
    if (fetched.ok()) return {};
    result = std::move(fetched).error();
  }
  return result;
}

}  // namespace fluyt::image::registry
