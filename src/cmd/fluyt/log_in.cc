#include "cmd/fluyt/log_in.h"

#include "base/strings.h"
#include "cmd/fluyt/login/user_login.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

constexpr size_t kMaxPassword = 64 * 1024;

}  // namespace

void LogIn::declare(Options& options) {
  options.value("-u,--username", username_, "NAME", "log in to the registry for this call");
  options.flag("--password-stdin", password_stdin_, "read the password from standard input");
}

Result<> LogIn::fill(const std::string& image, control::Credentials& out) const {
  if (password_stdin_) {
    const std::string text = FLUYT_TRY(sys::read_all(sys::FdRef(0), kMaxPassword));
    out.set_username(username_);
    out.set_password(std::string(trim(text)));
    return {};
  }
  const UserLogin found = FLUYT_TRY(find_user_login(image));
  out.set_username(found.username);
  out.set_password(found.password);
  out.set_identity_token(found.identity_token);
  out.set_registry_token(found.registry_token);
  out.set_server_address(found.server_address);
  return {};
}

}  // namespace fluyt::cli
