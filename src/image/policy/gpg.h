#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace fluyt::image::policy {

/// An OpenPGP key as gpgv reads it: binary, out of its ASCII armor (RFC 4880 §6) where it is in
/// one.
Result<std::string> dearmor(std::string_view key);

/// Checks an OpenPGP signed message with `program` (gpgv) against `keyrings`, each binary, and
/// returns what was signed. Exactly one signature, valid, of a key that has neither run out nor
/// been revoked; anything else is kPermissionDenied with gpgv's own words. It has 20 s, and until
/// `deadline`.
Result<std::string> open_signed_message(const std::string& program,
                                        const std::vector<std::string>& keyrings,
                                        std::string_view message, Deadline deadline);

}  // namespace fluyt::image::policy
