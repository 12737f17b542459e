#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/registry/session.h"

namespace fluyt::image::registry {

namespace {

// All that we can read, and schema 1 only to be able to say that it is refused.
std::string accepted_types() {
  namespace types = oci::media_type;
  return cat(types::kOciIndex, ", ", types::kOciManifest, ", ", types::kDockerList, ", ",
             types::kDockerManifest, ", ", types::kDockerManifestV1Signed, ";q=0.1, ",
             types::kDockerManifestV1, ";q=0.1");
}

// Without parameters, which say nothing here ("; charset=utf-8").
std::string media_type_of(const HttpResponse& response) {
  const std::string_view value = response.header("content-type");
  return to_lower(trim(value.substr(0, value.find(';'))));
}

Result<std::optional<oci::Digest>> digest_header(const HttpResponse& response) {
  const std::string_view value = response.header("docker-content-digest");
  if (value.empty()) return std::optional<oci::Digest>();
  auto parsed = oci::Digest::parse(value);
  if (!parsed.ok()) return std::move(parsed).error().add_context("Docker-Content-Digest header");
  return std::optional<oci::Digest>(std::move(*parsed));
}

}  // namespace

Result<ManifestHead> Session::head_manifest(const std::string& target) {
  Ask what;
  what.need = Need::kResolve;
  what.method = Method::kHead;
  what.path = cat("/", repository_, "/manifests/", target);
  what.accept = accepted_types();
  // Some servers know no HEAD; that is for the caller, who then asks with GET.
  what.good = [](const HttpResponse& r) {
    return r.status == 200 || r.status == 400 || r.status == 405 || r.status == 501;
  };
  const Answer answer = FLUYT_TRY(ask(what));
  if (answer.response.status != 200) {
    return Error(Code::kUnimplemented,
                 cat(shown(what, answer.endpoint), " = ", answer.response.status));
  }
  ManifestHead out;
  out.digest = FLUYT_TRY_CONTEXT(digest_header(answer.response), shown(what, answer.endpoint));
  out.media_type = media_type_of(answer.response);
  return out;
}

Result<RawManifest> Session::get_manifest(const std::string& target) {
  Ask what;
  return ask_manifest(what, target);
}

Result<std::optional<RawManifest>> Session::find_manifest(const std::string& target) {
  Ask what;
  what.may_be_absent = true;
  auto found = ask_manifest(what, target);
  if (found.ok()) return std::optional(std::move(*found));
  if (found.error().code() == Code::kNotFound) return std::optional<RawManifest>();
  return std::move(found).error();
}

Result<RawManifest> Session::ask_manifest(Ask& what, const std::string& target) {
  const auto wanted = oci::Digest::parse(target);
  what.need = wanted.ok() ? Need::kPull : Need::kResolve;
  what.path = cat("/", repository_, "/manifests/", target);
  what.accept = accepted_types();
  what.body_limit = oci::kMaxManifestBytes;
  while (true) {
    Answer answer = FLUYT_TRY(ask(what));
    const std::string where = shown(what, answer.endpoint);
    const auto announced = FLUYT_TRY_CONTEXT(digest_header(answer.response), where);
    const std::string_view algorithm = wanted.ok() ? wanted->algorithm()
                                       : announced ? announced->algorithm()
                                                   : std::string_view("sha256");
    oci::Digest computed = FLUYT_TRY(digest_of(algorithm, answer.response.body));
    const oci::Digest& expected = wanted.ok() ? *wanted : announced ? *announced : computed;
    if (computed != expected) {
      if (distrust(answer.endpoint)) continue;  // one that lies: another may have the right bytes
      return Error(Code::kDataLoss,
                   cat(where, ": the bytes are ", computed.text(), ", expected ", expected.text()));
    }
    return RawManifest{std::move(computed), media_type_of(answer.response),
                       std::move(answer.response.body)};
  }
}

}  // namespace fluyt::image::registry
