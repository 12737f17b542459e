#include "streaming/client_pumps.h"

#include <utility>

namespace fluyt::streaming {

ClientPumps::ClientPumps(Loop& loop, Client& client, bool takes_input,
                         std::function<void()> output_ended)
    : loop_(loop),
      client_(client),
      takes_input_(takes_input),
      output_ended_(std::move(output_ended)) {}

Result<> ClientPumps::connect_input(sys::Fd fd, Sink::End end) {
  in_ = FLUYT_TRY(Sink::create(loop_, std::move(fd), end, [this] { client_.resume_input(); }));
  return {};
}

Result<> ClientPumps::connect_output(sys::Fd fd, Channel channel) {
  (channel == Channel::kOut ? out_ : err_) = FLUYT_TRY(Source::create(
      loop_, std::move(fd), [this, channel](std::string_view bytes) { output(channel, bytes); }));
  return {};
}

void ClientPumps::open() {
  open_ = true;
  on_input(std::exchange(early_, {}));
  if (input_done_) on_input_end();
}

void ClientPumps::output(Channel channel, std::string_view bytes) {
  if (bytes.empty()) {
    (channel == Channel::kOut ? out_ : err_).reset();
    output_ended_();
    return;
  }
  client_.send(channel, bytes);
  if (!client_.is_full()) return;
  if (out_) out_->pause();
  if (err_) err_->pause();
}

void ClientPumps::on_room() {
  if (out_) out_->resume();
  if (err_) err_->resume();
}

void ClientPumps::on_input(std::string_view bytes) {
  if (!takes_input_ || bytes.empty()) return;
  if (!open_) {
    early_ += bytes;
    client_.hold_input();  // until there is somebody to read it
    return;
  }
  if (!in_) return;
  in_->write(bytes);
  if (in_->is_full()) {
    client_.hold_input();
  } else {
    client_.resume_input();
  }
}

void ClientPumps::on_input_end() {
  input_done_ = true;
  if (in_) in_->finish();
}

void ClientPumps::close() {
  out_.reset();
  err_.reset();
  in_.reset();
}

}  // namespace fluyt::streaming
