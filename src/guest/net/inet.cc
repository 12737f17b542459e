#include "guest/net/inet.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "guest/net/binder.h"
#include "guest/net/outside.h"
#include "guest/net/ping.h"
#include "guest/net/stream.h"
#include "guest/net/udp.h"

namespace fluyt::guest {
namespace {

constexpr int kWhatever = 0x7fffffff;
constexpr int kLoopbackMtu = 65536;
// tcp_wmem and tcp_rmem, where a socket begins.
constexpr int kSendBuffer = 16384;
constexpr int kReceiveBuffer = 131072;

constexpr OptionRule kTcpOptions[] = {
    {IPPROTO_TCP, TCP_NODELAY, OptionRule::kBool, 0, 1, 0},
    {IPPROTO_TCP, TCP_CORK, OptionRule::kBool, 0, 1, 0},
    {IPPROTO_TCP, TCP_KEEPIDLE, OptionRule::kRange, 1, 32767, 7200},
    {IPPROTO_TCP, TCP_KEEPINTVL, OptionRule::kRange, 1, 32767, 75},
    {IPPROTO_TCP, TCP_KEEPCNT, OptionRule::kRange, 1, 127, 9},
    {IPPROTO_TCP, TCP_SYNCNT, OptionRule::kRange, 1, 127, 6},
    {IPPROTO_TCP, TCP_LINGER2, OptionRule::kRange, -kWhatever, kWhatever, 60},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, OptionRule::kRange, -kWhatever, kWhatever, 0},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, OptionRule::kRange, 0, kWhatever, 0},
    {IPPROTO_TCP, TCP_QUICKACK, OptionRule::kBool, 0, 1, 1},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, OptionRule::kRange, 0, 1, 0},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, OptionRule::kRange, 0, kWhatever, 0},
    {IPPROTO_TCP, TCP_FASTOPEN, OptionRule::kRange, 0, kWhatever, 0},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, OptionRule::kRange, -kWhatever, kWhatever, 0}};

class TcpSocket final : public StreamSocket {
 public:
  TcpSocket(std::shared_ptr<Network> network, int family, int flags)
      : StreamSocket(network, family, SOCK_STREAM, IPPROTO_TCP, flags, Connection::Kind::kTcp),
        options_(network, family, SOCK_STREAM),
        binder_(*network, network->tcp, family, Binder::Protocol::kStream) {
    send_buffer_ = kSendBuffer;
    receive_buffer_ = kReceiveBuffer;
  }
  ~TcpSocket() override {
    // Those who wait for a place in the queue of connections are refused.
    stop_waiting(ECONNRESET);
    binder_.release(*this);
  }

  Errno bind(Caller& caller, const Places&, const SocketAddress& address) override {
    const Endpoint wanted = GUEST_TRY(parse_any(address));
    std::lock_guard lock(binding_);
    GUEST_TRY(binder_.bind(shared_from_this(), caller, wanted, reuse_address_.load(),
                           reuse_port_.load()));
    name_is(binder_.local());
    return kOk;
  }

  Errno connect(Caller& caller, const Places&, const SocketAddress& address) override {
    if (address.length < sizeof(uint16_t)) return Errno(EINVAL);
    if (address.family() == AF_UNSPEC) return disconnect();
    bool begun = false;
    if (const HostEndPtr end = outside()) return connect_again(caller, *end);
    {
      std::lock_guard lock(mutex_);
      switch (state_) {
        case State::kListening:
          return Errno(EISCONN);
        case State::kConnected:
          if (std::exchange(told_, true)) return Errno(EISCONN);
          return kOk;
        case State::kConnecting:
          if (error_ != 0) {
            state_ = State::kNew;
            return Errno(std::exchange(error_, 0));
          }
          begun = true;
          break;
        case State::kNew:
          break;
      }
    }
    if (!begun) {
      const Endpoint wanted = GUEST_TRY(parse_endpoint(address, family()));
      if (wanted.is_v4() && family() == AF_INET6 && binder_.v6_only()) return Errno(ENETUNREACH);
      const Endpoint to = destination(wanted);
      if (!is_ours(to) || is_beside(*network_, network_->tcp, to, true))
        return connect_outside(caller, to);
      {
        std::lock_guard lock(binding_);
        if (!binder_.bound()) {
          GUEST_TRY(binder_.bind(shared_from_this(), caller, source_for(to, 0), false, false));
          chosen_ = true;
        } else if (binder_.local().is_any()) {
          binder_.set_local(*this, source_for(to, 0));
        }
        name_is(binder_.local());
      }
      {
        std::lock_guard lock(mutex_);
        state_ = State::kConnecting;
        to_ = to;
        told_ = false;
        ids_ = ids_of(caller);
      }
      reach();
      // As if the answer came a little later, which is when Linux has it.
      if (nonblocking()) return Errno(EINPROGRESS);
    } else if (nonblocking()) {
      return Errno(EALREADY);
    }
    const Deadline deadline = send_deadline();
    const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, [&] {
      std::lock_guard lock(mutex_);
      return state_ != State::kConnecting || error_ != 0;
    });
    if (!waiting.ok())
      return waiting.value() == ETIMEDOUT ? Errno(EINPROGRESS) : waited(waiting, deadline);
    std::lock_guard lock(mutex_);
    if (error_ != 0) {
      if (state_ == State::kConnecting) state_ = State::kNew;
      return Errno(std::exchange(error_, 0));
    }
    told_ = true;
    return kOk;
  }

  Errno shutdown(int how) override {
    if (const HostEndPtr end = outside()) {
      if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
      return host::net_shut_down(end->fd(), how);
    }
    const bool was_listening = is_listening();
    GUEST_TRY(StreamSocket::shutdown(how));
    if (was_listening && how != SHUT_WR) {
      // Linux ends the listening; the port stays.
      stop_listening();
      stop_waiting(ECONNRESET);
      HostEndPtr closed;
      {
        std::lock_guard lock(mutex_);
        closed.swap(host_listener_);
      }
      queue_->wake_all();
    }
    return kOk;
  }

  Errno set_option(Caller& caller, int level, int option,
                   std::span<const std::byte> value) override {
    if (level == IPPROTO_IPV6 && option == kIpv6Only && family() == AF_INET6) {
      const int on = GUEST_TRY(as_number(value));
      std::lock_guard lock(binding_);
      if (binder_.bound()) return Errno(EINVAL);
      binder_.set_v6_only(on != 0);
      return kOk;
    }
    if (level == IPPROTO_TCP && option == TCP_CONGESTION) {
      std::string name(reinterpret_cast<const char*>(value.data()), value.size());
      name = name.c_str();
      return name == "cubic" || name == "reno" ? kOk : Errno(ENOENT);
    }
    if (level == IPPROTO_TCP && option == TCP_ULP) return Errno(ENOENT);
    if (level == IPPROTO_TCP && option == TCP_MAXSEG) {
      constexpr int kLeast = 88;
      constexpr int kMost = 32767;
      const int size = GUEST_TRY(as_number(value));
      if (size != 0 && (size < kLeast || size > kMost)) return Errno(EINVAL);
      if (size != 0) segment_ = size;
      return kOk;
    }
    if (level == SOL_SOCKET) {
      GUEST_TRY(StreamSocket::set_option(caller, level, option, value));
      if (const HostEndPtr end = outside()) pass_option(*end, option);
      return kOk;
    }
    if (level == IPPROTO_IP || level == IPPROTO_IPV6)
      GUEST_TRY(options_.set(caller, level, option, value));
    else if (!GUEST_TRY(keep_option(kTcpOptions, level, option, value)))
      return Errno(ENOPROTOOPT);
    const HostEndPtr end = outside();
    if (!end) return kOk;
    if (level != IPPROTO_TCP) {
      pass_options(*end);
      return kOk;
    }
    if (!passes_outside(option)) return kOk;
    return host::net_set_option(end->fd(), level, option, *kept_option(kTcpOptions, level, option));
  }

  ErrnoOr<std::vector<std::byte>> get_option(Caller& caller, int level, int option) override {
    if (level == IPPROTO_IPV6 && option == kIpv6Only && family() == AF_INET6)
      return from_number(binder_.v6_only() ? 1 : 0);
    if (level == IPPROTO_TCP && option == TCP_CONGESTION) {
      const char name[16] = "cubic";
      const auto bytes = std::as_bytes(std::span(name));
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    }
    if (level == IPPROTO_TCP && option == TCP_INFO) return information();
    if (level == IPPROTO_TCP && option == TCP_ULP) return std::vector<std::byte>();
    if (level == IPPROTO_TCP && option == TCP_MAXSEG) return from_number(segment_size());
    if ((level == IPPROTO_IP && option == IP_MTU) ||
        (level == IPPROTO_IPV6 && option == IPV6_MTU && family() == AF_INET6))
      return row().connected ? ErrnoOr<std::vector<std::byte>>(from_number(kLoopbackMtu))
                             : Errno(ENOTCONN);
    if (level == SOL_SOCKET) return StreamSocket::get_option(caller, level, option);
    if (level == IPPROTO_IP || (level == IPPROTO_IPV6 && family() == AF_INET6))
      return options_.get(level, option);
    const std::optional<int> kept = kept_option(kTcpOptions, level, option);
    if (!kept) return Errno(level == IPPROTO_TCP ? ENOPROTOOPT : EOPNOTSUPP);
    return from_number(*kept);
  }

  Row row() override {
    Row row;
    row.peer = row.local = binder_.any();
    {
      std::lock_guard lock(mutex_);
      if (name_)
        if (ErrnoOr<Endpoint> at = parse_endpoint(*name_, family()); at.ok()) row.local = *at;
    }
    row.state = 7;  // CLOSE
    int side = 0;
    if (outside()) {
      row.state = 1;
      row.connected = true;
      for (auto [from, to] : {std::pair(name(), &row.local), std::pair(peer_name(), &row.peer)})
        if (from.ok())
          if (ErrnoOr<Endpoint> parsed = parse_endpoint(*from, family()); parsed.ok())
            *to = *parsed;
      return row;
    }
    const std::shared_ptr<Connection> at = connection(&side);
    if (at) {
      std::lock_guard lock(at->mutex);
      const Connection::Side& me = at->sides[side];
      const Connection::Side& other = at->sides[1 - side];
      const bool finished = !other.open || !other.sends;
      if (me.reset)
        row.state = 7;
      else if (finished)
        row.state = me.sends ? 8 : 9;  // CLOSE_WAIT, LAST_ACK
      else
        row.state = me.sends ? 1 : 5;  // ESTABLISHED, FIN_WAIT2
      row.connected = true;
      row.waiting = me.inbox.bytes();
      if (ErrnoOr<Endpoint> peer = parse_endpoint(other.name, other.name.family()); peer.ok())
        row.peer = *peer;
      return row;
    }
    std::lock_guard lock(mutex_);
    row.listening = state_ == State::kListening;
    if (row.listening) {
      row.state = 10;
      row.waiting = backlog_.size();
    } else if (state_ == State::kConnecting) {
      row.state = 2;
      row.peer = to_;
    }
    return row;
  }

 protected:
  std::shared_ptr<StreamSocket> make_accepted(int flags) override {
    auto made = std::make_shared<TcpSocket>(network_, family(), flags);
    made->reuse_address_ = reuse_address_.load();
    made->reuse_port_ = reuse_port_.load();
    made->linger_ = linger_.load();
    made->linger_s_ = linger_s_.load();
    made->send_buffer_ = send_buffer_.load();
    made->receive_buffer_ = receive_buffer_.load();
    made->send_sized_ = send_sized_.load();
    made->receive_sized_ = receive_sized_.load();
    made->told_ = true;
    made->binder_.set_v6_only(binder_.v6_only());
    made->options_.copy_from(options_);
    made->segment_ = segment_.load();
    return made;
  }
  Errno prepare_listen(Caller& caller, int backlog) override {
    std::lock_guard lock(binding_);
    if (!binder_.bound()) {
      GUEST_TRY(binder_.bind(shared_from_this(), caller, binder_.any(), reuse_address_.load(),
                             reuse_port_.load()));
      name_is(binder_.local());
    }
    GUEST_TRY(binder_.ports().listen(*this));
    return listen_outside(backlog);
  }
  ErrnoOr<Accepted> accept_outside(int flags) override {
    if (!host_listener_) return Errno(EAGAIN);
    host::NetAddress peer;
    sys::Fd fd = GUEST_TRY(host::net_accept(host_listener_->fd(), &peer));
    auto made = std::make_shared<TcpSocket>(network_, family(), flags);
    HostEndPtr end = GUEST_TRY(network_->outside->adopt(std::move(fd), made->queue_));
    made->told_ = true;
    made->outside_ = std::move(end);
    const Endpoint from = GUEST_TRY(endpoint_of(peer));
    return Accepted{std::move(made), shown(from, family())};
  }
  void room_made() override {
    while (const std::shared_ptr<TcpSocket> next = next_waiting()) next->reach();
  }
  SocketAddress unnamed() const override { return shown(binder_.any(), family()); }

 private:
  /// Linux takes AF_UNSPEC with the unspecified address for AF_INET (bind(2) of old programs).
  ErrnoOr<Endpoint> parse_any(const SocketAddress& address) const {
    if (family() == AF_INET && address.length >= sizeof(sockaddr_in) &&
        address.family() == AF_UNSPEC) {
      SocketAddress as_inet = address;
      const uint16_t inet = AF_INET;
      std::memcpy(as_inet.bytes.data(), &inet, sizeof inet);
      const Endpoint at = GUEST_TRY(parse_endpoint(as_inet, AF_INET));
      if (at.is_any()) return at;
      return Errno(EAFNOSUPPORT);
    }
    return parse_endpoint(address, family());
  }
  /// What a segment carries: over loopback as much as its device takes, less the headers.
  int segment_size() {
    constexpr int kUnconnected = 536;
    constexpr int kLoopback = 65483;
    if (segment_ != 0) return segment_;
    return row().connected ? kLoopback : kUnconnected;
  }
  ErrnoOr<std::vector<std::byte>> information() {
    tcp_info info{};
    if (const HostEndPtr end = outside()) {
      const size_t length = GUEST_TRY(host::net_get_bytes(
          end->fd(), IPPROTO_TCP, TCP_INFO, std::as_writable_bytes(std::span(&info, 1))));
      const auto bytes = std::as_bytes(std::span(&info, 1)).first(length);
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    }
    const Row now = row();
    info.tcpi_state = static_cast<uint8_t>(now.state);
    info.tcpi_options = now.connected ? TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE : 0;
    info.tcpi_snd_wscale = info.tcpi_rcv_wscale = now.connected ? 7 : 0;
    info.tcpi_rto = now.connected ? 200'000 : 1'000'000;
    info.tcpi_ato = now.connected ? 40'000 : 0;
    info.tcpi_snd_mss = static_cast<uint32_t>(segment_size());
    info.tcpi_rcv_mss = info.tcpi_snd_mss;
    info.tcpi_advmss = now.connected ? 65483 : 0;
    info.tcpi_pmtu = now.connected ? kLoopbackMtu : 0;
    info.tcpi_rtt = now.connected ? 20 : 0;
    info.tcpi_rttvar = now.connected ? 10 : 250'000;
    info.tcpi_snd_ssthresh = kWhatever;
    info.tcpi_snd_cwnd = 10;
    info.tcpi_reordering = 3;
    info.tcpi_rcv_space = 65483;
    if (now.listening) {
      // Of a listener Linux tells its queue here.
      info.tcpi_unacked = static_cast<uint32_t>(now.waiting);
      std::lock_guard lock(mutex_);
      info.tcpi_sacked = backlog_limit_ == 0 ? 0 : static_cast<uint32_t>(backlog_limit_ - 1);
    }
    const auto bytes = std::as_bytes(std::span(&info, 1));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  }
  HostEndPtr outside() {
    std::lock_guard lock(mutex_);
    return outside_;
  }
  uint32_t request_flags() const {
    using host::NetRequest;
    return (reuse_address_ ? NetRequest::kReuseAddress : 0U) |
           (reuse_port_ ? NetRequest::kReusePort : 0U) |
           (binder_.v6_only() ? NetRequest::kV6Only : 0U);
  }
  /// What is open to all is open to those outside as well.
  Errno listen_outside(int backlog) {
    const Endpoint local = binder_.local();
    if (network_->outside == nullptr || host_listener_) return kOk;
    if (local.is_loopback() && !network_->shares_loopback) return kOk;
    host::NetRequest request;
    request.op = host::NetRequest::kListen;
    request.type = SOCK_STREAM;
    request.flags = request_flags() | host::NetRequest::kReuseAddress;
    request.backlog = backlog;
    HostEndPtr end = GUEST_TRY(network_->outside->make(request, &local, nullptr, queue_));
    pass_options(*end);  // who is accepted has them from there
    std::lock_guard lock(mutex_);
    host_listener_ = std::move(end);
    return kOk;
  }
  Errno connect_outside(Caller& caller, const Endpoint& to) {
    if (network_->outside == nullptr) return Errno(ENETUNREACH);
    host::NetRequest request;
    request.op = host::NetRequest::kConnect;
    request.type = SOCK_STREAM;
    request.flags = request_flags();
    std::optional<Endpoint> local;
    {
      std::lock_guard lock(binding_);
      if (binder_.bound()) local = binder_.local();
    }
    if (local && local->is_loopback() && !network_->shares_loopback) return Errno(EINVAL);
    HostEndPtr end =
        GUEST_TRY(network_->outside->make(request, local ? &*local : nullptr, &to, queue_));
    {
      std::lock_guard lock(mutex_);
      outside_ = end;
      told_ = false;
    }
    pass_options(*end);
    if (nonblocking()) return Errno(EINPROGRESS);
    return connect_again(caller, *end);
  }
  /// How it goes on: not yet, done (said once), or failed.
  Errno connect_again(Caller& caller, HostEnd& end) {
    const Deadline deadline = send_deadline();
    const auto settled = [&end] { return (end.ready() & (POLLOUT | POLLERR | POLLHUP)) != 0; };
    if (!settled()) {
      if (nonblocking()) return Errno(EALREADY);
      const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, settled);
      if (!waiting.ok())
        return waiting.value() == ETIMEDOUT ? Errno(EINPROGRESS) : waited(waiting, deadline);
    }
    const int error = host::net_error(end.fd());
    std::lock_guard lock(mutex_);
    if (error != 0) {
      outside_.reset();
      return Errno(error);
    }
    return std::exchange(told_, true) ? Errno(EISCONN) : kOk;
  }
  /// One of SOL_SOCKET, as it is set here.
  void pass_option(HostEnd& end, int option) {
    const auto pass = [&end](int which, int value) {
      host::net_set_option(end.fd(), SOL_SOCKET, which, value).ignore("what only tunes may fail");
    };
    switch (option) {
      case SO_KEEPALIVE:
        return pass(SO_KEEPALIVE, keeps_alive() ? 1 : 0);
      // The host doubles them as we have done.
      case SO_SNDBUF:
      case SO_SNDBUFFORCE:
        return pass(SO_SNDBUF, send_buffer_ / 2);
      case SO_RCVBUF:
      case SO_RCVBUFFORCE:
        return pass(SO_RCVBUF, receive_buffer_ / 2);
      case SO_LINGER: {
        // That a close resets. One that waits would hold up the sentry's thread: it does not wait.
        const struct linger abort{.l_onoff = linger_ && linger_s_ == 0 ? 1 : 0, .l_linger = 0};
        host::net_set_bytes(end.fd(), SOL_SOCKET, SO_LINGER, std::as_bytes(std::span(&abort, 1)))
            .ignore("what only tunes may fail");
        return;
      }
      default:
        return;
    }
  }
  /// Options that were set before there was anything to tune.
  void pass_options(HostEnd& end) {
    if (keeps_alive()) pass_option(end, SO_KEEPALIVE);
    if (send_buffer_ != kSendBuffer) pass_option(end, SO_SNDBUF);
    if (receive_buffer_ != kReceiveBuffer) pass_option(end, SO_RCVBUF);
    if (linger_) pass_option(end, SO_LINGER);
    for (const OptionRule& kept : kTcpOptions)
      if (passes_outside(kept.option))
        if (const std::optional<int> value = kept_option(kTcpOptions, kept.level, kept.option);
            value && *value != kept.initial)
          host::net_set_option(end.fd(), kept.level, kept.option, *value)
              .ignore("what only tunes may fail");
    for (const PacketOptions::Setting& one : options_.for_host())
      host::net_set_bytes(end.fd(), one.level, one.option, one.value)
          .ignore("what only tunes may fail");
  }
  static bool passes_outside(int option) {
    return option == TCP_NODELAY || option == TCP_CORK || option == TCP_KEEPIDLE ||
           option == TCP_KEEPINTVL || option == TCP_KEEPCNT || option == TCP_USER_TIMEOUT;
  }

  void name_is(const Endpoint& at) {
    std::lock_guard lock(mutex_);
    name_ = shown(at, family());
  }

  /// Tries to enter the queue of whoever listens; waits there for a place when it is full.
  void reach() {
    Endpoint to;
    auto made = std::make_shared<Connection>(kind_, network_);
    {
      std::lock_guard lock(mutex_);
      if (state_ != State::kConnecting || error_ != 0) return;
      to = to_;
      made->sides[0].name = *name_;
      made->sides[0].queue = queue_;
      made->sides[0].ids = ids_;
    }
    made->sides[1].name = shown(to, family());
    size(*made, 0);
    const SocketPtr found = network_->tcp.find(to, true);
    auto* listener = static_cast<TcpSocket*>(found.get());
    // The listener shows addresses of its own family.
    const Endpoint from = parse_endpoint(made->sides[0].name, family()).value();
    auto offered = Errno(ECONNREFUSED);
    if (listener != nullptr) {
      made->sides[0].name = shown(from, listener->family());
      made->sides[1].name = shown(to, listener->family());
      offered = listener->offer(made);
      if (offered.value() == EAGAIN) {
        std::unique_lock lock(listener->waiting_mutex_);
        constexpr size_t kMostWaiting = 4096;
        if (listener->waiting_.size() < kMostWaiting) {
          listener->waiting_.push_back(std::static_pointer_cast<TcpSocket>(shared_from_this()));
          return;
        }
        offered = Errno(ETIMEDOUT);
      }
    }
    if (offered.ok()) {
      adopt(std::move(made), 0);
      std::lock_guard lock(mutex_);
      name_ = shown(from, family());
      peer_shown_ = shown(to, family());
    } else {
      std::lock_guard lock(mutex_);
      error_ = offered.value();
    }
    queue_->wake_all();
  }
  std::shared_ptr<TcpSocket> next_waiting() {
    {
      std::lock_guard lock(mutex_);
      if (backlog_.size() >= backlog_limit_) return nullptr;
    }
    std::lock_guard lock(waiting_mutex_);
    while (!waiting_.empty()) {
      std::shared_ptr<TcpSocket> next = waiting_.front().lock();
      waiting_.pop_front();
      if (next) return next;
    }
    return nullptr;
  }
  void stop_waiting(int error) {
    std::deque<std::weak_ptr<TcpSocket>> waiting;
    {
      std::lock_guard lock(waiting_mutex_);
      waiting.swap(waiting_);
    }
    for (const auto& weak : waiting) {
      const std::shared_ptr<TcpSocket> one = weak.lock();
      if (!one) continue;
      {
        std::lock_guard lock(one->mutex_);
        if (one->state_ == State::kConnecting) one->error_ = error;
      }
      one->queue_->wake_all();
    }
  }

  /// connect(2) to AF_UNSPEC: the association is dissolved.
  Errno disconnect() {
    std::shared_ptr<Connection> old;
    HostEndPtr closed[2];
    int side = 0;
    {
      std::lock_guard lock(mutex_);
      closed[0].swap(outside_);
      closed[1].swap(host_listener_);
      inbox_ = nullptr;
      old = std::move(connection_);
      connection_.reset();
      side = side_;
      state_ = State::kNew;
      error_ = 0;
      told_ = false;
    }
    stop_listening();
    if (old) old->close(side, true);
    std::lock_guard lock(binding_);
    if (chosen_) {
      binder_.release(*this);
      std::lock_guard guard(mutex_);
      name_.reset();
    }
    chosen_ = false;
    return kOk;
  }

 public:
  ErrnoOr<size_t> send(Caller& caller, const Places* places, const Outgoing& out) override {
    const HostEndPtr end = outside();
    if (!end) return StreamSocket::send(caller, places, out);
    if ((out.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
    const Deadline deadline = send_deadline();
    size_t done = 0;
    do {
      ErrnoOr<size_t> sent = Errno(EAGAIN);
      const auto attempt = [&] {
        sent = host::net_send(end->fd(), out.data.subspan(done), nullptr);
        return sent.ok() || sent.error().value() != EAGAIN;
      };
      if (!attempt()) {
        if (dont_wait(out.flags)) return done != 0 ? ErrnoOr<size_t>(done) : Errno(EAGAIN);
        const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, attempt);
        if (!waiting.ok()) return done != 0 ? ErrnoOr<size_t>(done) : waited(waiting, deadline);
      }
      if (!sent.ok()) return done != 0 ? ErrnoOr<size_t>(done) : sent.error();
      done += sent.value();
    } while (done < out.data.size());
    return done;
  }
  ErrnoOr<Incoming> receive(Caller& caller, std::span<std::byte> to, int flags) override {
    const HostEndPtr end = outside();
    if (!end) return StreamSocket::receive(caller, to, flags);
    if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
    if ((flags & MSG_OOB) != 0) return Errno(EINVAL);
    const Deadline deadline = receive_deadline();
    const bool peek = (flags & MSG_PEEK) != 0;
    Incoming in;
    for (;;) {
      ErrnoOr<host::NetReceived> got = Errno(EAGAIN);
      const auto attempt = [&] {
        got = host::net_receive(end->fd(), to.subspan(in.count), peek);
        return got.ok() || got.error().value() != EAGAIN;
      };
      if (!attempt()) {
        if (dont_wait(flags)) return in.count != 0 ? ErrnoOr<Incoming>(in) : Errno(EAGAIN);
        const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, attempt);
        if (!waiting.ok()) return in.count != 0 ? ErrnoOr<Incoming>(in) : waited(waiting, deadline);
      }
      if (!got.ok()) return in.count != 0 ? ErrnoOr<Incoming>(in) : got.error();
      in.count += got->count;
      in.whole = in.count;
      if (got->count == 0 || peek || (flags & MSG_WAITALL) == 0 || in.count == to.size()) return in;
    }
  }
  bool takes_back() override { return !outside(); }
  uint32_t ready(uint32_t wanted) override {
    HostEndPtr end;
    HostEndPtr listener;
    {
      std::lock_guard lock(mutex_);
      end = outside_;
      listener = host_listener_;
    }
    if (end) return end->ready();
    const uint32_t out = StreamSocket::ready(wanted);
    return listener && is_listening() ? out | (listener->ready() & (POLLIN | POLLRDNORM)) : out;
  }
  ErrnoOr<SocketAddress> name() override {
    const HostEndPtr end = outside();
    if (!end) return StreamSocket::name();
    const host::NetAddress at = GUEST_TRY(host::net_name(end->fd()));
    const Endpoint own = GUEST_TRY(endpoint_of(at));
    return shown(own, family());
  }
  int take_error() override {
    const HostEndPtr end = outside();
    return end ? host::net_error(end->fd()) : StreamSocket::take_error();
  }
  ErrnoOr<size_t> readable_bytes() override {
    const HostEndPtr end = outside();
    return end ? end->readable_bytes() : StreamSocket::readable_bytes();
  }
  ErrnoOr<SocketAddress> peer_name() override {
    if (const HostEndPtr end = outside()) {
      const host::NetAddress at = GUEST_TRY(host::net_peer(end->fd()));
      const Endpoint peer = GUEST_TRY(endpoint_of(at));
      return shown(peer, family());
    }
    {
      std::lock_guard lock(mutex_);
      if (peer_shown_ && connection_) {
        std::lock_guard guard(connection_->mutex);
        if (connection_->sides[side_].reset) return Errno(ENOTCONN);
        return *peer_shown_;
      }
    }
    return StreamSocket::peer_name();
  }

 private:
  PacketOptions options_;
  std::atomic<int> segment_{0};  // TCP_MAXSEG, if it was set
  mutable std::mutex binding_;   // before mutex_
  Binder binder_;
  bool chosen_ = false;  // the port was not asked for
  // Under mutex_:
  Endpoint to_;
  PeerIds ids_;
  bool told_ = false;  // connect said that it is connected
  std::optional<SocketAddress> peer_shown_;
  HostEndPtr outside_;        // connected beyond the sandbox
  HostEndPtr host_listener_;  // listens there as well
  std::mutex waiting_mutex_;
  std::deque<std::weak_ptr<TcpSocket>> waiting_;  // whose connections found no room
};

}  // namespace

ErrnoOr<SocketPtr> make_inet_socket(const std::shared_ptr<Network>& network, const Caller& caller,
                                    int family, int type, int protocol, int flags) {
  switch (type) {
    case SOCK_STREAM:
      if (protocol != 0 && protocol != IPPROTO_TCP) return Errno(EPROTONOSUPPORT);
      return SocketPtr(std::make_shared<TcpSocket>(network, family, flags));
    case SOCK_DGRAM:
      if (protocol == IPPROTO_UDPLITE)
        return make_udp_socket(network, family, flags, network->udp_lite, protocol);
      if (protocol == (family == AF_INET ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6}))
        return make_ping_socket(network, family, flags);
      if (protocol != 0 && protocol != IPPROTO_UDP) return Errno(EPROTONOSUPPORT);
      return make_udp_socket(network, family, flags, network->udp, IPPROTO_UDP);
    case SOCK_RAW:
      return Errno(caller.credentials.can(kCapNetRaw) ? EPROTONOSUPPORT : EPERM);
    default:
      return Errno(ESOCKTNOSUPPORT);
  }
}

}  // namespace fluyt::guest
