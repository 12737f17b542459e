#include "image/policy/verifier_programs.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::image::policy {

namespace {

constexpr size_t kMaxReason = 16UL << 10U;
constexpr const char* kDescriptorType = "application/vnd.oci.descriptor.v1+json";

std::string json_of(const oci::Descriptor& descriptor) {
  nlohmann::ordered_json out;
  out["mediaType"] = descriptor.media_type;
  out["digest"] = descriptor.digest.text();
  out["size"] = descriptor.size;
  if (!descriptor.annotations.empty()) out["annotations"] = descriptor.annotations;
  return out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

Result<std::vector<std::string>> list_programs(const VerifierPrograms& programs) {
  std::vector<std::string> out =
      FLUYT_TRY_CONTEXT(sys::list_dir(programs.folder), "verifier programs");
  const auto most = static_cast<size_t>(programs.max_programs);
  if (programs.max_programs >= 0 && out.size() > most) out.resize(most);
  return out;
}

Result<> ask_programs(const VerifierPrograms& programs, const std::vector<std::string>& names,
                      const std::string& image, const oci::Descriptor& manifest,
                      Deadline deadline) {
  const auto refuse = [&](std::string_view program, std::string_view why) {
    return Error(Code::kPermissionDenied,
                 cat("verifier ", programs.folder, "/", program, ": ", why));
  };
  const std::string descriptor = json_of(manifest);
  for (const std::string& program : names) {
    const std::string path = cat(programs.folder, "/", program);
    const int64_t left_ms = deadline.poll_timeout_ms();
    const bool is_cut = left_ms >= 0 && left_ms < programs.timeout_ms;
    if (left_ms == 0) return Error(Code::kDeadlineExceeded, cat("no time was left for ", path));
    const auto done = sys::run(
        {.args = {path, "-name", image, "-digest", manifest.digest.text(), "-stdin-media-type",
                  kDescriptorType},
         .env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
        descriptor, kMaxReason, Deadline::after_ms(is_cut ? left_ms : programs.timeout_ms));
    if (!done.ok()) return refuse(program, done.error().message());
    if (done->timed_out && is_cut) {
      return Error(Code::kDeadlineExceeded,
                   cat(path, " gave no answer within the ", left_ms, " ms that were left"));
    }
    if (done->timed_out) {
      return refuse(program, cat("gave no answer within ", programs.timeout_ms, " ms"));
    }
    const int status = done->status.shell_code();
    if (status == 0) continue;
    const std::string_view said = trim(done->out.empty() ? done->err : done->out);
    return refuse(program, cat("refused it with status ", status, said.empty() ? "" : ": ",
                               said.empty() ? "" : quote(said)));
  }
  return {};
}

}  // namespace fluyt::image::policy
