#include <algorithm>

#include "base/strings.h"
#include "image/registry/session.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxPages = 64;
constexpr size_t kMaxReferrers = 4096;

// The target of `<…>; rel="next"` (RFC 8288), or "".
std::string_view next_of(const HttpResponse& response) {
  const auto [from, to] = response.headers.equal_range("link");
  for (auto it = from; it != to; ++it) {
    std::string_view rest = it->second;
    while (!rest.empty()) {
      const size_t open = rest.find('<');
      const size_t close = rest.find('>', open == std::string_view::npos ? 0 : open);
      if (open == std::string_view::npos || close == std::string_view::npos) break;
      const std::string_view target = rest.substr(open + 1, close - open - 1);
      rest.remove_prefix(close + 1);
      const std::string params = to_lower(rest.substr(0, rest.find('<')));
      if (params.find("rel=\"next\"") != std::string::npos ||
          params.find("rel=next") != std::string::npos) {
        return target;
      }
    }
  }
  return {};
}

bool is_absent(int status) { return status == 404 || status == 400 || status == 405; }

}  // namespace

Result<std::vector<oci::Descriptor>> Session::referrers(const oci::Digest& subject,
                                                        const std::string& artifact_type) {
  std::vector<oci::Descriptor> out;
  const auto take = [&](const oci::Index& index) {
    for (const oci::Descriptor& entry : index.manifests) {
      const bool wanted = artifact_type.empty() || entry.artifact_type == artifact_type;
      if (wanted && out.size() < kMaxReferrers) out.push_back(entry);
    }
  };
  Ask what;
  what.path = cat("/", repository_, "/referrers/", subject.text());
  if (!artifact_type.empty()) what.query = cat("artifactType=", percent_encode(artifact_type));
  what.accept = oci::media_type::kOciIndex;
  what.body_limit = oci::kMaxManifestBytes;
  what.good = [](const HttpResponse& r) { return r.status == 200 || is_absent(r.status); };
  for (size_t number = 0; number < kMaxPages; ++number) {
    const Answer answer = FLUYT_TRY(ask(what));
    const std::string where = shown(what, answer.endpoint);
    if (number == 0 && is_absent(answer.response.status)) {
      // No such API: the tag has them, if anybody wrote it.
      const auto tagged = FLUYT_TRY(find_manifest(referrers_tag(subject)));
      if (tagged.has_value()) {
        const auto parsed = oci::parse_manifest_or_index(tagged->bytes, tagged->media_type);
        if (!parsed.ok()) {
          return Error(parsed.error()).add_context(cat("tag ", referrers_tag(subject)));
        }
        if (parsed->index) take(*parsed->index);
      }
      return out;
    }
    const auto page = oci::parse_index(answer.response.body);
    if (!page.ok()) return Error(page.error()).add_context(where);
    take(*page);
    const std::string_view next = next_of(answer.response);
    if (next.empty() || out.size() == kMaxReferrers) return out;
    Url url = FLUYT_TRY_CONTEXT(answer.response.url.resolve(next), where);
    if (!url.same_origin(answer.response.url)) {
      return Error(Code::kFailedPrecondition,
                   cat(where, ": Link ", quote(next), ": expected a page of the same server"));
    }
    what.url = std::move(url);
  }
  return Error(Code::kResourceExhausted,
               cat("referrers of ", subject.text(), ": more than ", kMaxPages, " pages"));
}

Result<std::optional<std::string>> Session::get_elsewhere(const Url& url, size_t limit) {
  Ask what;
  what.url = url;
  what.body_limit = limit;
  what.elsewhere = true;
  what.good = [](const HttpResponse& r) { return r.status == 200 || r.status == 404; };
  Answer answer = FLUYT_TRY(ask(what));
  if (answer.response.status == 404) return std::optional<std::string>();
  return std::optional<std::string>(std::move(answer.response.body));
}

Result<std::optional<std::string>> Session::get_extension_signatures(const oci::Digest& manifest,
                                                                     size_t limit) {
  Ask ping;
  ping.path = "/";
  ping.good = [](const HttpResponse& r) { return r.status == 200 || r.status == 404; };
  const Answer hello = FLUYT_TRY(ask(ping));
  if (hello.response.header("x-registry-supports-signatures") != "1") {
    return std::optional<std::string>();
  }
  Ask what;
  what.url = endpoints_[hello.endpoint].base;
  what.url->scheme = hello.response.url.scheme;
  what.url->path = cat("/extensions/v2/", repository_, "/signatures/", manifest.text());
  what.body_limit = limit;
  what.good = ping.good;
  Answer answer = FLUYT_TRY(ask(what));
  if (answer.response.status == 404) return std::optional<std::string>();
  return std::optional<std::string>(std::move(answer.response.body));
}

}  // namespace fluyt::image::registry
