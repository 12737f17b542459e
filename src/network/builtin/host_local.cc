#include "network/builtin/host_local.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::network::host_local {

namespace {

constexpr size_t kMaxLeaseBytes = 4096;
constexpr size_t kMaxResolvConf = 1U << 20U;

// flock(2) of DIR/lock, as the program takes it. Somebody may hold it for long: not for us.
Result<sys::Fd> lock_folder(const sys::Fd& folder, Deadline deadline) {
  sys::Fd lock = FLUYT_TRY(sys::open(folder, "lock", O_CREAT | O_RDONLY, 0750));
  for (useconds_t pause = 100; ::flock(lock.raw(), LOCK_EX | LOCK_NB) != 0;) {
    if (errno != EWOULDBLOCK && errno != EINTR) return Error::from_errno(errno, "flock(lock)");
    if (deadline.passed()) {
      return Error(Code::kDeadlineExceeded, "lock: held by another program until the deadline");
    }
    ::usleep(pause);
    pause = std::min<useconds_t>(pause * 2, 20'000);
  }
  return lock;
}

struct Folder {
  sys::Fd fd;
  sys::Fd lock;
  std::set<Address> taken;
};

Result<Folder> open_folder(const Config& config, Deadline deadline) {
  FLUYT_TRY(sys::make_dirs(config.folder, 0755));
  Folder folder;
  folder.fd = FLUYT_TRY(sys::open(config.folder, O_RDONLY | O_DIRECTORY));
  folder.lock = FLUYT_TRY(lock_folder(folder.fd, deadline));
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder.fd))) {
    if (auto address = find_address(name)) folder.taken.insert(std::move(*address));
  }
  return folder;
}

std::string content_of(const Owner& owner) { return cat(owner.container_id, "\r\n", owner.device); }

// Old versions of the program wrote no device.
bool belongs(const Folder& folder, const Address& address, const Owner& owner) {
  const auto text = sys::read_file(folder.fd, address.text(), kMaxLeaseBytes);
  if (!text.ok()) return false;
  const std::string_view content = trim(*text);
  return content == content_of(owner) || content == owner.container_id;
}

std::vector<Address> owned(const Folder& folder, const Owner& owner) {
  std::vector<Address> out;
  for (const Address& address : folder.taken) {
    if (belongs(folder, address, owner)) out.push_back(address);
  }
  return out;
}

Result<> reserve(Folder& folder, const Address& address, size_t set, const Owner& owner) {
  const std::string name = address.text();
  const sys::Fd file = FLUYT_TRY(sys::open(folder.fd, name, O_CREAT | O_EXCL | O_WRONLY, 0600));
  auto written = sys::write_all(file, content_of(owner));
  if (!written.ok()) {
    sys::remove_file(folder.fd, name).ignore("what failed before it is told");
    return written;
  }
  folder.taken.insert(address);
  const sys::Fd last = FLUYT_TRY(
      sys::open(folder.fd, cat("last_reserved_ip.", set), O_CREAT | O_TRUNC | O_WRONLY, 0600));
  return sys::write_all(last, name);
}

Address last_reserved(const Folder& folder, size_t set) {
  const auto text = sys::read_file(folder.fd, cat("last_reserved_ip.", set), kMaxLeaseBytes);
  if (!text.ok()) return {};
  return find_address(trim(*text)).value_or(Address());
}

std::string text_of_set(const RangeSet& set) {
  std::vector<std::string> parts;
  parts.reserve(set.size());
  for (const Range& range : set) parts.push_back(cat(range.first.text(), "-", range.last.text()));
  return join(parts, ",");
}

Result<Json> give_all(Folder& folder, const Config& config, const Owner& owner) {
  Json ips = Json::array();
  for (size_t i = 0; i < config.ranges.size(); ++i) {
    const auto choice = choose(config.ranges[i], last_reserved(folder, i), folder.taken);
    if (!choice) {
      return Error(Code::kResourceExhausted, cat("no IP addresses available in range set ", i, ": ",
                                                 text_of_set(config.ranges[i])));
    }
    FLUYT_TRY_CONTEXT(reserve(folder, choice->address, i, owner), choice->address.text());
    ips.push_back({{"address", Prefix{choice->address, choice->range->subnet.length}.text()},
                   {"gateway", choice->range->gateway.text()}});
  }
  return ips;
}

}  // namespace

Result<Given> add(const Config& config, const Owner& owner, Deadline deadline) {
  Given given{.ips = {}, .routes = config.routes, .dns = Json::object()};
  if (!config.resolv_conf.empty()) {
    given.dns = parse_resolv_conf(
        FLUYT_TRY_CONTEXT(sys::read_file(config.resolv_conf, kMaxResolvConf), "ipam.resolvConf"));
  }
  Folder folder = FLUYT_TRY_CONTEXT(open_folder(config, deadline), config.folder);
  if (const auto before = owned(folder, owner); !before.empty()) {
    return Error(Code::kAlreadyExists,
                 cat(before[0].text(), " in ", config.folder, " is this sandbox's already"));
  }
  auto ips = give_all(folder, config, owner);
  if (!ips.ok()) {
    for (const Address& address : owned(folder, owner)) {
      sys::remove_file(folder.fd, address.text()).ignore("what failed before it is told");
    }
    return std::move(ips).error().add_context(config.folder);
  }
  given.ips = std::move(*ips);
  return given;
}

Result<> check(const Config& config, const Owner& owner, Deadline deadline) {
  const Folder folder = FLUYT_TRY_CONTEXT(open_folder(config, deadline), config.folder);
  if (!owned(folder, owner).empty()) return {};
  return Error(Code::kFailedPrecondition,
               cat("ipam: no address in ", config.folder, " is this sandbox's"));
}

Result<> remove(const Config& config, const Owner& owner, Deadline deadline) {
  if (!sys::exists(config.folder)) return {};
  const Folder folder = FLUYT_TRY_CONTEXT(open_folder(config, deadline), config.folder);
  for (const Address& address : owned(folder, owner)) {
    FLUYT_TRY_CONTEXT(sys::remove_file(folder.fd, address.text()), config.folder);
  }
  return {};
}

Result<> collect(const Config& config, const std::set<std::string>& valid,
                 std::vector<std::string>* leftovers, Deadline deadline) {
  if (!sys::exists(config.folder)) return {};
  const Folder folder = FLUYT_TRY_CONTEXT(open_folder(config, deadline), config.folder);
  for (const Address& address : folder.taken) {
    const bool stays = std::any_of(valid.begin(), valid.end(), [&](const std::string& name) {
      const size_t slash = name.find('/');
      return belongs(folder, address, {name.substr(0, slash), name.substr(slash + 1)});
    });
    if (stays) continue;
    if (leftovers != nullptr) {
      leftovers->push_back(cat("lease ", config.folder, "/", address.text()));
    } else {
      FLUYT_TRY_CONTEXT(sys::remove_file(folder.fd, address.text()), config.folder);
    }
  }
  return {};
}

}  // namespace fluyt::network::host_local
