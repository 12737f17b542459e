#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <set>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

constexpr int64_t kProgressEveryNs = 100'000'000;

// A repository of the same registry that some image with this blob is named by: the registry may
// have the blob there, and then nothing needs to be sent.
std::string mount_source(const CatalogState& state, const oci::Reference& target,
                         const oci::Digest& blob) {
  for (const auto& [name, id] : state.names) {
    const auto other = oci::Reference::parse(name);
    if (!other.ok() || other->registry != target.registry ||
        other->repository == target.repository) {
      continue;
    }
    const ImageRow& row = state.images.at(id);
    const bool has = std::any_of(row.layers.begin(), row.layers.end(),
                                 [&](const auto& layer) { return layer.blob_digest == blob; });
    if (has || row.id == blob.text()) return other->repository;
  }
  return {};
}

class Sender {
 public:
  Sender(registry::Session& session, const BlobStore& blobs, const PushOptions& options)
      : session_(session), blobs_(blobs), options_(options) {}

  Result<> send(const oci::Descriptor& blob, const std::string& mount_from) {
    const sys::Fd file = FLUYT_TRY(blobs_.open_blob(blob.digest));
    report(blob, LayerProgress::Phase::kFetching, 0);
    int64_t reported_ns = now_boot_ns();
    const registry::BlobToPush what{
        blob.digest, static_cast<uint64_t>(blob.size),
        [&](uint64_t offset, std::span<char> into) -> Result<size_t> {
          while (true) {
            const ssize_t got =
                ::pread(file.raw(), into.data(), into.size(), static_cast<off_t>(offset));
            if (got > 0) return static_cast<size_t>(got);
            if (got == 0) return Error(Code::kDataLoss, "the blob on disk is cut short");
            if (errno != EINTR) return Error::from_errno(errno, "pread(blob)");
          }
        },
        mount_from};
    const auto how = FLUYT_TRY(session_.push_blob(what, [&](uint64_t bytes) {
      const int64_t now = now_boot_ns();
      if (now - reported_ns < kProgressEveryNs) return;
      reported_ns = now;
      report(blob, LayerProgress::Phase::kFetching, bytes);
    }));
    report(blob,
           how == registry::PushedBlob::kUploaded ? LayerProgress::Phase::kDone
                                                  : LayerProgress::Phase::kExists,
           static_cast<uint64_t>(blob.size));
    return {};
  }

  void report(const oci::Descriptor& blob, LayerProgress::Phase phase, uint64_t bytes) const {
    if (!options_.progress) return;
    options_.progress({blob.digest.text(), phase, bytes, static_cast<uint64_t>(blob.size)});
  }

 private:
  registry::Session& session_;
  const BlobStore& blobs_;
  const PushOptions& options_;
};

// Each blob once, the layers first.
std::vector<oci::Descriptor> blobs_of(const oci::Manifest& manifest) {
  std::vector<oci::Descriptor> out;
  std::set<oci::Digest> seen;
  for (const oci::Descriptor& layer : manifest.layers) {
    if (seen.insert(layer.digest).second) out.push_back(layer);
  }
  if (seen.insert(manifest.config.digest).second) out.push_back(manifest.config);
  return out;
}

}  // namespace

// Whether one of its documents lists other platforms beside its own.
bool Store::came_by_index(const ImageRow& row) const {
  return std::any_of(row.blobs.begin(), row.blobs.end(), [&](const oci::Digest& digest) {
    if (digest == row.manifest_digest || digest.text() == row.id) return false;
    const auto bytes = blobs_.get(digest, oci::kMaxManifestBytes);
    if (!bytes.ok()) return false;
    const auto index = oci::parse_index(*bytes);
    return index.ok() && index->manifests.size() > 1;
  });
}

// The manifest goes last: what a registry has a manifest of it has whole.
Result<Pushed> Store::push(const oci::Reference& reference, const PushOptions& options) {
  const std::string name = reference.text();
  if (reference.digest.has_value() || reference.tag.empty()) {
    return Error(Code::kInvalidArgument,
                 cat("push ", quote(name), ": expected a name with a tag, not a digest"));
  }
  const auto row = FLUYT_TRY(find_row(name));
  if (!row.has_value()) {
    return Error(Code::kNotFound, cat("push ", quote(name), ": no image has this name"));
  }
  const Hold hold(*this, *row, cat("push of ", name));
  const auto found = get_sendable(*row, name, "push");
  if (!found.ok()) return found.error();
  const Sendable& sendable = *found;
  const std::vector<oci::Descriptor> blobs = blobs_of(sendable.manifest);
  std::vector<std::string> mounts;
  catalog_->read([&](const CatalogState& state) {
    for (const auto& blob : blobs) mounts.push_back(mount_source(state, reference, blob.digest));
    return 0;
  });

  std::atomic<bool> stop{false};
  const std::atomic<bool>* cancelled = options.cancelled != nullptr ? options.cancelled : &stop;
  const auto in_context = [&](Error error) {
    return std::move(error.add_context(cat("push ", quote(name))));
  };
  const auto settings = now();  // the session is the registry's
  auto session = settings->registry->open(reference.registry, reference.repository,
                                          options.credentials, cancelled, registry::Purpose::kPush);
  if (!session.ok()) return in_context(std::move(session).error());
  Sender sender(**session, blobs_, options);
  for (const auto& blob : blobs) sender.report(blob, LayerProgress::Phase::kWaiting, 0);
  std::mutex mutex;  // of the next two
  size_t next = 0;
  std::optional<Error> first_error;
  const auto work = [&] {
    while (true) {
      size_t mine = 0;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        if (next == blobs.size() || first_error.has_value()) return;
        mine = next++;
      }
      auto sent = sender.send(blobs[mine], mounts[mine]);
      if (sent.ok()) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      if (!first_error.has_value()) first_error = std::move(sent).error();
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(now()->parallel_fetches, blobs.size()); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (first_error.has_value()) return in_context(std::move(*first_error));
  const std::string type = sendable.manifest.media_type.empty()
                               ? std::string(oci::media_type::kOciManifest)
                               : sendable.manifest.media_type;
  const auto digest = (*session)->push_manifest(reference.tag, type, sendable.bytes);
  if (!digest.ok()) return in_context(digest.error());
  // From now on the image has this digest there, as after a pull.
  const std::string pinned_name = cat(reference.name(), "@", digest->text());
  auto named = catalog_->commit({.put_names = {{pinned_name, row->id}}});
  const bool is_gone = !named.ok() && named.error().code() == Code::kNotFound;
  if (!is_gone) FLUYT_TRY(std::move(named));
  return Pushed{digest->text(), sendable.bytes.size(), came_by_index(*row)};
}

}  // namespace fluyt::image
