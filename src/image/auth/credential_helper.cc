#include "image/auth/credential_helper.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "sys/process.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr size_t kMaxAnswerBytes = 256UL << 10U;

// Docker's own key for its hub.
std::string server_for(const std::string& registry) {
  return registry == "docker.io" ? "https://index.docker.io/v1/" : registry;
}

std::string find_program(const std::string& program, std::string_view path) {
  for (const std::string_view folder : split(path, ':')) {
    if (!folder.starts_with('/')) continue;  // the folder one happens to stand in is not asked
    std::string file = cat(folder, "/", program);
    if (::access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

}  // namespace

bool is_helper_name(std::string_view name) {
  const auto is_good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), is_good);
}

Result<Credentials> parse_helper_answer(std::string_view json) {
  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  const auto text = [&](const char* name) -> std::optional<std::string> {
    const auto found = parsed.find(name);
    if (found == parsed.end() || !found->is_string()) return std::nullopt;
    return found->get<std::string>();
  };
  if (parsed.is_discarded() || !parsed.is_object()) {
    return Error(Code::kFailedPrecondition, "the answer is not a JSON object");
  }
  auto username = text("Username");
  auto secret = text("Secret");
  if (!username.has_value() || !secret.has_value()) {
    return Error(Code::kFailedPrecondition, "the answer has no Username and Secret");
  }
  Credentials out;
  if (*username == "<token>") {
    out.identity_token = std::move(*secret);
  } else {
    out.username = std::move(*username);
    out.password = std::move(*secret);
  }
  return out;
}

Result<std::optional<Credentials>> ask_helper(const std::string& name, const std::string& registry,
                                              std::string_view path,
                                              const std::vector<std::string>& env,
                                              Deadline deadline) {
  const std::string program = cat("docker-credential-", name);
  const std::string file = find_program(program, path);
  if (file.empty()) {
    return Error(Code::kFailedPrecondition, cat(program, ": not found in PATH"));
  }
  const sys::Captured done =
      FLUYT_TRY_CONTEXT(sys::run({.args = {file, "get"}, .env = env}, server_for(registry) + "\n",
                                 kMaxAnswerBytes, deadline),
                        program);
  if (done.timed_out) return Error(Code::kDeadlineExceeded, cat(program, ": did not end in time"));
  if (done.status.shell_code() != 0) {
    // The protocol's own words for "I have none".
    if (done.out.find("credentials not found") != std::string::npos) {
      return std::optional<Credentials>();
    }
    return Error(Code::kFailedPrecondition,
                 cat(program, " get ", registry, ": ended with status ", done.status.shell_code(),
                     ": ", quote(trim(done.out.empty() ? done.err : done.out))));
  }
  Credentials out = FLUYT_TRY_CONTEXT(parse_helper_answer(done.out), program);
  return std::optional<Credentials>(std::move(out));
}

}  // namespace fluyt::image
