#include "cmd/fluytd/tracing/collector.h"

#include <curl/curl.h>

#include <algorithm>
#include <utility>

#include "base/strings.h"
#include "base/time.h"

namespace fluyt::daemon {

namespace {

constexpr size_t kMaxAnswer = 16UL << 10U;

size_t take_body(char* bytes, size_t size, size_t count, void* answer) {
  auto& body = static_cast<Collector::Answer*>(answer)->body;
  body.append(bytes, std::min(size * count, kMaxAnswer - std::min(body.size(), kMaxAnswer)));
  return size * count;
}

// Called about once a second, and whenever something moves.
int look_at_clock(void* deadline_ns, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return now_boot_ns() >= *static_cast<const std::atomic<int64_t>*>(deadline_ns) ? 1 : 0;
}

Code code_of(CURLcode code) {
  if (code == CURLE_OPERATION_TIMEDOUT) return Code::kDeadlineExceeded;
  return code == CURLE_ABORTED_BY_CALLBACK ? Code::kCancelled : Code::kUnavailable;
}

}  // namespace

struct Collector::Handle {
  CURL* easy = curl_easy_init();
  curl_slist* headers = nullptr;
  Handle() {
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");  // no round trip before a long body
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
  }
};

Collector::Collector(std::string endpoint) : url_(std::move(endpoint)) {
  // Counted and, since 7.84, thread-safe; nothing of it is undone, since others may use curl too.
  curl_global_init(CURL_GLOBAL_DEFAULT);
  handle_ = std::make_unique<Handle>();
  while (url_.ends_with('/')) url_.pop_back();
  url_ += "/v1/traces";
}

Collector::~Collector() = default;

Result<Collector::Answer> Collector::post(const std::string& body, int64_t timeout_ms,
                                          const std::atomic<int64_t>& deadline_ns) {
  CURL* const easy = handle_->easy;
  if (easy == nullptr) return Error(Code::kResourceExhausted, "curl_easy_init");
  Answer answer;
  curl_easy_reset(easy);  // keeps the connection
  curl_easy_setopt(easy, CURLOPT_URL, url_.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, handle_->headers);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "fluytd/" FLUYT_VERSION);
  curl_easy_setopt(easy, CURLOPT_POST, 1L);
  curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout_ms));
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, look_at_clock);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &deadline_ns);
  const CURLcode done = curl_easy_perform(easy);
  if (done != CURLE_OK) return Error(code_of(done), cat(url_, ": ", curl_easy_strerror(done)));
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  curl_off_t seconds = 0;
  curl_easy_getinfo(easy, CURLINFO_RETRY_AFTER, &seconds);
  answer.status = static_cast<int>(status);
  answer.retry_after_ms = static_cast<int64_t>(seconds) * 1000;
  return answer;
}

}  // namespace fluyt::daemon
