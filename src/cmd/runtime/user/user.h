#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "oci/runtime_spec.h"

/// Who a program is to be, as a command line says it.
namespace fluyt::commands {

/// The highest id that a container may have; -1 means "unchanged" to the kernel, and half of what
/// reads ids takes them for signed.
inline constexpr uint32_t kMaxId = 0x7ffffffe;

/// A whole decimal number and nothing else: "1" is id 1, never 0 (CVE-2026-30892). `option` names
/// it in the error.
Result<uint32_t> parse_id(std::string_view text, std::string_view option);

/// "UID" or "UID:GID" into `user`; without a GID its own stays. On an error `user` is as it was.
Result<> set_user(std::string_view text, oci::User& user);

}  // namespace fluyt::commands
