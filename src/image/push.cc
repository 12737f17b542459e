#include <fcntl.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/layer/gzip.h"
#include "image/sendable.h"
#include "image/store.h"
#include "sys/file.h"

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

}  // namespace

// What is not kept cannot be read: whoever is asked for it has the blob, or it is made again.
constexpr const char* kNotKept = "the blob is not kept";

class BlobSender {
 public:
  BlobSender(registry::Session& session, const PushOptions& options)
      : session_(session), options_(options) {}

  /// Sends `from`, which is the blob `digest`; `shown` is how it is called in reports.
  Result<> send(const oci::Descriptor& shown, const oci::Digest& digest, const LayerArchive& from,
                const std::string& mount_from) {
    report(shown, LayerProgress::Phase::kFetching, 0);
    int64_t reported_ns = now_boot_ns();
    const registry::BlobToPush what{
        digest, from.bytes,
        [&](uint64_t offset, std::span<char> into) { return from.read_at(offset, into); },
        mount_from};
    const auto how = FLUYT_TRY(session_.push_blob(what, [&](uint64_t bytes) {
      const int64_t now = now_boot_ns();
      if (now - reported_ns < kProgressEveryNs) return;
      reported_ns = now;
      report(shown, LayerProgress::Phase::kFetching,
             std::min(bytes, static_cast<uint64_t>(shown.size)));
    }));
    report(shown,
           how == registry::PushedBlob::kUploaded ? LayerProgress::Phase::kDone
                                                  : LayerProgress::Phase::kExists,
           static_cast<uint64_t>(shown.size));
    return {};
  }

  /// Whether the registry has the blob, here or where it may be mounted from, so that nothing is to
  /// be sent.
  Result<bool> is_there(const oci::Descriptor& blob, const std::string& mount_from) {
    if (mount_from.empty()) return session_.has_blob(blob.digest);
    bool was_wanted = false;
    const registry::BlobToPush what{blob.digest, static_cast<uint64_t>(blob.size),
                                    [&](uint64_t, std::span<char>) -> Result<size_t> {
                                      was_wanted = true;
                                      return Error(Code::kFailedPrecondition, kNotKept);
                                    },
                                    mount_from};
    auto asked = session_.push_blob(what);
    if (!asked.ok() && !was_wanted) return std::move(asked).error();
    return asked.ok();
  }

  void report(const oci::Descriptor& blob, LayerProgress::Phase phase, uint64_t bytes) const {
    if (!options_.progress) return;
    options_.progress({blob.digest.text(), phase, bytes, static_cast<uint64_t>(blob.size)});
  }

 private:
  registry::Session& session_;
  const PushOptions& options_;
};

namespace {

// One compressed again, in a file that has no name.
struct Remade {
  oci::Descriptor blob;
  LayerArchive file;
};

Result<Remade> compress(const LayerArchive& archive, const oci::Digest& diff_id,
                        std::string_view original_type, const std::string& scratch,
                        const std::atomic<bool>& cancelled) {
  const auto type = layer_type(original_type, LayerCompression::kGzip);
  sys::Fd file = FLUYT_TRY(sys::open(scratch, O_TMPFILE | O_RDWR, 0600));
  Hasher of_blob = FLUYT_TRY(Hasher::create("sha256"));
  uint64_t size = 0;
  GzipWriter gzip([&](std::string_view piece) -> Result<> {
    size += piece.size();
    FLUYT_TRY(of_blob.update(piece));
    return sys::write_all(file, piece);
  });
  const oci::Digest found = FLUYT_TRY(archive.pass_on(
      diff_id.algorithm(), [&](std::string_view piece) { return gzip.write(piece); }, &cancelled));
  FLUYT_TRY(gzip.finish());
  if (found != diff_id) {
    return Error(Code::kDataLoss, cat("layer ", diff_id.text(), ": its archive on disk is ",
                                      found.text(), "; `fluyt image verify --repair` mends it"));
  }
  auto digest = FLUYT_TRY(of_blob.finish());
  return Remade{oci::Descriptor{.media_type = type.value_or(""),
                                .digest = std::move(digest),
                                .size = static_cast<int64_t>(size)},
                LayerArchive{std::move(file), 0, size}};
}

}  // namespace

// Nothing where none of its documents lists others beside its own.
std::optional<OneOfSeveral> Store::one_of_several(const ImageRow& row,
                                                  const std::string& name) const {
  const auto index = std::find_if(row.blobs.begin(), row.blobs.end(), [&](const auto& digest) {
    if (digest == row.manifest_digest || digest.text() == row.id) return false;
    const auto bytes = blobs_.get(digest, oci::kMaxManifestBytes);
    if (!bytes.ok()) return false;
    const auto parsed = oci::parse_index(*bytes);
    return parsed.ok() && parsed->manifests.size() > 1;
  });
  if (index == row.blobs.end()) return std::nullopt;
  OneOfSeveral out{name, index->text(), row.manifest_digest.text(), {}};
  const auto id = oci::Digest::parse(row.id);
  const auto bytes = id.ok() ? blobs_.get(*id, oci::kMaxConfigBytes) : id.error();
  const auto config =
      bytes.ok() ? oci::parse_image_config(*bytes) : Result<oci::ImageConfig>(bytes.error());
  if (config.ok()) out.platform = config->platform.text();
  return out;
}

/// A blob on its way out, once, however many places of the manifest it has.
class Store::Outgoing {
 public:
  Outgoing(oci::Descriptor blob, std::string mount_from)
      : blob_(std::move(blob)), mount_from_(std::move(mount_from)) {}
  void add_place(size_t place) { places_.push_back(place); }
  void make_from(LayerArchive archive, oci::Digest diff_id) {
    archive_ = std::move(archive);
    diff_id_ = std::move(diff_id);
  }
  const oci::Descriptor& blob() const { return blob_; }
  const std::string& mount_from() const { return mount_from_; }
  const std::vector<size_t>& places() const { return places_; }
  const std::optional<oci::Descriptor>& sent_as() const { return sent_as_; }

  Result<> send(BlobSender& sender, const BlobStore& blobs, const std::string& scratch,
                const std::atomic<bool>& cancelled) {
    if (!archive_.has_value()) {
      const LayerArchive kept{FLUYT_TRY(blobs.open_blob(blob_.digest)), 0,
                              static_cast<uint64_t>(blob_.size)};
      return sender.send(blob_, blob_.digest, kept, mount_from_);
    }
    const Remade made =
        FLUYT_TRY(compress(*archive_, *diff_id_, blob_.media_type, scratch, cancelled));
    FLUYT_TRY(sender.send(blob_, made.blob.digest, made.file, ""));
    sent_as_ = made.blob;
    return {};
  }

 private:
  oci::Descriptor blob_;  // as the image's manifest has it
  std::string mount_from_;
  std::vector<size_t> places_;           // among the layers; none: the config
  std::optional<LayerArchive> archive_;  // what it is made from; nothing: it is kept
  std::optional<oci::Digest> diff_id_;
  std::optional<oci::Descriptor> sent_as_;  // once it was made
};

// Each blob once, the layers first.
std::vector<Store::Outgoing> Store::outgoing_of(const oci::Manifest& manifest,
                                                const oci::Reference& target) const {
  std::vector<Outgoing> out;
  const auto add = [&](const CatalogState& state, const oci::Descriptor& blob) {
    const auto same = [&](const Outgoing& other) { return other.blob().digest == blob.digest; };
    const auto found = std::find_if(out.begin(), out.end(), same);
    if (found != out.end()) return found;
    out.emplace_back(blob, mount_source(state, target, blob.digest));
    return std::prev(out.end());
  };
  catalog_->read([&](const CatalogState& state) {
    for (size_t i = 0; i < manifest.layers.size(); ++i) {
      add(state, manifest.layers[i])->add_place(i);
    }
    add(state, manifest.config);
    return 0;
  });
  return out;
}

// What is not kept is left out where the registry has it, or else made again: all of that is known
// before anything is sent.
Result<> Store::find_sources(const ImageRow& row, const Sendable& sendable, const std::string& name,
                             BlobSender& sender, std::vector<Outgoing>& blobs) const {
  std::vector<size_t> trees;
  std::vector<Outgoing> to_send;
  for (Outgoing& blob : blobs) {
    const auto& places = blob.places();
    const auto& lacking = sendable.lacking;
    const bool is_kept = places.empty() ||
                         std::find(lacking.begin(), lacking.end(), places.front()) == lacking.end();
    if (!is_kept) {
      if (FLUYT_TRY(sender.is_there(blob.blob(), blob.mount_from()))) {
        sender.report(blob.blob(), LayerProgress::Phase::kExists,
                      static_cast<uint64_t>(blob.blob().size));
        continue;
      }
      auto archive = FLUYT_TRY(find_archive(row, sendable, places.front()));
      if (!archive.has_value()) {
        trees.push_back(places.front());
        continue;
      }
      blob.make_from(std::move(*archive), row.layers[places.front()].diff_id);
    }
    to_send.push_back(std::move(blob));
  }
  if (!trees.empty()) return lacks_blobs(sendable, trees, name, "push");
  blobs = std::move(to_send);
  return {};
}

Result<> Store::send_all(std::vector<Outgoing>& blobs, BlobSender& sender,
                         const std::atomic<bool>& cancelled) const {
  const std::string scratch = options_.root + "/staging";
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
      auto sent = blobs[mine].send(sender, blobs_, scratch, cancelled);
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
  return first_error.has_value() ? Result<>(std::move(*first_error)) : Result<>();
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
  auto found = get_sendable(*row, name, "push");
  if (!found.ok()) return std::move(found).error();
  Sendable& sendable = *found;
  const auto one = one_of_several(*row, name);
  if (one.has_value() && options.one_of_several) options.one_of_several(*one);
  std::vector<Outgoing> blobs = outgoing_of(sendable.manifest, reference);

  const std::atomic<bool> never{false};
  const std::atomic<bool>& cancelled = options.cancelled != nullptr ? *options.cancelled : never;
  const std::string context = cat("push ", quote(name));
  const auto settings = now();  // the session is the registry's
  const auto session = FLUYT_TRY_CONTEXT(
      settings->registry->open(reference.registry, reference.repository, options.credentials,
                               &cancelled, registry::Purpose::kPush),
      context);
  BlobSender sender(*session, options);
  for (const Outgoing& blob : blobs) sender.report(blob.blob(), LayerProgress::Phase::kWaiting, 0);
  auto sources = find_sources(*row, sendable, name, sender, blobs);
  // It has the context already where it is about what is not here.
  if (!sources.ok() && !sources.error().message().starts_with(context)) {
    return std::move(sources).error().add_context(context);
  }
  FLUYT_TRY(std::move(sources));
  FLUYT_TRY_CONTEXT(send_all(blobs, sender, cancelled), context);
  std::map<size_t, oci::Descriptor> remade;
  for (const Outgoing& blob : blobs) {
    if (!blob.sent_as().has_value()) continue;
    for (const size_t place : blob.places()) remade.emplace(place, *blob.sent_as());
  }
  if (!remade.empty()) {
    sendable.bytes = FLUYT_TRY_CONTEXT(with_layers(sendable.bytes, remade), context);
  }
  const std::string type = sendable.manifest.media_type.empty()
                               ? std::string(oci::media_type::kOciManifest)
                               : sendable.manifest.media_type;
  const auto digest =
      FLUYT_TRY_CONTEXT(session->push_manifest(reference.tag, type, sendable.bytes), context);
  const Pushed pushed{digest.text(), sendable.bytes.size(), one.has_value(), remade.size()};
  // A manifest that was made for the registry is none of ours: by its digest nothing could be
  // verified here. Whoever wants the image by it pulls it.
  if (!remade.empty()) return pushed;
  // From now on the image has this digest there, as after a pull.
  const std::string pinned_name = cat(reference.name(), "@", digest.text());
  auto named = catalog_->commit({.put_names = {{pinned_name, row->id}}});
  const bool is_gone = !named.ok() && named.error().code() == Code::kNotFound;
  if (!is_gone) FLUYT_TRY(std::move(named));
  return pushed;
}

}  // namespace fluyt::image
