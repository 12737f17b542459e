#include "streaming/spdy/session.h"

#include "base/strings.h"

namespace fluyt::streaming::spdy {

Result<> Session::feed(std::string_view bytes) {
  auto fed = reader_.feed(bytes);
  if (fed.ok() && broken_.empty()) return {};
  send_(write_go_away(last_stream_, true));
  going_away_ = true;
  if (!fed.ok()) return fed;
  return Error(Code::kInvalidArgument, cat("spdy: ", broken_));
}

void Session::write(uint32_t id, std::string_view bytes) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.sending || bytes.empty()) return;
  send_(write_data(id, bytes, false));
}

void Session::finish(uint32_t id) {
  const auto found = streams_.find(id);
  if (found == streams_.end() || !found->second.sending) return;
  found->second.sending = false;
  send_(write_data(id, {}, true));
  forget_if_done(id);
}

void Session::reset(uint32_t id, ResetStatus status) {
  if (streams_.erase(id) != 0) send_(write_reset(id, status));
}

void Session::go_away() {
  if (going_away_) return;
  going_away_ = true;
  send_(write_go_away(last_stream_, false));
}

void Session::on_syn_stream(const SynStream& frame) {
  if (frame.id % 2 == 0 || frame.id <= last_stream_) {
    broken_ = cat("stream ", frame.id, " after ", last_stream_, ": expected a higher odd number");
    return;
  }
  last_stream_ = frame.id;
  if (going_away_) return;
  if (streams_.size() >= max_streams_) {
    send_(write_reset(frame.id, ResetStatus::kRefusedStream));
    return;
  }
  streams_[frame.id] = {.sending = !frame.unidirectional, .receiving = !frame.fin};
  // The reply goes before anything that the handler says: clients drop data that overtakes it.
  send_(write_syn_reply(frame.id, {}, deflater_));
  if (!handler_.on_stream(frame.id, frame.headers)) {
    reset(frame.id, ResetStatus::kRefusedStream);
    return;
  }
  if (frame.fin) {
    handler_.on_stream_end(frame.id);
    forget_if_done(frame.id);
  }
}

void Session::on_syn_reply(uint32_t stream, bool /*fin*/) {
  broken_ = cat("a reply to stream ", stream, ", which nobody opened");
}

void Session::on_data(uint32_t stream, std::string_view bytes) {
  const auto found = streams_.find(stream);
  // What was under way when the stream was closed.
  if (found == streams_.end() || !found->second.receiving) return;
  handler_.on_stream_data(stream, bytes);
}

void Session::on_fin(uint32_t stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end() || !found->second.receiving) return;
  found->second.receiving = false;
  handler_.on_stream_end(stream);
  forget_if_done(stream);
}

void Session::on_reset(uint32_t stream, uint32_t /*status*/) {
  if (streams_.erase(stream) != 0) handler_.on_stream_reset(stream);
}

void Session::on_ping(uint32_t id) {
  // Even ones would be answers to ours, and we ask none.
  if (id % 2 == 1) send_(write_ping(id));
}

void Session::forget_if_done(uint32_t id) {
  const auto found = streams_.find(id);
  if (found != streams_.end() && !found->second.sending && !found->second.receiving) {
    streams_.erase(found);
  }
}

}  // namespace fluyt::streaming::spdy
