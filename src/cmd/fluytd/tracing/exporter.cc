#include "cmd/fluytd/tracing/exporter.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/strings.h"

namespace fluyt::daemon {

namespace {

constexpr size_t kTraceIdBytes = 16;
constexpr int64_t kNsAMs = 1'000'000;
constexpr size_t kShownBytes = 256;

size_t spans_in(const TracedCall& call) {
  size_t spans = 1;
  for (const trace::Walk& walk : call.walks) spans += walk.parts.size();
  return spans;
}

// The specification's list (OTLP/HTTP, "Retryable Response Codes").
bool is_worth_another_try(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

Exporter::Exporter(const TracingOptions& options, SpanSource source, MakeId make_id,
                   SpanCounts& counts, Logger& logger, ExportPace pace)
    : sampling_per_million_(options.sampling_per_million),
      source_(std::move(source)),
      make_id_(std::move(make_id)),
      pace_(pace),
      counts_(counts),
      logger_(logger),
      collector_(options.endpoint),
      thread_([this] { run(); }) {}

Exporter::~Exporter() { stop(Deadline::after_ms(0)); }

void Exporter::add(TracedCall call) {
  Queued queued;
  if (call.origin) {
    if (!call.origin->sampled) return;
  } else {
    queued.trace_id = make_id_(kTraceIdBytes);
    if (!is_sampled(queued.trace_id, sampling_per_million_)) return;
  }
  queued.call = std::move(call);
  const size_t spans = spans_in(queued.call);
  const std::scoped_lock lock(mutex_);
  if (stopping_ || queued_spans_ + spans > pace_.queue_spans) {
    counts_.dropped += spans;
    return;
  }
  if (queue_.empty()) oldest_ns_ = now_boot_ns();
  queued_spans_ += spans;
  queue_.push_back(std::move(queued));
  // The first starts the clock, a full batch ends it.
  if (queue_.size() == 1 || queued_spans_ >= pace_.batch_spans) changed_.notify_one();
}

void Exporter::stop(Deadline deadline) {
  {
    const std::scoped_lock lock(mutex_);
    end_ns_ = std::min<int64_t>(end_ns_,
                                now_boot_ns() + std::max(deadline.poll_timeout_ms(), 0) * kNsAMs);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Exporter::run() {
  while (true) {
    const Batch batch = take_batch();
    if (batch.spans.empty()) return;
    deliver(batch);
  }
}

// Waits for a batch to be full or old; empty when there is nothing more to come.
Exporter::Batch Exporter::take_batch() {
  std::vector<Queued> taken;
  {
    std::unique_lock lock(mutex_);
    while (!stopping_ && queued_spans_ < pace_.batch_spans) {
      if (queue_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const int64_t left_ns = oldest_ns_ + pace_.wait_ms * kNsAMs - now_boot_ns();
      if (left_ns <= 0) break;
      changed_.wait_for(lock, std::chrono::nanoseconds(left_ns));
    }
    size_t spans = 0;
    while (!queue_.empty()) {
      const size_t next = spans_in(queue_.front().call);
      if (spans != 0 && spans + next > pace_.batch_spans) break;
      spans += next;
      taken.push_back(std::move(queue_.front()));
      queue_.pop_front();
    }
    queued_spans_ -= spans;
    oldest_ns_ = now_boot_ns();
  }
  Batch batch;
  for (const Queued& queued : taken) {
    for (Span& span : spans_of(queued.call, queued.trace_id, make_id_)) {
      batch.spans.push_back(std::move(span));
    }
  }
  return batch;
}

void Exporter::deliver(const Batch& batch) {
  const std::string body = to_otlp_json(source_, batch.spans);
  const int64_t patience_ends_ns = now_boot_ns() + pace_.patience_ms * kNsAMs;
  int64_t next_pause_ms = pace_.pause_ms;
  while (true) {
    int64_t pause_ms = next_pause_ms;
    if (try_to_send(batch, body, pause_ms)) return;
    next_pause_ms = std::min(next_pause_ms * 2, pace_.most_pause_ms);
    if (now_boot_ns() + pause_ms * kNsAMs > patience_ends_ns || !pause(pause_ms)) {
      counts_.dropped += batch.spans.size();
      return;
    }
  }
}

bool Exporter::try_to_send(const Batch& batch, const std::string& body, int64_t& pause_ms) {
  const auto answer = collector_.post(body, pace_.timeout_ms, end_ns_);
  if (!answer.ok()) {
    say_trouble(answer.error().message());
    return false;
  }
  const uint64_t spans = batch.spans.size();
  if (answer->status >= 200 && answer->status < 300) {
    const auto rejected = std::min(spans, static_cast<uint64_t>(rejected_in(answer->body)));
    counts_.sent += spans - rejected;
    counts_.refused += rejected;
    say_well();
    return true;
  }
  say_trouble(cat(collector_.url(), ": status ", answer->status, ": ",
                  quote(trim(answer->body), kShownBytes)));
  if (!is_worth_another_try(answer->status)) {
    counts_.refused += spans;
    return true;
  }
  if (answer->retry_after_ms > 0) pause_ms = std::min(answer->retry_after_ms, pace_.most_pause_ms);
  return false;
}

bool Exporter::pause(int64_t ms) {
  const int64_t until_ns = now_boot_ns() + ms * kNsAMs;
  std::unique_lock lock(mutex_);
  while (true) {
    // On the way to our end: at once, and then as long as the pauses fit.
    if (stopping_ && !std::exchange(last_tried_, true)) return true;
    const int64_t now_ns = now_boot_ns();
    if (until_ns > end_ns_) return false;
    if (now_ns >= until_ns) return true;
    changed_.wait_for(lock, std::chrono::nanoseconds(until_ns - now_ns));
  }
}

// Once, and not for every batch.
void Exporter::say_trouble(const std::string& why) {
  if (std::exchange(in_trouble_, true)) return;
  logger_.warn(
      cat("tracing: ", why, "; spans wait for it, and are dropped when there are too many"));
}

void Exporter::say_well() {
  if (std::exchange(in_trouble_, false))
    logger_.info(cat("tracing: ", collector_.url(), " takes spans again"));
}

}  // namespace fluyt::daemon
