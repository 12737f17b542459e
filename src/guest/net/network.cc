#include "guest/net/network.h"

#include <algorithm>
#include <cstdio>
#include <unordered_set>

#include "guest/net/inbox.h"
#include "guest/net/outside.h"
#include "guest/net/socket.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {

Errno Budget::charge(size_t bytes) {
  if (used_.fetch_add(bytes) + bytes <= kMost) return kOk;
  used_.fetch_sub(bytes);
  return Errno(ENOBUFS);
}

void bury(std::vector<FilePtr> files) {
  thread_local std::vector<FilePtr>* grave = nullptr;
  if (files.empty()) return;
  if (grave != nullptr) {
    grave->insert(grave->end(), std::make_move_iterator(files.begin()),
                  std::make_move_iterator(files.end()));
    return;
  }
  grave = &files;
  while (!files.empty()) {
    FilePtr last = std::move(files.back());
    files.pop_back();
    last.reset();
  }
  grave = nullptr;
}

Errno Rights::attach(const Inbox& holder, const std::vector<FilePtr>& files) {
  std::lock_guard lock(mutex_);
  if (count_ + files.size() > kMost) return Errno(ETOOMANYREFS);
  count_ += files.size();
  for (const FilePtr& file : files)
    if (auto* socket = dynamic_cast<Socket*>(file.get())) holders_[socket].push_back(&holder);
  return kOk;
}

void Rights::detach(const Inbox& holder, const std::vector<FilePtr>& files) {
  std::lock_guard lock(mutex_);
  count_ -= files.size();
  for (const FilePtr& file : files) {
    auto* socket = dynamic_cast<Socket*>(file.get());
    if (socket == nullptr) continue;
    const auto found = holders_.find(socket);
    if (found == holders_.end()) continue;
    auto& list = found->second;
    if (const auto at = std::ranges::find(list, &holder); at != list.end()) list.erase(at);
    if (list.empty()) holders_.erase(found);
  }
}

size_t Rights::in_flight() {
  std::lock_guard lock(mutex_);
  return count_;
}

/// While the lock is held no file enters or leaves a queue, so that a socket whose references are
/// all in queues cannot be got hold of but through them.
std::vector<std::shared_ptr<Socket>> Rights::find_unreachable() {
  std::lock_guard lock(mutex_);
  std::unordered_map<const Inbox*, Socket*> reader;  // of sockets that only queues hold
  std::unordered_set<Socket*> reached;
  for (const auto& [socket, holders] : holders_) {
    if (socket->weak_from_this().use_count() > static_cast<long>(holders.size()))
      reached.insert(socket);
    else if (const Inbox* inbox = socket->inbox(); inbox != nullptr)
      reader[inbox] = socket;
  }
  const auto is_unreached = [&](const void* listener) {
    auto* socket = static_cast<Socket*>(const_cast<void*>(listener));
    return socket != nullptr && holders_.contains(socket) && !reached.contains(socket);
  };
  for (bool more = true; more;) {
    more = false;
    for (const auto& [socket, holders] : holders_) {
      if (reached.contains(socket)) continue;
      for (const Inbox* holder : holders) {
        const auto found = reader.find(holder);
        if (found != reader.end() && !reached.contains(found->second)) continue;
        // What nobody has accepted yet is read by who listens, if anybody.
        if (is_unreached(holder->listener())) continue;
        reached.insert(socket);
        more = true;
        break;
      }
    }
  }
  std::vector<std::shared_ptr<Socket>> out;
  for (const auto& [socket, holders] : holders_)
    if (!reached.contains(socket))
      if (std::shared_ptr<Socket> held = socket->weak_from_this().lock())
        out.push_back(std::move(held));
  collect_at_ = std::max<size_t>(64, 2 * (holders_.size() - out.size()));
  return out;
}

void Rights::collect() {
  {
    std::lock_guard lock(mutex_);
    if (holders_.size() < collect_at_ && count_ < kMost / 2) return;
  }
  for (const std::shared_ptr<Socket>& socket : find_unreachable()) socket->drop_received();
}

void Groups::join(const Endpoint& group, int device) {
  std::lock_guard lock(mutex_);
  ++counts_[{group.address, device}];
}

void Groups::leave(const Endpoint& group, int device) {
  std::lock_guard lock(mutex_);
  const auto found = counts_.find({group.address, device});
  if (found != counts_.end() && --found->second == 0) counts_.erase(found);
}

bool Groups::joined(const Endpoint& group, int device) {
  constexpr uint32_t kAllHosts = 0xe0000001;
  if (group.address == Endpoint::v4(kAllHosts, 0).address) return true;
  std::lock_guard lock(mutex_);
  return counts_.contains({group.address, device});
}

bool Ports::conflict(const Binding& a, const Binding& b) {
  const bool a_v4 = a.at.is_v4();
  const bool b_v4 = b.at.is_v4();
  bool overlap = false;
  if (a_v4 == b_v4) {
    overlap = a.at.is_any() || b.at.is_any() || a.at.address == b.at.address;
  } else {
    // An IPv6 socket at :: takes IPv4 too, unless told not to.
    const Binding& six = a_v4 ? b : a;
    overlap = six.at.is_any() && !six.v6_only;
  }
  if (!overlap) return false;
  if (a.reuse_port && b.reuse_port && a.uid == b.uid) return false;
  return !(a.reuse_address && b.reuse_address && !a.listening && !b.listening);
}

Errno Ports::bind(Binding& wanted) {
  constexpr uint16_t kFirst = 32768;
  constexpr uint32_t kCount = 60999 - kFirst + 1;
  std::lock_guard lock(mutex_);
  const auto is_free = [&](uint16_t port, bool sharing) {
    const auto [begin, end] = by_port_.equal_range(port);
    for (auto at = begin; at != end; ++at)
      if (!sharing || conflict(at->second, wanted)) return false;
    return true;
  };
  if (wanted.at.port == 0) {
    if (next_ == 0) host::fill_random(std::as_writable_bytes(std::span(&next_, 1)));
    uint32_t tried = 0;
    for (; tried < kCount; ++tried) {
      const auto port = static_cast<uint16_t>(kFirst + (next_ += 2) % kCount);
      if (!is_free(port, tried >= kCount / 2)) continue;
      wanted.at.port = port;
      break;
    }
    if (tried == kCount) {
      // Every second one was taken: any will do.
      for (uint32_t i = 0; i < kCount && wanted.at.port == 0; ++i)
        if (is_free(static_cast<uint16_t>(kFirst + i), true))
          wanted.at.port = static_cast<uint16_t>(kFirst + i);
      if (wanted.at.port == 0) return Errno(EADDRINUSE);
    }
  } else if (!is_free(wanted.at.port, true)) {
    return Errno(EADDRINUSE);
  }
  by_port_.emplace(wanted.at.port, wanted);
  return kOk;
}

void Ports::release(const Socket& socket) {
  std::lock_guard lock(mutex_);
  std::erase_if(by_port_, [&](const auto& entry) { return entry.second.socket == &socket; });
}

Errno Ports::listen(const Socket& socket) {
  std::lock_guard lock(mutex_);
  Binding* own = nullptr;
  for (auto& [port, binding] : by_port_)
    if (binding.socket == &socket) own = &binding;
  if (own == nullptr) return Errno(EINVAL);
  Binding wanted = *own;
  wanted.listening = true;
  const auto [begin, end] = by_port_.equal_range(own->at.port);
  for (auto at = begin; at != end; ++at)
    if (at->second.socket != &socket && at->second.listening && conflict(at->second, wanted))
      return Errno(EADDRINUSE);
  own->listening = true;
  return kOk;
}

void Ports::set_address(const Socket& socket, const Endpoint& at) {
  std::lock_guard lock(mutex_);
  for (auto& [port, binding] : by_port_)
    if (binding.socket == &socket) binding.at.address = at.address;
}

void Ports::set_peer(const Socket& socket, const std::optional<Endpoint>& peer) {
  std::lock_guard lock(mutex_);
  for (auto& [port, binding] : by_port_)
    if (binding.socket == &socket) binding.peer = peer;
}

namespace {
bool hears(const Ports::Binding& binding, const Endpoint& from) {
  return !binding.peer ||
         (binding.peer->address == from.address && binding.peer->port == from.port);
}
size_t hash_of(const Endpoint& at) {
  size_t out = 14695981039346656037U ^ at.port;
  for (const uint8_t byte : at.address) out = (out ^ byte) * 1099511628211U;
  return out ^ (out >> 32);
}
}  // namespace

std::vector<std::shared_ptr<Socket>> Ports::find_group(const Endpoint& to, const Endpoint& from) {
  std::vector<std::shared_ptr<Socket>> out;
  std::lock_guard lock(mutex_);
  const auto [begin, end] = by_port_.equal_range(to.port);
  for (auto at = begin; at != end; ++at) {
    const Binding& binding = at->second;
    const bool any = binding.at.is_any() &&
                     (binding.at.is_v4() == to.is_v4() || (to.is_v4() && !binding.v6_only));
    if ((!any && binding.at.address != to.address) || !hears(binding, from)) continue;
    if (std::shared_ptr<Socket> socket = binding.weak.lock()) out.push_back(std::move(socket));
  }
  return out;
}

std::shared_ptr<Socket> Ports::find(const Endpoint& to, bool listening, const Endpoint* from) {
  std::vector<std::shared_ptr<Socket>> best;
  std::vector<std::shared_ptr<Socket>> held;  // their end must wait until we let go
  std::lock_guard lock(mutex_);
  int best_score = 0;
  bool balances = false;
  const auto [begin, end] = by_port_.equal_range(to.port);
  for (auto at = begin; at != end; ++at) {
    const Binding& binding = at->second;
    if (listening && !binding.listening) continue;
    int score = 0;
    if (binding.at.address == to.address)
      score = 3;
    else if (binding.at.is_any() && binding.at.is_v4() == to.is_v4())
      score = 2;
    else if (binding.at.is_any() && !binding.at.is_v4() && to.is_v4() && !binding.v6_only)
      score = 1;
    if (from != nullptr && binding.peer) {
      constexpr int kConnected = 4;
      if (!hears(binding, *from)) continue;
      if (score != 0) score += kConnected;
    }
    if (score == 0 || score < best_score) continue;
    std::shared_ptr<Socket> socket = binding.weak.lock();
    if (!socket) continue;
    held.push_back(socket);
    if (score > best_score) best.clear();
    best_score = score;
    balances = binding.balances;
    best.push_back(std::move(socket));
  }
  if (best.empty()) return nullptr;
  if (!balances) return best.back();
  return best[best.size() == 1 ? 0 : (from != nullptr ? hash_of(*from) : turn_++) % best.size()];
}

std::vector<Ports::Binding> Ports::all() {
  std::lock_guard lock(mutex_);
  std::vector<Binding> out;
  for (const auto& [port, binding] : by_port_) out.push_back(binding);
  return out;
}

Network::Network() : interfaces{loopback()} {}
Network::~Network() = default;

bool Network::has_address(const Endpoint& at) const {
  for (const Interface& device : interfaces)
    for (const Interface::Address& address : device.addresses)
      if (address.at.address == at.address) return true;
  return false;
}

const Interface* Network::device(int index) const {
  const auto found = std::ranges::find(interfaces, index, &Interface::index);
  return found == interfaces.end() ? nullptr : &*found;
}

const Interface* Network::device_of(const Endpoint& address) const {
  if (address.is_loopback()) return device(1);
  for (const Interface& device : interfaces)
    for (const Interface::Address& one : device.addresses)
      if (one.at.address == address.address) return &device;
  return nullptr;
}

const Interface* Network::route_to(const Endpoint& to) const {
  const auto covers = [&](const Route& route) {
    if (route.to.is_v4() != to.is_v4()) return false;
    const size_t bits = route.prefix + (to.is_v4() ? 96U : 0U);
    for (size_t bit = 0; bit < std::min<size_t>(bits, 128); ++bit)
      if (((route.to.address[bit / 8] ^ to.address[bit / 8]) & (0x80U >> bit % 8)) != 0)
        return false;
    return true;
  };
  const Route* best = nullptr;
  for (const Route& route : routes)
    if (covers(route) && (best == nullptr || route.prefix > best->prefix ||
                          (route.prefix == best->prefix && route.metric < best->metric)))
      best = &route;
  if (best != nullptr) return device(best->index);
  // Linux has a route for IPv6's groups with every device but loopback.
  if (!to.is_v4() && to.is_multicast())
    for (const Interface& one : interfaces)
      if (one.index != 1 && std::ranges::any_of(one.addresses, [](const Interface::Address& at) {
            return !at.at.is_v4();
          }))
        return &one;
  return nullptr;
}

Errno Network::bind_abstract(const std::string& name, const std::shared_ptr<Socket>& socket) {
  std::lock_guard lock(mutex_);
  std::weak_ptr<Socket>& at = abstract_[name];
  if (!at.expired()) return Errno(EADDRINUSE);
  at = socket;
  return kOk;
}

std::shared_ptr<Socket> Network::find_abstract(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto found = abstract_.find(name);
  return found == abstract_.end() ? nullptr : found->second.lock();
}

void Network::release_abstract(const std::string& name) {
  std::lock_guard lock(mutex_);
  const auto found = abstract_.find(name);
  if (found != abstract_.end() && found->second.expired()) abstract_.erase(found);
}

std::string Network::new_abstract(const std::shared_ptr<Socket>& socket) {
  for (;;) {
    char text[8];
    {
      std::lock_guard lock(mutex_);
      std::snprintf(text, sizeof text, "%05x", next_abstract_++ & 0xfffff);
    }
    std::string name = std::string(1, '\0') + text;
    if (bind_abstract(name, socket).ok()) return name;
  }
}

void Network::enter(Socket& socket) {
  std::lock_guard lock(mutex_);
  sockets_[socket.number()] = &socket;
}

void Network::leave(Socket& socket) {
  std::lock_guard lock(mutex_);
  sockets_.erase(socket.number());
}

std::vector<std::shared_ptr<Socket>> Network::sockets() {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Socket>> out;
  for (const auto& [number, socket] : sockets_)
    if (std::shared_ptr<Socket> held = socket->weak_from_this().lock())
      out.push_back(std::move(held));
  return out;
}

size_t Network::count() {
  std::lock_guard lock(mutex_);
  return sockets_.size();
}

}  // namespace fluyt::guest
