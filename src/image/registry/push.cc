#include <algorithm>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/registry/blob_upload.h"
#include "image/registry/session.h"

namespace fluyt::image::registry {

namespace {

bool is_stored(const HttpResponse& response) {
  return response.status == 201 || response.status == 200;
}

// What a manifest says of itself as a referrer of another.
struct Referrer {
  oci::Digest subject;
  oci::Descriptor descriptor;
};

Result<std::optional<Referrer>> referrer_of(const oci::Digest& digest,
                                            const std::string& media_type,
                                            const std::string& bytes) {
  const auto parsed = FLUYT_TRY(oci::parse_manifest_or_index(bytes, media_type));
  const auto& subject = parsed.manifest ? parsed.manifest->subject : parsed.index->subject;
  if (!subject.has_value()) return std::optional<Referrer>();
  oci::Descriptor descriptor{
      .media_type = media_type, .digest = digest, .size = static_cast<int64_t>(bytes.size())};
  if (parsed.manifest.has_value()) {
    // The specification's rule for manifests that name no type: the config's.
    const oci::Manifest& manifest = *parsed.manifest;
    descriptor.artifact_type =
        manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
    descriptor.annotations = manifest.annotations;
  } else {
    descriptor.artifact_type = parsed.index->artifact_type;
    descriptor.annotations = parsed.index->annotations;
  }
  return std::optional<Referrer>({subject->digest, std::move(descriptor)});
}

}  // namespace

Result<bool> Session::has_blob(const oci::Digest& digest) {
  Ask what;
  what.need = Need::kPush;
  what.method = Method::kHead;
  what.path = cat("/", repository_, "/blobs/", digest.text());
  what.good = [](const HttpResponse& r) { return r.status == 200 || r.status == 404; };
  return FLUYT_TRY(ask(what)).response.status == 200;
}

Result<PushedBlob> Session::push_blob(const BlobToPush& blob,
                                      const std::function<void(uint64_t)>& progress) {
  const bool there = FLUYT_TRY_CONTEXT(has_blob(blob.digest), cat("blob ", blob.digest.text()));
  const PushedBlob how =
      there ? PushedBlob::kExisted : FLUYT_TRY(BlobUpload(*this, blob, progress).run());
  if (progress) progress(blob.size);
  return how;
}

Result<oci::Digest> Session::push_manifest(const std::string& target, const std::string& media_type,
                                           const std::string& bytes) {
  const auto wanted = oci::Digest::parse(target);
  const std::string_view algorithm = wanted.ok() ? wanted->algorithm() : std::string_view("sha256");
  oci::Digest digest = FLUYT_TRY(digest_of(algorithm, bytes));
  if (wanted.ok() && *wanted != digest) {
    return Error(Code::kInvalidArgument,
                 cat("manifest ", wanted->text(), ": the bytes are ", digest.text()));
  }
  const auto referrer = referrer_of(digest, media_type, bytes);
  if (!referrer.ok()) return referrer.error();
  Ask what;
  what.need = Need::kPush;
  what.method = Method::kPut;
  what.path = cat("/", repository_, "/manifests/", target);
  what.content_type = media_type;
  what.body = bytes;
  what.good = is_stored;
  const Answer answer = FLUYT_TRY(ask(what));
  const std::string_view stored = answer.response.header("docker-content-digest");
  if (!stored.empty() && algorithm == "sha256" && stored != digest.text()) {
    return Error(Code::kDataLoss, cat(shown(what, answer.endpoint), ": the registry stored ",
                                      quote(stored), ", expected ", digest.text()));
  }
  if (referrer->has_value() && answer.response.header("oci-subject").empty()) {
    FLUYT_TRY_CONTEXT(add_referrer((*referrer)->subject, (*referrer)->descriptor),
                      cat("referrers of ", (*referrer)->subject.text()));
  }
  return digest;
}

// Read, changed, written: the specification has nothing against another who does the same at once.
Result<> Session::add_referrer(const oci::Digest& subject, const oci::Descriptor& referrer) {
  const std::string tag = referrers_tag(subject);
  oci::Index index;
  if (const auto old = FLUYT_TRY(find_manifest(tag)); old.has_value()) {
    auto parsed = FLUYT_TRY(oci::parse_manifest_or_index(old->bytes, old->media_type));
    if (!parsed.index.has_value()) {
      return Error(Code::kFailedPrecondition, cat("tag ", tag, ": expected an image index"));
    }
    index = std::move(*parsed.index);
  }
  index.media_type = std::string(oci::media_type::kOciIndex);
  const auto same = [&](const oci::Descriptor& entry) { return entry.digest == referrer.digest; };
  if (std::any_of(index.manifests.begin(), index.manifests.end(), same)) return {};
  index.manifests.push_back(referrer);
  Ask what;
  what.need = Need::kPush;
  what.method = Method::kPut;
  what.path = cat("/", repository_, "/manifests/", tag);
  what.content_type = index.media_type;
  what.body = oci::to_json(index);
  what.good = is_stored;
  FLUYT_TRY(ask(what));
  return {};
}

std::string referrers_tag(const oci::Digest& subject) {
  return cat(subject.algorithm(), "-", subject.hex());
}

}  // namespace fluyt::image::registry
