#include "cmd/runtime/user/user.h"

#include "base/strings.h"

namespace fluyt::commands {

Result<uint32_t> parse_id(std::string_view text, std::string_view option) {
  const auto id = parse_number<uint32_t>(text);
  if (!id || *id > kMaxId) {
    return Error(Code::kInvalidArgument, cat("option --", option, ": ", quote(text),
                                             ": expected a number of at most ", kMaxId));
  }
  return *id;
}

Result<> set_user(std::string_view text, oci::User& user) {
  const size_t colon = text.find(':');
  const uint32_t uid = FLUYT_TRY(parse_id(text.substr(0, colon), "user"));
  if (colon != std::string_view::npos) {
    user.gid = FLUYT_TRY(parse_id(text.substr(colon + 1), "user"));
  }
  user.uid = uid;
  return {};
}

}  // namespace fluyt::commands
