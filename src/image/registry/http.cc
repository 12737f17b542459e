#include "image/registry/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxIdleHandles = 16;
constexpr int kPollMs = 100;  // how late a cancellation or a deadline may be noticed
constexpr size_t kMaxPemBytes = 4UL << 20U;
constexpr const char* kSystemCas = "/etc/ssl/certs/ca-certificates.crt";

struct ListCloser {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListCloser>;

// The state of one exchange, reached by curl's callbacks.
struct Exchange {
  const HttpRequest* request = nullptr;
  HttpResponse response;
  size_t header_bytes = 0;
  HttpFault fault = HttpFault::kNone;
  std::optional<Error> error;
  bool got_header = false;
  uint64_t streamed = 0;  // of the answer's body, to the sink
  uint64_t sent = 0;      // of the request's body
  int64_t last_sent_ns = 0;
  int64_t window_start_ns = 0;  // of the stall clock, moved by the time the sink takes
  uint64_t window_bytes = 0;

  size_t stop(HttpFault why, Error what) {
    fault = why;
    error = std::move(what);
    return 0;  // tells curl that nothing was taken: it ends the transfer
  }
};

bool is_streamed(const Exchange& exchange) {
  const int status = exchange.response.status;
  return exchange.request->sink && (status == 200 || status == 206);
}

size_t on_header(char* data, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const size_t total = size * count;
  exchange.got_header = true;
  exchange.header_bytes += total;
  exchange.window_bytes += total;
  if (exchange.header_bytes > kMaxHeaderBytes) {
    return exchange.stop(HttpFault::kRefused,
                         Error(Code::kResourceExhausted,
                               cat("answer's headers are over ", kMaxHeaderBytes, " bytes")));
  }
  const std::string_view line = trim(std::string_view(data, total));
  if (line.starts_with("HTTP/")) {  // also after a 100 Continue: the last block counts
    exchange.response.headers.clear();
    const auto words = split_words(line);
    exchange.response.status = words.size() > 1 ? parse_number<int>(words[1]).value_or(0) : 0;
  } else if (const size_t colon = line.find(':'); colon != std::string_view::npos) {
    exchange.response.headers.emplace(to_lower(line.substr(0, colon)),
                                      std::string(trim(line.substr(colon + 1))));
  }
  return total;
}

size_t on_body(char* data, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view bytes(data, size * count);
  exchange.window_bytes += bytes.size();
  if (is_streamed(exchange)) {
    // What the sink waits for (a full disk queue, a busy unpacker) is not the registry's slowness.
    const int64_t before = now_boot_ns();
    exchange.streamed += bytes.size();
    auto taken = exchange.request->sink(exchange.response, bytes);
    exchange.window_start_ns += now_boot_ns() - before;
    if (!taken.ok()) return exchange.stop(HttpFault::kSink, std::move(taken).error());
    return bytes.size();
  }
  if (exchange.response.body.size() + bytes.size() > exchange.request->body_limit) {
    return exchange.stop(HttpFault::kRefused, Error(Code::kResourceExhausted,
                                                    cat("answer's body is over ",
                                                        exchange.request->body_limit, " bytes")));
  }
  exchange.response.body += bytes;
  return bytes.size();
}

size_t on_upload(char* into, size_t size, size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const BodySource& source = *exchange.request->upload;
  const uint64_t left = source.size - exchange.sent;
  const size_t room = std::min<uint64_t>(size * count, left);
  if (room == 0) return 0;
  const int64_t before = now_boot_ns();
  auto got = source.read_at(exchange.sent, std::span(into, room));
  exchange.last_sent_ns = now_boot_ns();
  exchange.window_start_ns += exchange.last_sent_ns - before;
  if (!got.ok() || *got == 0 || *got > room) {
    exchange.stop(HttpFault::kSink,
                  got.ok()
                      ? Error(Code::kDataLoss, cat("the content to send ended after ",
                                                   exchange.sent, " of ", source.size, " bytes"))
                      : std::move(got).error());
    return CURL_READFUNC_ABORT;
  }
  exchange.sent += *got;
  exchange.window_bytes += *got;
  return *got;
}

// curl asks for this when a kept connection turns out to be dead.
int on_seek(void* user, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(user);
  if (origin != SEEK_SET || offset < 0 ||
      static_cast<uint64_t>(offset) > exchange.request->upload->size) {
    return CURL_SEEKFUNC_FAIL;
  }
  exchange.sent = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

HttpFault fault_of(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpFault::kNone;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:  // of connecting: the other clocks are ours
      return HttpFault::kConnect;
    case CURLE_SSL_CONNECT_ERROR:
      return HttpFault::kTlsProtocol;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return HttpFault::kTlsTrust;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return HttpFault::kDropped;
    default:
      return HttpFault::kRefused;
  }
}

Code code_of(HttpFault fault) {
  switch (fault) {
    case HttpFault::kTimeout:
      return Code::kDeadlineExceeded;
    case HttpFault::kTlsTrust:
      return Code::kPermissionDenied;
    case HttpFault::kRefused:
      return Code::kInternal;
    default:
      return Code::kUnavailable;
  }
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

Error timeout_error(std::string_view what, int64_t ms) {
  return Error(Code::kDeadlineExceeded, cat(what, " within ", ms, " ms"));
}

// The system's bundle with further CAs behind it, as PEM.
Result<std::string> bundle_of(const std::vector<std::string>& files) {
  std::string out;
  if (sys::exists(kSystemCas)) out = FLUYT_TRY(sys::read_file(kSystemCas, kMaxPemBytes));
  for (const std::string& file : files) {
    out += '\n';
    out += FLUYT_TRY_CONTEXT(sys::read_file(file, kMaxPemBytes), "ca");
  }
  return out;
}

}  // namespace

std::string_view method_name(Method method) {
  switch (method) {
    case Method::kGet:
      return "GET";
    case Method::kHead:
      return "HEAD";
    case Method::kPost:
      return "POST";
    case Method::kPut:
      return "PUT";
    case Method::kPatch:
      return "PATCH";
    case Method::kDelete:
      return "DELETE";
  }
  return "GET";
}

TlsOptions TlsOptions::elsewhere(Identity identity) const {
  TlsOptions out = *this;
  out.skip_verify = skip_verify && !skip_only_itself;
  if (identity == Identity::kShow) return out;
  out.client_cert.clear();
  out.client_key.clear();
  return out;
}

std::string_view HttpResponse::header(std::string_view lower_name) const {
  const auto found = headers.find(std::string(lower_name));
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

// A multi with one easy: the multi's poll lets us look at our clocks ten times a second, which a
// blocking curl_easy_perform() does only once.
struct HttpClient::Handle {
  CURLM* multi = curl_multi_init();
  CURL* easy = curl_easy_init();
  char error_text[CURL_ERROR_SIZE] = {};

  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    curl_easy_cleanup(easy);
    curl_multi_cleanup(multi);
  }

  template <class T>
  void set(CURLoption option, T value) {
    // Fails only for options that this libcurl was built without; all that we use are ancient.
    static_cast<void>(curl_easy_setopt(easy, option, value));
  }

  Result<HeaderList> prepare(const HttpRequest& request, const Url& url, bool same_host,
                             const std::string& proxy);
  Result<> prepare_tls(const TlsOptions& tls);
  void prepare_body(const HttpRequest& request);
  CURLcode run(Exchange& exchange);
  bool check_clocks(Exchange& exchange, int64_t started_ns);
};

Result<> HttpClient::Handle::prepare_tls(const TlsOptions& tls) {
  set(CURLOPT_SSL_VERIFYPEER, tls.skip_verify ? 0L : 1L);
  set(CURLOPT_SSL_VERIFYHOST, tls.skip_verify ? 0L : 2L);
  if (!tls.ca_files.empty()) {
    std::string bundle = FLUYT_TRY(bundle_of(tls.ca_files));
    curl_blob blob{bundle.data(), bundle.size(), CURL_BLOB_COPY};
    set(CURLOPT_CAINFO_BLOB, &blob);
  }
  if (!tls.client_cert.empty()) {
    set(CURLOPT_SSLCERT, tls.client_cert.c_str());
    set(CURLOPT_SSLKEY, (tls.client_key.empty() ? tls.client_cert : tls.client_key).c_str());
  }
  return {};
}

void HttpClient::Handle::prepare_body(const HttpRequest& request) {
  switch (request.method) {
    case Method::kGet:
      return;
    case Method::kHead:
      set(CURLOPT_NOBODY, 1L);
      return;
    case Method::kDelete:
      set(CURLOPT_CUSTOMREQUEST, "DELETE");
      return;
    case Method::kPost:
    case Method::kPut:
    case Method::kPatch:
      break;
  }
  if (request.upload.has_value()) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10U);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.upload->size));
    set(CURLOPT_READFUNCTION, on_upload);
    set(CURLOPT_SEEKFUNCTION, on_seek);
  } else {
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_POSTFIELDS, request.body.data());
  }
  set(CURLOPT_CUSTOMREQUEST, method_name(request.method).data());
}

// What curl would add by itself, and a registry may take amiss or make us wait for.
constexpr const char* kNotSent[] = {"Expect:", "Content-Type:"};

Result<HeaderList> HttpClient::Handle::prepare(const HttpRequest& request, const Url& url,
                                               bool same_host, const std::string& proxy) {
  curl_easy_reset(easy);
  set(CURLOPT_ERRORBUFFER, error_text);
  set(CURLOPT_URL, url.text().c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_BUFFERSIZE, 512L << 10U);
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.timeouts.connect_ms));
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_PROXY, proxy.c_str());  // "" is: none, whatever the environment says
  prepare_body(request);
  FLUYT_TRY(
      prepare_tls(same_host ? request.tls : request.tls.elsewhere(TlsOptions::Identity::kHide)));
  HeaderList list;
  const auto add = [&](std::string_view name, std::string_view value) {
    list.reset(curl_slist_append(list.release(), cat(name, ": ", value).c_str()));
  };
  add("User-Agent", "fluyt/" FLUYT_VERSION);
  add("Accept-Encoding", "identity");  // else ranges and digests would speak of other bytes
  const auto names_type = [](const auto& header) {
    return to_lower(header.first) == "content-type";
  };
  if (std::any_of(request.headers.begin(), request.headers.end(), names_type)) {
    list.reset(curl_slist_append(list.release(), kNotSent[0]));
  } else {
    for (const char* name : kNotSent) list.reset(curl_slist_append(list.release(), name));
  }
  for (const auto& [name, value] : request.headers) add(name, value);
  if (same_host) {
    for (const auto& [name, value] : request.private_headers) add(name, value);
  } else if (request.elsewhere_authorization &&
             url.same_origin(request.elsewhere_authorization->first)) {
    add("Authorization", request.elsewhere_authorization->second);
  }
  set(CURLOPT_HTTPHEADER, list.get());
  return list;
}

uint64_t left_of(const Exchange& exchange) {
  const uint64_t all = exchange.request->expected_bytes;
  return all > exchange.streamed ? all - exchange.streamed : 0;
}

// At the pace of the window that has just ended.
bool would_take_too_long(const Exchange& exchange, int64_t window_ns) {
  const int64_t most_ms = exchange.request->most_ms;
  if (most_ms <= 0 || exchange.window_bytes == 0) return false;
  const double ms_a_byte =
      static_cast<double>(window_ns) / 1e6 / static_cast<double>(exchange.window_bytes);
  return static_cast<double>(left_of(exchange)) * ms_a_byte > static_cast<double>(most_ms);
}

// False when the exchange has to end; why is then in it.
bool HttpClient::Handle::check_clocks(Exchange& exchange, int64_t started_ns) {
  const HttpRequest& request = *exchange.request;
  if (request.cancelled != nullptr && request.cancelled->load()) {
    exchange.stop(HttpFault::kCancelled, Error(Code::kCancelled, "cancelled by the caller"));
    return false;
  }
  const int64_t now = now_boot_ns();
  const bool sending =
      request.upload.has_value() && exchange.sent > 0 && exchange.sent < request.upload->size;
  if (!exchange.got_header && !sending) {
    const int64_t limit_ms = request.timeouts.connect_ms + request.timeouts.first_byte_ms;
    curl_off_t connected_us = 0;
    curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &connected_us);
    const int64_t since = connected_us > 0
                              ? std::max(started_ns + connected_us * 1000, exchange.last_sent_ns)
                              : started_ns;
    const int64_t allowed_ms = connected_us > 0 ? request.timeouts.first_byte_ms : limit_ms;
    if (now - since > allowed_ms * 1'000'000) {
      exchange.stop(HttpFault::kTimeout, timeout_error("no answer", allowed_ms));
      return false;
    }
    exchange.window_start_ns = now;
    exchange.window_bytes = 0;
    return true;
  }
  const int64_t stall_ns = request.timeouts.stall_ms * 1'000'000;
  if (now - exchange.window_start_ns < stall_ns) return true;
  const auto seconds = static_cast<uint64_t>(request.timeouts.stall_ms) / 1000;
  const uint64_t wanted = request.timeouts.stall_bytes_per_second * std::max<uint64_t>(seconds, 1);
  if (exchange.window_bytes < wanted) {
    exchange.stop(HttpFault::kTimeout,
                  Error(Code::kDeadlineExceeded,
                        cat("stalled: ", exchange.window_bytes, " bytes in ",
                            request.timeouts.stall_ms, " ms, at least ", wanted, " are expected")));
    return false;
  }
  if (would_take_too_long(exchange, now - exchange.window_start_ns)) {
    exchange.stop(HttpFault::kTimeout,
                  Error(Code::kDeadlineExceeded, cat("too slow: ", exchange.window_bytes,
                                                     " bytes in ", request.timeouts.stall_ms,
                                                     " ms, with ", left_of(exchange), " to come")));
    return false;
  }
  exchange.window_start_ns = now;
  exchange.window_bytes = 0;
  return true;
}

CURLcode HttpClient::Handle::run(Exchange& exchange) {
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_READDATA, &exchange);
  set(CURLOPT_SEEKDATA, &exchange);
  const int64_t started = now_boot_ns();
  exchange.window_start_ns = started;
  curl_multi_add_handle(multi, easy);
  CURLcode result = CURLE_OK;
  int running = 1;
  while (running != 0) {
    if (!check_clocks(exchange, started)) {
      result = CURLE_ABORTED_BY_CALLBACK;
      break;
    }
    if (curl_multi_perform(multi, &running) != CURLM_OK) {
      result = CURLE_FAILED_INIT;
      break;
    }
    if (running != 0) curl_multi_poll(multi, nullptr, 0, kPollMs, nullptr);
  }
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
    if (message->msg == CURLMSG_DONE) result = message->data.result;
  }
  curl_multi_remove_handle(multi, easy);
  return result;
}

HttpClient::HttpClient(ProxySettings proxies) : proxies_(std::move(proxies)) {
  // Counted and, since 7.84, thread-safe; nothing of it is undone, since others may use curl too.
  curl_global_init(CURL_GLOBAL_DEFAULT);
}

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Handle> HttpClient::borrow() {
  auto idle = idle_.lock();
  if (idle->empty()) return std::make_unique<Handle>();
  auto handle = std::move(idle->back());
  idle->pop_back();
  return handle;
}

HttpOutcome HttpClient::exchange(Handle& handle, const HttpRequest& request, const Url& url,
                                 bool same_host) {
  HttpOutcome out;
  auto headers = handle.prepare(request, url, same_host, proxy_for(proxies_, url));
  if (!headers.ok()) {
    out.fault = HttpFault::kRefused;
    out.error = std::move(headers).error();
    return out;
  }
  Exchange exchange;
  exchange.request = &request;
  exchange.response.url = url;
  handle.error_text[0] = '\0';
  const CURLcode code = handle.run(exchange);
  out.response = std::move(exchange.response);
  if (exchange.fault != HttpFault::kNone) {
    out.fault = exchange.fault;
    out.error = std::move(exchange.error);
  } else if (code != CURLE_OK) {
    out.fault = fault_of(code);
    std::string text(
        trim(handle.error_text[0] != '\0' ? handle.error_text : curl_easy_strerror(code)));
    long errno_value = 0;
    curl_easy_getinfo(handle.easy, CURLINFO_OS_ERRNO, &errno_value);
    if (out.fault == HttpFault::kConnect && errno_value != 0) {
      text += cat(": ", strerrordesc_np(static_cast<int>(errno_value)));
    }
    out.error =
        Error(code == CURLE_OPERATION_TIMEDOUT ? Code::kDeadlineExceeded : code_of(out.fault),
              std::move(text));
  }
  return out;
}

HttpOutcome HttpClient::send(const HttpRequest& request) {
  std::unique_ptr<Handle> handle = borrow();
  Url url = request.url;
  HttpOutcome out;
  const auto refuse = [&](std::string why) {
    out.fault = HttpFault::kRefused;
    out.error = Error(Code::kFailedPrecondition, std::move(why));
  };
  for (int hop = 0;; ++hop) {
    out = exchange(*handle, request, url, url.same_origin(request.url));
    out.response.redirected = hop > 0;
    if (out.fault != HttpFault::kNone || !is_redirect(out.response.status)) break;
    const int status = out.response.status;
    const bool repeats = request.method != Method::kGet && request.method != Method::kHead;
    if (repeats && status != 307 && status != 308) break;  // an answer, not a redirect
    const std::string location(out.response.header("location"));
    if (hop == kMaxRedirects) {
      refuse(cat("more than ", kMaxRedirects, " redirects, the last to ", quote(location)));
      break;
    }
    auto next = url.resolve(location);
    if (!next.ok()) {
      refuse(cat("redirect: ", next.error().message()));
      break;
    }
    if (url.scheme == "https" && next->scheme == "http") {
      refuse(cat("redirect from https to ", quote(location), ": plain http is refused"));
      break;
    }
    if (repeats && !request.body.empty() && !next->same_origin(request.url)) {
      refuse(cat("redirect to ", quote(location), ": a request's body goes to no other host"));
      break;
    }
    url = std::move(*next);
  }
  auto idle = idle_.lock();
  if (idle->size() < kMaxIdleHandles) idle->push_back(std::move(handle));
  return out;
}

}  // namespace fluyt::image::registry
