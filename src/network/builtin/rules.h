#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/builtin/address.h"

/// The packet rules of sandboxes as values, and as text for nft(8). They are few and the same for
/// all sandboxes, in one table of ours; what belongs to a sandbox are elements of the table's maps,
/// each with the sandbox's name as its comment. So a sandbox comes and goes in one transaction
/// however many ports it has, a packet costs a look-up however many sandboxes there are, and what
/// belongs to whom is found again in the kernel.
///
///   prerouting, output: to one of our addresses? -> hostports: address or any, protocol and port
///                       -> the sandbox's address and port
///   postrouting:        translated like that, by us? -> masqueraded where the answer would not
///   come back
///                       this way: from 127.0.0.1, from the sandbox's own subnet, or always
///                       from a sandbox that wants it -> masqueraded outside of its subnet
namespace fluyt::network {

inline constexpr std::string_view kTable = "inet fluyt_cni";

struct Element {
  std::string map;
  std::string key;      // "10.88.0.2 . 6 . 80"
  std::string value;    // "10.88.0.2 . 80", "jump masq-10.88.0.0-16"
  std::string comment;  // whose it is
  bool operator==(const Element&) const = default;
};

struct Rules {
  std::vector<std::string> chains;  // commands that make chains shared by a subnet, idempotent
  std::vector<Element> elements;
};

/// What comes from `address` and leaves its subnet gets the address of this host.
void add_masquerade(const Prefix& address, const std::string& owner, Rules& rules);

struct HostPort {
  int protocol = 6;             // IPPROTO_TCP, _UDP, _SCTP
  std::optional<Address> host;  // nothing: every local address
  uint16_t host_port = 0;
  uint16_t container_port = 0;
};
enum class Snat {
  kNever,
  kWhereNeeded,  // from 127.0.0.1 and from the same subnet
  kAlways,
};
/// Ports whose `host` is of the other family are left out.
void add_host_ports(const Prefix& address, const std::vector<HostPort>& ports, Snat snat,
                    const std::string& owner, Rules& rules);

/// The table with its maps, chains and rules; what is there of it stays or is replaced by the same.
std::string table_text();
/// Makes the chains that the elements jump to, or replaces them by the same.
std::string chains_text(const Rules& rules);
/// Adds; an element that is there already is an error of nft.
std::string elements_text(const std::vector<Element>& elements);
std::string delete_text(const std::vector<Element>& elements);

/// All elements of the table from what `nft -j list table` prints.
Result<std::vector<Element>> parse_elements(std::string_view json);

}  // namespace fluyt::network
