#include "sys/iptables_legacy.h"

#include <arpa/inet.h>  // before the kernel's own, which then leave out what it has
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/strings.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

constexpr size_t kMaxTable = 64U << 20U;
constexpr int kDrop = -NF_DROP - 1;  // as a standard target writes a verdict

struct V4 {
  using Info = ipt_getinfo;
  using Entries = ipt_get_entries;
  using Entry = ipt_entry;
  static constexpr int kLevel = IPPROTO_IP;
  static constexpr int kInfo = IPT_SO_GET_INFO;
  static constexpr int kEntries = IPT_SO_GET_ENTRIES;
};
struct V6 {
  using Info = ip6t_getinfo;
  using Entries = ip6t_get_entries;
  using Entry = ip6t_entry;
  static constexpr int kLevel = IPPROTO_IPV6;
  static constexpr int kInfo = IP6T_SO_GET_INFO;
  static constexpr int kEntries = IP6T_SO_GET_ENTRIES;
};

// A chain's policy is the standard target of its last rule, whose place is its "underflow".
template <class Family>
Result<bool> forward_drops(const Fd& socket) {
  typename Family::Info info{};
  std::strcpy(info.name, "filter");
  socklen_t length = sizeof info;
  if (::getsockopt(socket.raw(), Family::kLevel, Family::kInfo, &info, &length) != 0) {
    return Error::from_errno(errno, "getsockopt(SO_GET_INFO, filter)");
  }
  if (info.size > kMaxTable) {
    return Error(Code::kResourceExhausted, cat("table filter has ", info.size, " bytes"));
  }
  std::string buffer(sizeof(typename Family::Entries) + info.size, '\0');
  typename Family::Entries head{};
  std::strcpy(head.name, "filter");
  head.size = info.size;
  memcpy(buffer.data(), &head, sizeof head);
  length = static_cast<socklen_t>(buffer.size());
  if (::getsockopt(socket.raw(), Family::kLevel, Family::kEntries, buffer.data(), &length) != 0) {
    return Error::from_errno(errno, "getsockopt(SO_GET_ENTRIES, filter)");
  }
  const size_t at = sizeof head + info.underflow[NF_INET_FORWARD];
  typename Family::Entry entry{};
  if (at + sizeof entry > buffer.size()) return false;
  memcpy(&entry, buffer.data() + at, sizeof entry);
  xt_standard_target target{};
  if (at + entry.target_offset + sizeof target > buffer.size()) return false;
  memcpy(&target, buffer.data() + at + entry.target_offset, sizeof target);
  return target.verdict == kDrop;
}

}  // namespace

Result<bool> legacy_forward_drops(uint8_t family) {
  const bool v4 = family == AF_INET;
  const auto names = read_file(
      v4 ? "/proc/thread-self/net/ip_tables_names" : "/proc/thread-self/net/ip6_tables_names",
      4096);
  if (!names.ok()) return false;  // no such kernel
  const auto tables = split(*names, '\n');
  if (std::find(tables.begin(), tables.end(), "filter") == tables.end()) return false;
  const Fd socket(::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket.valid()) return Error::from_errno(errno, "socket(SOCK_RAW)");
  return v4 ? forward_drops<V4>(socket) : forward_drops<V6>(socket);
}

}  // namespace fluyt::sys
