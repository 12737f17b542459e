#include <algorithm>
#include <chrono>
#include <list>
#include <thread>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/policy/verify.h"
#include "image/store.h"
#include "sys/priority.h"

namespace fluyt::image {

namespace {

constexpr std::chrono::milliseconds kLookEvery{100};  // how late a caller's cancellation is noticed

class RegistrySource final : public ContentSource {
 public:
  explicit RegistrySource(registry::Session& session) : session_(session) {}

  Result<std::string> manifest(const oci::Descriptor& descriptor) override {
    return FLUYT_TRY(session_.get_manifest(descriptor.digest.text())).bytes;
  }

  Result<> stream(const oci::Descriptor& descriptor,
                  const std::function<Result<>(std::string_view)>& sink) override {
    registry::EndpointIndex server = 0;
    auto result = session_.fetch_foreign_blob(
        descriptor.digest, static_cast<uint64_t>(descriptor.size), descriptor.urls, sink, &server);
    (*servers_.lock())[descriptor.digest] = server;
    return result;
  }

  bool has_another(const oci::Descriptor& descriptor) override {
    const registry::EndpointIndex server = (*servers_.lock())[descriptor.digest];
    return session_.distrust(server);
  }

 private:
  registry::Session& session_;
  Guarded<std::map<oci::Digest, registry::EndpointIndex>> servers_;  // asked last, by blob
};

std::vector<std::string> names_for(const oci::Reference& reference, const oci::Digest& target) {
  std::vector<std::string> out{cat(reference.name(), "@", target.text())};
  if (!reference.digest.has_value()) out.push_back(reference.text());
  return out;
}

// Pulls with one key may share: the same question to the same registry by the same person.
Result<std::string> key_of(const oci::Reference& reference, const PullOptions& options) {
  const Credentials& c = options.credentials;
  std::string secret;
  for (const std::string* part :
       {&c.username, &c.password, &c.identity_token, &c.registry_token, &c.server_address}) {
    secret += cat(part->size(), ":", *part);
  }
  const oci::Digest hash = FLUYT_TRY(digest_of("sha256", secret));
  const bool push = options.purpose == PullOptions::Purpose::kRunAndPush;
  return cat(reference.text(), "\n", options.platform.text(), "\n", hash.text(),
             push ? "\npush" : "", "\n", options.kubernetes_namespace);
}

}  // namespace

/// One pull and all who wait for it. It runs in a thread of its own, so that who asked first may
/// leave before the others.
struct Store::PullFlight {
  std::atomic<bool> stop{false};
  Guarded<std::list<const PullOptions*>> waiters;  // never empty until the last has left
  std::optional<Result<Image>> result;             // under pulls_mutex_: set when it has ended
};

void Store::stop_pull(PullFlight& flight) { flight.stop = true; }

bool Store::keeps_blobs(PullOptions::Purpose purpose) const {
  switch (now()->keep_blobs) {
    case KeepBlobs::kNever:
      return false;
    case KeepBlobs::kPushable:
      return purpose == PullOptions::Purpose::kRunAndPush;
    case KeepBlobs::kAlways:
      return true;
  }
  return false;
}

// Already here: only the names may be new.
Result<std::optional<Image>> Store::pull_known(const PullQuestion& question,
                                               const oci::Descriptor& target,
                                               const Approver& approver) {
  const bool keep_blobs = keeps_blobs(question.purpose);
  const auto names = names_for(question.reference, target.digest);
  const auto id = catalog_->read([&](const CatalogState& state) -> std::optional<std::string> {
    const auto found = state.names.find(names.front());
    if (found == state.names.end()) return std::nullopt;
    const ImageRow& row = state.images.at(found->second);
    const bool has_blobs = std::all_of(
        row.layers.begin(), row.layers.end(),
        [&](const ImageLayer& layer) { return state.blobs.contains(layer.blob_digest); });
    if (keep_blobs && !has_blobs) return std::nullopt;
    return found->second;
  });
  if (!id.has_value()) return std::optional<Image>();
  const auto image = find_image(*id);
  if (!image.has_value()) return std::optional<Image>();
  const oci::Platform known_platform = oci::normalised(image->config.platform);
  const oci::Platform wanted = oci::normalised(question.platform);
  if (known_platform.os != wanted.os || known_platform.architecture != wanted.architecture) {
    return std::optional<Image>();
  }
  // It may have come under another policy.
  if (approver.ask) {
    FLUYT_TRY(approver.ask(target, FLUYT_TRY(oci::Digest::parse(image->manifest_digest))));
  }
  CatalogChange change;
  CatalogChange approved;
  catalog_->read([&](const CatalogState& state) {
    for (ApprovalRow row : *approver.granted) {
      row.image_id = *id;
      if (!state.approvals.contains(row)) approved.put_approvals.push_back(std::move(row));
    }
    for (const std::string& name : names) {
      const auto found = state.names.find(name);
      if (found == state.names.end() || found->second != *id)
        change.put_names.emplace_back(name, *id);
    }
    return 0;
  });
  auto named = catalog_->commit(change);
  if (!named.ok() && named.error().code() != Code::kNotFound) return std::move(named).error();
  // Not to remember it is no reason to refuse, as on a full disk: it can be asked once more.
  if (auto kept = catalog_->commit(approved);
      !kept.ok() && kept.error().code() != Code::kNotFound) {
    logger_.warn(cat("image policy: not remembered: ", kept.error().message()));
  }
  auto known = find_image(*id);  // unless it was removed meanwhile: then it is brought again
  if (known.has_value() && known->pinned) FLUYT_TRY(sync_now());
  return known;
}

Store::Approver Store::approver_of(const policy::VerifyOptions& options,
                                   const PullQuestion& question, registry::Session& session) {
  Approver out;
  if (options.is_empty()) return out;
  out.ask = [this, &options, &question, &session, granted = out.granted](
                const oci::Descriptor& target, const oci::Digest& chosen) -> Result<> {
    const policy::Question asked{question.reference, target, chosen, question.kubernetes_namespace};
    const policy::Rules rules =
        FLUYT_TRY(policy::read_rules(options, question.reference, question.kubernetes_namespace));
    FLUYT_TRY(policy::check_at_once(options, rules, asked));
    const ApprovalRow row = row_of("", asked, rules);
    auto proven = policy::check_rules(options, rules, asked, session);
    if (!proven.ok() && proven.error().code() == Code::kPermissionDenied) take_back(row);
    FLUYT_TRY(std::move(proven));
    if (rules.wants_proof) *granted = {row};
    return {};
  };
  return out;
}

Result<Image> Store::pull_from(registry::Session& session, const PullQuestion& question,
                               const ProgressSink& progress, std::atomic<bool>& stop) {
  // Else an image that is about to go would pass for known.
  if (lost_writes_) FLUYT_TRY(sync_now());
  const oci::Reference& reference = question.reference;
  const auto settings = now();
  const Approver approver = approver_of(settings->verify, question, session);
  std::string target = reference.target();
  auto head = session.head_manifest(target);
  if (head.ok() && head->digest.has_value()) {
    if (reference.digest.has_value() && *head->digest != *reference.digest) {
      return Error(Code::kDataLoss, cat("the registry names the manifest ", head->digest->text(),
                                        ", asked for ", reference.digest->text()));
    }
    target = head->digest->text();
    if (!approver.ask) {  // else the manifest is part of the question
      auto known = pull_known(question, {.digest = *head->digest}, approver);
      if (!known.ok()) return std::move(known).error();
      if (*known) return std::move(**known);
    }
  } else if (!head.ok() && head.error().code() != Code::kUnimplemented) {
    return std::move(head).error();
  }
  registry::RawManifest top = FLUYT_TRY(session.get_manifest(target));
  if (approver.ask) {
    auto known = pull_known(question,
                            {.media_type = top.media_type,
                             .digest = top.digest,
                             .size = static_cast<int64_t>(top.bytes.size())},
                            approver);
    if (!known.ok()) return std::move(known).error();
    if (*known) return std::move(**known);
  }
  RegistrySource source(session);
  const auto names = names_for(reference, top.digest);
  Document document{top.digest, std::move(top.bytes)};
  const auto plan =
      plan_image(source, std::move(document), top.media_type, question.platform, approver.ask);
  if (!plan.ok()) return plan.error();
  const bool pinned =
      std::any_of(names.begin(), names.end(), [&](const auto& name) { return is_pinned(name); });
  return install(source, *plan,
                 {names, pinned ? Sync::kBeforeReturn : Sync::kBehind,
                  keeps_blobs(question.purpose), *approver.granted},
                 progress, stop);
}

Result<Image> Store::pull_now(const PullQuestion& question, const ProgressSink& progress,
                              PullFlight& flight) {
  const auto settings = now();  // the session is the registry's
  const auto session =
      FLUYT_TRY(settings->registry->open(question.reference.registry, question.reference.repository,
                                         question.credentials, &flight.stop));
  auto image = pull_from(*session, question, progress, flight.stop);
  auto waiters = flight.waiters.lock();
  for (const std::string& warning : session->warnings()) {
    for (const PullOptions* waiter : *waiters) {
      if (waiter->warning) waiter->warning(warning);
    }
  }
  return image;
}

void Store::run_pull(const PullQuestion& question, PullFlight& flight) {
  const ProgressSink tell_all = [&](const LayerProgress& progress) {
    auto waiters = flight.waiters.lock();
    for (const PullOptions* waiter : *waiters) {
      if (waiter->progress) waiter->progress(progress);
    }
  };
  auto result = pull_now(question, tell_all, flight);
  if (!result.ok()) {
    result = std::move(result).error().add_context(cat("pull ", quote(question.reference.text())));
  }
  const std::lock_guard<std::mutex> lock(pulls_mutex_);
  flight.result = std::move(result);
}

Result<Image> Store::pull(const oci::Reference& reference, const PullOptions& options) {
  const std::string key = FLUYT_TRY(key_of(reference, options));
  std::unique_lock<std::mutex> lock(pulls_mutex_);
  std::shared_ptr<PullFlight> flight;
  // One that is on its way down, left by all, is no good to join, nor one that has ended: what it
  // brought may have been removed since.
  if (const auto found = pulls_.find(key);
      found != pulls_.end() && !found->second->stop && !found->second->result.has_value()) {
    flight = found->second;
  }
  const bool is_new = flight == nullptr;
  if (is_new) pulls_[key] = flight = std::make_shared<PullFlight>();
  const auto me = [&] {
    auto waiters = flight->waiters.lock();
    return waiters->insert(waiters->end(), &options);
  }();
  if (is_new) {
    ++running_pulls_;
    PullQuestion question{reference, options.credentials, options.platform, options.purpose,
                          options.kubernetes_namespace};
    std::thread([this, flight, key, question = std::move(question)] {
      sys::step_back();  // and what it starts: pods are to start meanwhile
      run_pull(question, *flight);
      const std::lock_guard<std::mutex> ending(pulls_mutex_);
      if (const auto mine = pulls_.find(key); mine != pulls_.end() && mine->second == flight) {
        pulls_.erase(mine);
      }
      --running_pulls_;
      pulls_changed_.notify_all();
    }).detach();
  }
  bool left = false;
  while (!flight->result.has_value()) {
    pulls_changed_.wait_for(lock, kLookEvery);
    if (left || flight->result.has_value()) continue;
    if (!options.is_given_up || !options.is_given_up()) continue;
    left = true;
    auto waiters = flight->waiters.lock();
    if (waiters->size() > 1) {
      waiters->erase(me);
      return Error(Code::kCancelled, "pull: cancelled by the caller");
    }
    flight->stop = true;  // the last one: it stays until all is cleaned up
  }
  flight->waiters.lock()->erase(me);
  return *flight->result;
}

}  // namespace fluyt::image
