#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// SELinux labels as values: what a policy says of containers, and what pods and containers make of
/// it. Pure: whether the loaded policy knows a label is for the kernel to say.
namespace fluyt::spec {

/// "user:role:type", and ":level" where the policy has levels: "s0:c1,c2", or a range of two.
struct SelinuxContext {
  std::string user;
  std::string role;
  std::string type;
  std::string level;
  std::string text() const;
  bool operator==(const SelinuxContext&) const = default;
};
/// kInvalidArgument unless it has three words, or four, of which the last may hold colons.
Result<SelinuxContext> parse_selinux_context(std::string_view text);

/// What a container's program runs under, and what the files have that it may use.
struct SelinuxLabels {
  SelinuxContext process;
  SelinuxContext file;
  bool operator==(const SelinuxLabels&) const = default;
};

/// What somebody asks for. Empty words: those of whoever is above, the pod or the policy.
struct SelinuxOptions {
  std::string user;
  std::string role;
  std::string type;
  std::string level;
  bool operator==(const SelinuxOptions&) const = default;
};

/// The policy that /etc/selinux/config chooses (SELINUXTYPE); "targeted" where it says nothing, as
/// for libselinux.
std::string selinux_policy_of(std::string_view config);
/// `process` and `file` of a policy's contexts/lxc_contexts. What it leaves out is container_t and
/// container_file_t.
Result<SelinuxLabels> parse_container_contexts(std::string_view text);

/// "s0", "s0:c1,c5.c7", or two of such with "-" between.
bool is_selinux_level(std::string_view text);
/// `above` with what is asked for: user and level are the files' too. kInvalidArgument names the
/// word, one too that makes the files' label longer than a mount takes, 255 bytes.
Result<SelinuxLabels> selinux_labels(SelinuxLabels above, const SelinuxOptions& asked);

}  // namespace fluyt::spec
