#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/policy/verify.h"
#include "image/store.h"

/// What an image has to prove, asked once more before a container stands on it: it may have come
/// for another namespace, under another name, or before the rules became what they are.
namespace fluyt::image {

namespace {

// Of all names together: a kubelet waits two minutes for a container.
constexpr int64_t kProofLimitMs = 60'000;
constexpr size_t kMinIdDigits = 4;
constexpr std::string_view kAlgorithm = "sha256:";

/// Sets a flag when the deadline passes, unless it goes before.
class TimeLimit {
 public:
  TimeLimit(Deadline deadline, std::atomic<bool>& flag)
      : thread_([this, limit = std::chrono::milliseconds(deadline.poll_timeout_ms()), &flag] {
          std::unique_lock<std::mutex> lock(mutex_);
          if (!ended_.wait_for(lock, limit, [this] { return end_; })) flag = true;
        }) {}
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;
  ~TimeLimit() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      end_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread thread_;  // last: it uses all of the above
};

std::string type_of(const oci::ManifestOrIndex& document) {
  if (document.manifest.has_value()) {
    return document.manifest->media_type.empty() ? std::string(oci::media_type::kOciManifest)
                                                 : document.manifest->media_type;
  }
  return document.index->media_type.empty() ? std::string(oci::media_type::kOciIndex)
                                            : document.index->media_type;
}

std::string repository_of(const std::string& name) {
  const auto parsed = oci::Reference::parse(name);
  return parsed.ok() ? parsed->name() : name;
}

// The id itself, or its first digits.
bool is_id_of(const Image& image, std::string_view name) {
  if (name.starts_with(kAlgorithm)) return true;
  return name.size() >= kMinIdDigits &&
         std::string_view(image.id).substr(kAlgorithm.size()).starts_with(name);
}

}  // namespace

/// One way in which an image may be let through: by one of its names, as what that points at.
struct Store::Claim {
  oci::Reference name;
  oci::Descriptor target;
  policy::Rules rules;
};

ApprovalRow Store::row_of(const std::string& image_id, const policy::Question& question,
                          const policy::Rules& rules) {
  return {image_id, question.reference.text(), question.target.digest, rules.digest};
}

// The newest word counts: what was found to hold once does not stand against it, by whichever tag
// or digest of the repository that was.
void Store::take_back(const ApprovalRow& what) {
  const std::string repository = repository_of(what.name);
  CatalogChange change;
  change.drop_approvals = catalog_->read([&](const CatalogState& state) {
    std::vector<ApprovalRow> out;
    std::copy_if(state.approvals.begin(), state.approvals.end(), std::back_inserter(out),
                 [&](const ApprovalRow& row) {
                   return row.target == what.target && row.rules == what.rules;
                 });
    return out;
  });
  std::erase_if(change.drop_approvals,
                [&](const ApprovalRow& row) { return repository_of(row.name) != repository; });
  if (auto dropped = catalog_->commit(change); !dropped.ok()) {
    logger_.warn(
        cat("image policy: ", what.name, ": its approval stays: ", dropped.error().message()));
  }
}

// Asked by name, that name is the question. Asked by id, each of the names that the image has is an
// answer.
Result<std::vector<oci::Reference>> Store::names_of(const Admission& what,
                                                    const Image& image) const {
  const auto asked = oci::Reference::parse(what.name);
  const bool is_known = asked.ok() && catalog_->read([&](const CatalogState& state) {
    return state.names.contains(asked->text());
  });
  if (is_known || !is_id_of(image, what.name)) {
    return std::vector<oci::Reference>{FLUYT_TRY(oci::Reference::parse(what.name))};
  }
  std::vector<oci::Reference> out;
  for (const auto* names : {&image.repo_tags, &image.repo_digests}) {
    for (const std::string& name : *names) out.push_back(FLUYT_TRY(oci::Reference::parse(name)));
  }
  return out;
}

// What `name` points at, as far as it is known here: by which digest or digests the image came from
// that repository, else its manifest.
std::vector<oci::Digest> Store::targets_of(const Image& image, const oci::Reference& name) const {
  return catalog_->read([&](const CatalogState& state) {
    std::vector<oci::Digest> out;
    const auto row = state.images.find(image.id);
    if (row == state.images.end()) return out;
    const auto& documents = row->second.blobs;
    const oci::Digest& manifest = row->second.manifest_digest;
    const auto is_its = [&](const oci::Digest& digest) {
      return digest == manifest ||
             std::find(documents.begin(), documents.end(), digest) != documents.end();
    };
    if (name.digest.has_value() && is_its(*name.digest)) return std::vector{*name.digest};
    for (const std::string& other : image.repo_digests) {
      const auto digest = oci::Digest::parse(other.substr(other.find('@') + 1));
      if (digest.ok() && other.starts_with(name.name() + "@") && is_its(*digest)) {
        out.push_back(*digest);
      }
    }
    if (out.empty()) out.push_back(manifest);
    return out;
  });
}

Result<oci::Descriptor> Store::describe_target(const oci::Digest& target) const {
  const std::string bytes = FLUYT_TRY(blobs_.get(target, oci::kMaxManifestBytes));
  const auto parsed = FLUYT_TRY(oci::parse_manifest_or_index(bytes, ""));
  return oci::Descriptor{
      .media_type = type_of(parsed), .digest = target, .size = static_cast<int64_t>(bytes.size())};
}

Result<> Store::prove(const Claim& claim, const Image& image, const Admission& what,
                      const Settings& settings, Deadline deadline) {
  std::atomic<bool> stop{false};
  auto session = FLUYT_TRY(
      settings.registry->open(claim.name.registry, claim.name.repository, Credentials{}, &stop));
  const auto manifest = FLUYT_TRY(oci::Digest::parse(image.manifest_digest));
  const policy::Question question{claim.name, claim.target, manifest, what.kubernetes_namespace};
  const ApprovalRow row = row_of(image.id, question, claim.rules);
  auto proven = [&] {
    const TimeLimit limit(deadline, stop);
    return policy::check_rules(settings.verify, claim.rules, question, *session, deadline);
  }();
  if (!proven.ok() && (stop || deadline.passed())) {
    return Error(Code::kDeadlineExceeded,
                 cat("image policy ", claim.rules.file, ": ", claim.rules.place,
                     ": no proof could be had within ", kProofLimitMs / 1000, " s"));
  }
  FLUYT_TRY(std::move(proven));
  auto kept = catalog_->commit({.put_approvals = {row}});
  // Not to remember it is no reason to refuse; a container of an image that went fails by itself.
  if (!kept.ok()) logger_.warn(cat("image policy: not remembered: ", kept.error().message()));
  return {};
}

Result<> Store::admit(const Admission& what) {
  const auto settings = now();
  if (settings->verify.is_empty()) return {};
  const auto image = find_image(what.image_id);
  if (!image.has_value()) {
    return Error(Code::kNotFound, cat("image ", quote(what.image_id), ": no such image"));
  }
  const std::string context = cat("image ", quote(what.name));
  const auto names = FLUYT_TRY_CONTEXT(names_of(what, *image), context);
  if (names.empty()) {
    FLUYT_TRY_CONTEXT(admit_nameless(*image, what, *settings), context);
    return {};
  }
  // First what costs nothing: any of them is enough.
  std::vector<Claim> to_prove;
  std::optional<Error> refusal;
  const auto look_at = [&](const oci::Reference& name, const oci::Digest& digest) -> Result<bool> {
    auto rules = FLUYT_TRY(policy::read_rules(settings->verify, name, what.kubernetes_namespace));
    auto target = FLUYT_TRY(describe_target(digest));
    const policy::Question question{name, target, {}, what.kubernetes_namespace};
    FLUYT_TRY(policy::check_at_once(settings->verify, rules, question));
    if (!rules.wants_proof) return true;
    const ApprovalRow row = row_of(image->id, question, rules);
    if (catalog_->read([&](const CatalogState& s) { return s.approvals.contains(row); }))
      return true;
    to_prove.push_back({name, std::move(target), std::move(rules)});
    return false;
  };
  const auto keep = [&](Error error) {
    if (!refusal.has_value()) refusal = std::move(error.add_context(context));
  };
  for (const oci::Reference& name : names) {
    for (const oci::Digest& digest : targets_of(*image, name)) {
      auto seen = look_at(name, digest);
      if (seen.ok() && *seen) return {};
      if (!seen.ok()) keep(std::move(seen).error());
    }
  }
  const Deadline deadline = Deadline::after_ms(kProofLimitMs);
  for (const Claim& claim : to_prove) {
    auto proven = prove(claim, *image, what, *settings, deadline);
    if (proven.ok()) return {};
    keep(std::move(proven).error());
    if (deadline.passed()) break;
  }
  return refusal.has_value() ? std::move(*refusal)
                             : Error(Code::kNotFound, cat(context, ": no such image"));
}

// What came without a name has the rules for all that no rule names; no signature can speak of it.
Result<> Store::admit_nameless(const Image& image, const Admission& what,
                               const Settings& settings) const {
  const oci::Reference nameless;
  const auto rules =
      FLUYT_TRY(policy::read_rules(settings.verify, nameless, what.kubernetes_namespace));
  const auto manifest = FLUYT_TRY(oci::Digest::parse(image.manifest_digest));
  const policy::Question question{nameless, {.digest = manifest}, {}, what.kubernetes_namespace};
  FLUYT_TRY(policy::check_at_once(settings.verify, rules, question));
  if (!rules.wants_proof) return {};
  return Error(Code::kPermissionDenied,
               cat("image policy: image ", image.id,
                   " has no name: expected one that a signature or a program can be asked about"));
}

}  // namespace fluyt::image
