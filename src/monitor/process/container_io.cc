#include "monitor/process/container_io.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kReadBytes = 16UL << 10U;
// Rounds of one event, so that a container that shouts leaves the others their turn.
constexpr int kRoundsAnEvent = 8;
// A drain ends here even if something goes on writing.
constexpr int kMaxDrainRounds = 4096;
// How long a client may take for what is queued for it when the container has ended.
constexpr int64_t kFarewellMs = 10'000;

}  // namespace

ContainerIo::ContainerIo(Loop& loop, Streams streams, std::optional<LogFile> log,
                         StdinOnce stdin_once)
    : loop_(loop),
      terminal_(streams.console.valid()),
      log_(std::move(log)),
      stdin_once_(stdin_once) {
  output_[1].stream = Stream::kStderr;
  if (terminal_) {
    auto copy = sys::duplicate(streams.console);
    if (copy.ok()) input_ = std::move(copy).value();
    output_[0].fd = std::move(streams.console);
  } else {
    output_[0].fd = std::move(streams.out);
    output_[1].fd = std::move(streams.err);
    input_ = std::move(streams.in);
  }
}

ContainerIo::~ContainerIo() {
  loop_.cancel(farewell_);
  while (!clients_.empty()) drop_client(clients_.begin());
  for (Output& output : output_) {
    if (output.fd.valid()) loop_.epoll().remove(output.fd);
  }
  close_input();
}

Result<> ContainerIo::watch(std::function<void()> on_end) {
  on_end_ = std::move(on_end);
  for (Output& output : output_) {
    if (!output.fd.valid()) continue;
    FLUYT_TRY(sys::set_nonblocking(output.fd, true));
    FLUYT_TRY(
        loop_.epoll().add(output.fd, EPOLLIN, [this, &output](uint32_t) { on_output(output); }));
  }
  if (input_.valid()) FLUYT_TRY(sys::set_nonblocking(input_, true));
  return {};
}

ContainerIo::Round ContainerIo::read_once(Output& output) {
  std::array<char, kReadBytes> buffer;
  const ssize_t got = ::read(output.fd.raw(), buffer.data(), buffer.size());
  if (got < 0 && errno == EINTR) return Round::kMore;
  if (got < 0 && errno == EAGAIN) return Round::kEmpty;
  // A pty's master says EIO while nobody has the other side open: systemd and busybox's init close
  // it and open it again.
  if (got < 0 && errno == EIO && terminal_) return Round::kHungUp;
  if (got <= 0) return Round::kEnded;
  const std::string_view text(buffer.data(), static_cast<size_t>(got));
  if (log_) log_->write(output.stream, text, now_unix_ns());
  give(output.stream, text);
  return Round::kMore;
}

void ContainerIo::on_output(Output& output) {
  for (int round = 0; round < kRoundsAnEvent; ++round) {
    const Round result = read_once(output);
    if (result != Round::kHungUp && output.hung_up) {
      output.hung_up = false;
      loop_.epoll().change(output.fd, EPOLLIN).ignore("the watch exists");
    }
    if (result == Round::kMore) continue;
    if (result == Round::kHungUp) hang_up(output);
    if (result == Round::kEnded) end_output(output);
    if (ended() && on_end_) loop_.defer(std::exchange(on_end_, nullptr));
    return;
  }
}

void ContainerIo::hang_up(Output& output) {
  if (container_ended_) return end_output(output);
  if (output.hung_up) return;
  output.hung_up = true;
  // A hang-up is there to be told for as long as it lasts. Edge-triggered it is told once, and what
  // comes when the terminal is open again is told too.
  loop_.epoll().change(output.fd, EPOLLIN | EPOLLET).ignore("the watch exists");
}

void ContainerIo::end_output(Output& output) {
  if (!output.fd.valid()) return;
  loop_.epoll().remove(output.fd);
  output.fd.reset();
  if (log_) log_->finish(output.stream, now_unix_ns());
}

bool ContainerIo::drain() {
  container_ended_ = true;
  for (Output& output : output_) {
    for (int round = 0; output.fd.valid() && round < kMaxDrainRounds; ++round) {
      const Round result = read_once(output);
      if (result == Round::kHungUp || result == Round::kEnded) end_output(output);
      if (result != Round::kMore) break;
    }
  }
  return ended();
}

void ContainerIo::close() {
  on_end_ = nullptr;
  closing_ = true;
  for (Output& output : output_) end_output(output);
  close_input();
  for (auto it = clients_.begin(); it != clients_.end();) {
    const auto client = it++;
    end_client_input(client);
    if (client->out.backlog.empty()) drop_sink(client->out);
    if (client->err.backlog.empty()) drop_sink(client->err);
    drop_if_idle(client);
  }
  if (clients_.empty()) return;
  farewell_ = loop_.after_ms(kFarewellMs, [this] {
    while (!clients_.empty()) drop_client(clients_.begin());
  });
}

void ContainerIo::give(Stream stream, std::string_view text) {
  for (auto it = clients_.begin(); it != clients_.end();) {
    const auto client = it++;
    Sink& sink = stream == Stream::kStdout ? client->out : client->err;
    if (sink.fd.valid() && !give_sink(sink, text)) drop_client(client);
  }
}

bool ContainerIo::give_sink(Sink& sink, std::string_view text) {
  if (sink.backlog.empty()) {
    const ssize_t put = ::write(sink.fd.raw(), text.data(), text.size());
    if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
    if (put > 0) text.remove_prefix(static_cast<size_t>(put));
    if (text.empty()) return true;
  }
  if (sink.backlog.size() + text.size() > kMaxAttachBacklogBytes) return false;
  sink.backlog += text;
  return watch_sink(sink);
}

bool ContainerIo::watch_sink(Sink& sink) {
  if (sink.waits) return true;
  sink.waits = true;
  return loop_.epoll().change(sink.fd, EPOLLOUT).ok();
}

bool ContainerIo::flush_sink(Sink& sink) {
  const ssize_t put = ::write(sink.fd.raw(), sink.backlog.data(), sink.backlog.size());
  if (put < 0) return errno == EAGAIN || errno == EINTR;
  sink.backlog.erase(0, static_cast<size_t>(put));
  if (!sink.backlog.empty()) return true;
  sink.backlog = std::string();
  sink.waits = false;
  // With no events asked for, EPOLLERR still tells of a reader that went away.
  return loop_.epoll().change(sink.fd, 0).ok();
}

Result<> ContainerIo::attach(AttachFds fds) {
  const auto client = clients_.emplace(clients_.end());
  client->in = std::move(fds.in);
  client->out.fd = std::move(fds.out);
  client->err.fd = std::move(fds.err);
  auto watched = watch_client(client);
  if (!watched.ok()) {
    drop_client(client);
    return watched;
  }
  drop_if_idle(client);
  return {};
}

Result<> ContainerIo::watch_client(ClientIt client) {
  for (Sink* sink : {&client->out, &client->err}) {
    if (!sink->fd.valid()) continue;
    FLUYT_TRY(sys::set_nonblocking(sink->fd, true));
    FLUYT_TRY(loop_.epoll().add(sink->fd, 0, [this, client, sink](uint32_t events) {
      const bool gone = (events & (EPOLLERR | EPOLLHUP)) != 0;
      if (gone || !flush_sink(*sink)) return drop_client(client);
      if (closing_ && sink->backlog.empty()) {
        drop_sink(*sink);
        drop_if_idle(client);
      }
    }));
  }
  if (!client->in.valid()) return {};
  if (!input_.valid()) {
    client->in.reset();  // the container has no standard input, or it has been closed
    return {};
  }
  FLUYT_TRY(sys::set_nonblocking(client->in, true));
  FLUYT_TRY(loop_.epoll().add(client->in, input_waits_ ? 0U : static_cast<uint32_t>(EPOLLIN),
                              [this, client](uint32_t) { on_client_input(client); }));
  client->in_watched = true;
  return {};
}

void ContainerIo::on_client_input(ClientIt client) {
  std::array<char, kReadBytes> buffer;
  if (input_waits_) {
    // Asked for nothing: only an error or a hang-up gets here. What it holds is read later, unless
    // the container takes nothing any more.
    loop_.epoll().remove(client->in);
    client->in_watched = false;
    return;
  }
  const ssize_t got = ::read(client->in.raw(), buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    end_client_input(client);
    if (stdin_once_ == StdinOnce::kYes && !terminal_) close_input();
    drop_if_idle(client);
    return;
  }
  input_backlog_.assign(buffer.data(), static_cast<size_t>(got));
  write_input();
}

void ContainerIo::write_input() {
  while (!input_backlog_.empty()) {
    const ssize_t put = ::write(input_.raw(), input_backlog_.data(), input_backlog_.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return pause_input(true);
    if (put < 0 && errno == EIO && terminal_) break;  // nobody has it open to read this
    if (put < 0) return close_input();
    input_backlog_.erase(0, static_cast<size_t>(put));
  }
  input_backlog_ = std::string();
  pause_input(false);
}

// While the container does not take its input, no client's is read.
void ContainerIo::pause_input(bool pause) {
  if (pause == input_waits_) return;
  input_waits_ = pause;
  if (pause) {
    auto added = loop_.epoll().add(input_, EPOLLOUT, [this](uint32_t) { write_input(); });
    if (!added.ok()) return close_input();
  } else {
    loop_.epoll().remove(input_);
  }
  for (auto it = clients_.begin(); it != clients_.end(); ++it) {
    if (!it->in.valid()) continue;
    if (it->in_watched) {
      loop_.epoll()
          .change(it->in, pause ? 0U : static_cast<uint32_t>(EPOLLIN))
          .ignore("the watch exists");
    } else if (!pause) {
      it->in_watched =
          loop_.epoll().add(it->in, EPOLLIN, [this, it](uint32_t) { on_client_input(it); }).ok();
    }
  }
}

void ContainerIo::close_input() {
  if (input_.valid() && input_waits_) loop_.epoll().remove(input_);
  input_waits_ = false;
  input_.reset();
  input_backlog_ = std::string();
  for (auto it = clients_.begin(); it != clients_.end(); ++it) end_client_input(it);
}

void ContainerIo::end_client_input(ClientIt client) {
  if (client->in.valid() && client->in_watched) loop_.epoll().remove(client->in);
  client->in_watched = false;
  client->in.reset();
}

void ContainerIo::drop_sink(Sink& sink) {
  if (sink.fd.valid()) loop_.epoll().remove(sink.fd);
  sink = Sink();
}

void ContainerIo::drop_client(ClientIt client) {
  const bool had_input = client->in.valid();
  end_client_input(client);
  drop_sink(client->out);
  drop_sink(client->err);
  clients_.erase(client);
  // The one client whose input there was to be has gone.
  if (had_input && stdin_once_ == StdinOnce::kYes && !terminal_ && input_.valid()) close_input();
}

void ContainerIo::drop_if_idle(ClientIt client) {
  if (!client->in.valid() && !client->out.fd.valid() && !client->err.fd.valid())
    clients_.erase(client);
}

HandoverStreams ContainerIo::hand_over() const {
  HandoverStreams streams;
  streams.terminal = terminal_;
  streams.outputs = {output_[0].fd.raw(), output_[1].fd.raw()};
  streams.input = input_.raw();
  streams.stdin_once = stdin_once_ == StdinOnce::kYes;
  streams.input_backlog = input_backlog_;
  if (log_) {
    LogFile::State log = log_->state();
    streams.log = log_->file().raw();
    streams.unfinished_lines = std::move(log.unfinished_lines);
    streams.dropped_bytes = log.dropped_bytes;
    streams.torn = log.torn;
  }
  for (const Client& client : clients_) {
    streams.clients.push_back({client.in.raw(), client.out.fd.raw(), client.err.fd.raw(),
                               client.out.backlog, client.err.backlog});
  }
  return streams;
}

std::unique_ptr<ContainerIo> ContainerIo::take_over(Loop& loop, HandoverStreams streams) {
  std::optional<LogFile> log;
  if (streams.log != kNoFd) {
    log.emplace(sys::Fd(streams.log), LogFile::State{std::move(streams.unfinished_lines),
                                                     streams.dropped_bytes, streams.torn});
  }
  auto io = std::make_unique<ContainerIo>(loop, Streams{}, std::move(log),
                                          streams.stdin_once ? StdinOnce::kYes : StdinOnce::kNo);
  io->terminal_ = streams.terminal;
  for (size_t i = 0; i < streams.outputs.size(); ++i)
    io->output_[i].fd = sys::Fd(streams.outputs[i]);
  io->input_ = sys::Fd(streams.input);
  io->input_backlog_ = std::move(streams.input_backlog);
  return io;
}

Result<> ContainerIo::take_over_clients(const HandoverStreams& streams) {
  for (const auto& from : streams.clients) {
    const auto client = clients_.emplace(clients_.end());
    client->in = sys::Fd(from.in);
    client->out.fd = sys::Fd(from.out);
    client->err.fd = sys::Fd(from.err);
    client->out.backlog = from.out_backlog;
    client->err.backlog = from.err_backlog;
    FLUYT_TRY(watch_client(client));
    for (Sink* sink : {&client->out, &client->err}) {
      if (!sink->backlog.empty()) watch_sink(*sink);
    }
  }
  if (!input_backlog_.empty()) write_input();
  return {};
}

Result<> ContainerIo::resize(uint16_t height, uint16_t width) {
  if (!terminal_) return Error(Code::kFailedPrecondition, "the container has no terminal");
  if (!output_[0].fd.valid()) return {};  // it has ended
  winsize size{};
  size.ws_row = height;
  size.ws_col = width;
  if (ioctl(output_[0].fd.raw(), TIOCSWINSZ, &size) != 0)
    return Error::from_errno(errno, "ioctl(TIOCSWINSZ)");
  return {};
}

void ContainerIo::replace_log(sys::Fd file) {
  if (log_) log_->replace(std::move(file));
}

}  // namespace fluyt::monitor
