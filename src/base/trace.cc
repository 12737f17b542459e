#include "base/trace.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "base/walk_listener.h"

namespace fluyt::trace {

namespace {

// What this thread is at.
struct Current {
  Walk* walk = nullptr;
  int64_t began_boot_ns = 0;
  int depth = 0;
};
thread_local Current current;
thread_local std::function<void(const Walk&)> listener_here;

}  // namespace

void listen_on_this_thread(std::function<void(const Walk&)> heard) {
  listener_here = std::move(heard);
}

void Recorder::add(Walk walk) {
  std::shared_ptr<const std::function<void(const Walk&)>> listener;
  {
    const std::scoped_lock lock(mutex_);
    auto [at, fresh] = walks_.try_emplace(walk.sandbox_id);
    if (fresh) order_.push_back(walk.sandbox_id);
    std::deque<Walk>& walks = at->second;
    const auto alike = [&](const Walk& other) {
      return other.verb == walk.verb && other.container_id == walk.container_id;
    };
    if (static_cast<size_t>(std::ranges::count_if(walks, alike)) >= kWalksAVerb)
      walks.erase(std::ranges::find_if(walks, alike));
    if (walks.size() >= Span::kMost) walks.pop_front();
    walks.push_back(walk);
    if (order_.size() > kSandboxes) {
      walks_.erase(order_.front());
      order_.pop_front();
    }
    listener = listener_;
  }
  if (listener) (*listener)(walk);
}

std::vector<Walk> Recorder::walks_of(const std::string& sandbox_id,
                                     const std::string& container_id) const {
  const std::scoped_lock lock(mutex_);
  std::vector<Walk> out;
  const auto found = walks_.find(sandbox_id);
  if (found == walks_.end()) return out;
  for (const Walk& walk : found->second) {
    if (container_id.empty() || walk.container_id == container_id) out.push_back(walk);
  }
  return out;
}

void Recorder::also(std::function<void(const Walk&)> listener) {
  auto shared =
      listener ? std::make_shared<const std::function<void(const Walk&)>>(listener) : nullptr;
  const std::scoped_lock lock(mutex_);
  listener_ = std::move(shared);
}

Request::Request(Recorder& recorder, std::string_view verb)
    : recorder_(recorder), began_boot_ns_(now_boot_ns()), outermost_(current.walk == nullptr) {
  walk_.verb = verb;
  walk_.began_unix_ns = now_unix_ns();
  if (outermost_) current = {.walk = &walk_, .began_boot_ns = began_boot_ns_, .depth = 0};
}

Request::~Request() {
  if (!outermost_) return;
  current = {};
  walk_.took_ns = now_boot_ns() - began_boot_ns_;
  if (listener_here) listener_here(walk_);
  if (!walk_.sandbox_id.empty()) recorder_.add(std::move(walk_));
}

void Request::of(std::string_view sandbox_id, std::string_view container_id) {
  walk_.sandbox_id = sandbox_id;
  walk_.container_id = container_id;
}

void Request::fail(const std::string& why) { walk_.error = why; }

Span::Span(std::string_view name) : place_(kMost) {
  ++current.depth;
  if (current.walk == nullptr || current.walk->parts.size() >= kMost) return;
  place_ = current.walk->parts.size();
  current.walk->parts.push_back({.name = std::string(name),
                                 .begin_ns = now_boot_ns() - current.began_boot_ns,
                                 .took_ns = 0,
                                 .depth = current.depth - 1});
}

Span::~Span() {
  --current.depth;
  // The walk may have ended before us: nothing is left to tell it to.
  if (place_ == kMost || current.walk == nullptr) return;
  Part& part = current.walk->parts[place_];
  part.took_ns = now_boot_ns() - current.began_boot_ns - part.begin_ns;
}

Collector::Collector() : began_boot_ns_(now_boot_ns()) {
  if (current.walk == nullptr)
    current = {.walk = &walk_, .began_boot_ns = began_boot_ns_, .depth = 0};
}

Collector::~Collector() {
  if (current.walk == &walk_) current = {};
}

std::string Collector::text() const {
  std::string out;
  for (const Part& part : walk_.parts) {
    out += cat(began_boot_ns_ + part.begin_ns, " ", part.took_ns, " ", part.depth, " ", part.name,
               "\n");
  }
  return out;
}

void graft(std::string_view text) {
  if (current.walk == nullptr) return;
  for (const std::string_view line : split(text, '\n')) {
    const size_t second = line.find(' ') + 1;
    const size_t third = line.find(' ', second) + 1;
    const size_t fourth = line.find(' ', third) + 1;
    if (second == 0 || third == 0 || fourth == 0) continue;
    const auto begin = parse_number<int64_t>(line.substr(0, second - 1));
    const auto took = parse_number<int64_t>(line.substr(second, third - second - 1));
    const auto depth = parse_number<int>(line.substr(third, fourth - third - 1));
    if (!begin || !took || !depth || current.walk->parts.size() >= Span::kMost) continue;
    current.walk->parts.push_back({.name = std::string(line.substr(fourth)),
                                   .begin_ns = *begin - current.began_boot_ns,
                                   .took_ns = *took,
                                   .depth = current.depth + *depth});
  }
}

}  // namespace fluyt::trace
