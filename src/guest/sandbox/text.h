#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "guest/sandbox/sandbox.h"

/// Requests as text (JSON), for the way from the command line into a sandbox. Both ends are the
/// same program: there is one form, and everything in it is required.
namespace fluyt::guest {

std::string to_text(const ProgramRequest& request);
Result<ProgramRequest> parse_program(std::string_view text);
std::string to_text(const SandboxRequest& request);
Result<SandboxRequest> parse_sandbox(std::string_view text);
std::string to_text(const Surroundings& around);
Result<Surroundings> parse_surroundings(std::string_view text);

}  // namespace fluyt::guest
