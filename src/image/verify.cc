#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/compare.h"
#include "image/layer/erofs_image.h"
#include "image/layer/manifest.h"
#include "image/layer/tree_check.h"
#include "image/store.h"
#include "sys/file.h"
#include "sys/precedence.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxDifferences = 5;  // that are named of one layer
constexpr size_t kReadBytes = 256UL << 10U;

// Kept blobs as a source: their bytes are checked by whoever takes them.
class KeptSource final : public ContentSource {
 public:
  explicit KeptSource(const BlobStore& blobs) : blobs_(blobs) {}
  Result<std::string> manifest(const oci::Descriptor& descriptor) override {
    return blobs_.get(descriptor.digest, oci::kMaxManifestBytes);
  }
  Result<> stream(const oci::Descriptor& descriptor,
                  const std::function<Result<>(std::string_view)>& sink) override {
    const sys::Fd file = FLUYT_TRY(blobs_.open_blob(descriptor.digest));
    std::string buffer(kReadBytes, '\0');
    while (const size_t got = FLUYT_TRY(sys::read_some(file, buffer))) {
      FLUYT_TRY(sink(std::string_view(buffer).substr(0, got)));
    }
    return {};
  }
  bool has_another(const oci::Descriptor& /*descriptor*/) override { return false; }

 private:
  const BlobStore& blobs_;
};

// The same from a registry.
class FetchedSource final : public ContentSource {
 public:
  explicit FetchedSource(registry::Session& session) : session_(session) {}
  Result<std::string> manifest(const oci::Descriptor& descriptor) override {
    return FLUYT_TRY(session_.get_manifest(descriptor.digest.text())).bytes;
  }
  Result<> stream(const oci::Descriptor& descriptor,
                  const std::function<Result<>(std::string_view)>& sink) override {
    return session_.fetch_blob(descriptor.digest, static_cast<uint64_t>(descriptor.size), sink);
  }
  bool has_another(const oci::Descriptor& /*descriptor*/) override { return false; }

 private:
  registry::Session& session_;
};

std::string folder_of(const std::string& root, const oci::Digest& diff_id) {
  return cat(root, "/layers/", diff_id.hex());
}

Result<sys::Fd> open_tree(const std::string& root, const oci::Digest& diff_id) {
  return sys::open(folder_of(root, diff_id) + "/fs", O_RDONLY | O_DIRECTORY);
}

}  // namespace

/// One run of it: what is looked at, in which order, and what was found.
class Store::Verification {
 public:
  Verification(Store& store, const VerifyOptions& options)
      : store_(store), options_(options), give_way_(store.options_.precedence) {}

  Result<VerifyReport> run() {
    FLUYT_TRY(choose());
    scratch_ = FLUYT_TRY(sys::TempDir::create(store_.options_.root + "/staging"));
    for (const auto& [digest, bytes] : blobs_) {
      FLUYT_TRY(check_cancelled());
      report(digest, LayerProgress::Phase::kFetching, 0, bytes);
      FLUYT_TRY(blob(digest));
      report(digest, LayerProgress::Phase::kDone, bytes, bytes);
    }
    for (const auto& [diff_id, sources] : layers_) {
      FLUYT_TRY(check_cancelled());
      const uint64_t bytes = sources.front().blob_bytes;
      report(diff_id, LayerProgress::Phase::kFetching, 0, bytes);
      FLUYT_TRY(layer(sources));
      report(diff_id, LayerProgress::Phase::kDone, bytes, bytes);
    }
    return std::move(report_);
  }

 private:
  // What is removed while it is looked at goes when that is done.
  struct BlobHold {
    BlobHold(Store& of, const oci::Digest& digest)
        : store(of), content{{}, {digest}}, pin(of.blob_pins_.pin({digest}, "a verification")) {}
    ~BlobHold() {
      pin.release();
      store.collect_if_gone("", content);
    }
    Store& store;
    Content content;
    Pins::Pin pin;
  };
  struct LayerHold {
    LayerHold(Store& of, const oci::Digest& digest)
        : store(of), content{{digest}, {}}, pin(of.layer_pins_.pin({digest}, "a verification")) {}
    ~LayerHold() {
      pin.release();
      store.collect_if_gone("", content);
    }
    Store& store;
    Content content;
    Pins::Pin pin;
  };

  // What readers of whole layers do between two pieces: calls come before it, and it can be ended.
  BetweenSteps between_steps() {
    return [this] {
      give_way_.between_steps();
      return check_cancelled();
    };
  }

  Result<> check_cancelled() const {
    if (options_.cancelled == nullptr || !*options_.cancelled) return {};
    return Error(Code::kCancelled, "verify: cancelled by the caller");
  }

  void report(const oci::Digest& digest, LayerProgress::Phase phase, uint64_t done,
              uint64_t total) const {
    if (options_.progress) options_.progress({digest.text(), phase, done, total});
  }

  Result<> choose() {
    std::set<std::string> wanted;
    for (const std::string& name : options_.images) {
      const auto row = FLUYT_TRY(store_.find_row(name));
      if (!row.has_value()) {
        return Error(Code::kNotFound, cat("verify ", quote(name), ": no such image"));
      }
      wanted.insert(row->id);
    }
    const CatalogState state = store_.catalog_->read([](const CatalogState& s) { return s; });
    const auto add_blob = [&](const oci::Digest& digest) {
      const auto found = state.blobs.find(digest);
      if (found != state.blobs.end()) blobs_[digest] = found->second.bytes;
    };
    for (const auto& [id, row] : state.images) {
      if (!wanted.empty() && !wanted.contains(id)) continue;
      ++report_.images;
      for (const oci::Digest& blob : row.blobs) {
        // A document that is not there is damage, too.
        if (!state.blobs.contains(blob)) blobs_[blob] = 0;
        add_blob(blob);
      }
      for (const ImageLayer& layer : row.layers) {
        add_blob(layer.blob_digest);
        auto& sources = layers_[layer.diff_id];
        if (std::none_of(sources.begin(), sources.end(), [&](const auto& other) {
              return other.blob_digest == layer.blob_digest;
            })) {
          sources.push_back(layer);
        }
      }
    }
    return {};
  }

  // Those who have it, now.
  void name_users(Damage& damage, const oci::Digest& digest) const {
    store_.catalog_->read([&](const CatalogState& state) {
      for (const auto& [id, row] : state.images) {
        const bool has =
            damage.kind == Damage::Kind::kBlob
                ? std::find(row.blobs.begin(), row.blobs.end(), digest) != row.blobs.end() ||
                      std::any_of(row.layers.begin(), row.layers.end(),
                                  [&](const auto& l) { return l.blob_digest == digest; })
                : std::any_of(row.layers.begin(), row.layers.end(),
                              [&](const auto& l) { return l.diff_id == digest; });
        if (has) damage.images.push_back(id);
      }
      if (damage.kind != Damage::Kind::kLayer) return 0;
      for (const auto& [id, root] : state.roots) {
        if (std::find(root.layers.begin(), root.layers.end(), digest) != root.layers.end()) {
          damage.containers.push_back(id);
        }
      }
      return 0;
    });
  }

  Result<> blob(const oci::Digest& digest) {
    const BlobHold hold(store_, digest);
    ++report_.blobs;
    const auto checked = store_.blobs_.check(digest, between_steps());
    if (checked.ok()) return {};
    const Code code = checked.error().code();
    if (code != Code::kDataLoss && code != Code::kNotFound) return checked.error();
    Damage damage{Damage::Kind::kBlob, digest.text(), checked.error().message(), {}, {}};
    name_users(damage, digest);
    damaged_blobs_.insert(digest);
    if (options_.repair) mend_blob(damage, digest);
    report_.damages.push_back(std::move(damage));
    return {};
  }

  // From where one of its images has a name. A layer's blob can be done without.
  void mend_blob(Damage& damage, const oci::Digest& digest) {
    auto fetched =
        fetch(damage.images, [&](registry::Session& session, const ImageRow& row) -> Result<> {
          for (const ImageLayer& layer : row.layers) {
            if (layer.blob_digest != digest) continue;
            BlobWriter writer = FLUYT_TRY(store_.blobs_.create(digest, layer.blob_bytes));
            FLUYT_TRY(session.fetch_blob(digest, layer.blob_bytes, [&](std::string_view bytes) {
              return writer.write(bytes);
            }));
            FLUYT_TRY(writer.finish());
            return store_.catalog_->commit({.put_blobs = {{digest, layer.blob_bytes}}});
          }
          return fetch_document(session, row, digest);
        });
    if (fetched.ok()) {
      damage.outcome = Damage::Outcome::kRepaired;
      damage.note = "fetched again";
      damaged_blobs_.erase(digest);
      return;
    }
    damage.outcome = Damage::Outcome::kNotRepaired;
    damage.note = fetched.error().message();
  }

  // A manifest or index comes by its own door, a config by that of blobs, where its size is needed.
  Result<> fetch_document(registry::Session& session, const ImageRow& row,
                          const oci::Digest& digest) const {
    if (digest.text() != row.id) {
      const auto document = session.get_manifest(digest.text());
      if (!document.ok()) return document.error();
      FLUYT_TRY(store_.blobs_.put(digest, document->bytes));
      return store_.catalog_->commit({.put_blobs = {{digest, document->bytes.size()}}});
    }
    const std::string manifest =
        FLUYT_TRY(store_.blobs_.get(row.manifest_digest, oci::kMaxManifestBytes));
    const auto parsed = oci::parse_manifest(manifest);
    if (!parsed.ok()) return parsed.error();
    const auto size = static_cast<uint64_t>(parsed->config.size);
    BlobWriter writer = FLUYT_TRY(store_.blobs_.create(digest, size));
    FLUYT_TRY(session.fetch_blob(digest, size,
                                 [&](std::string_view bytes) { return writer.write(bytes); }));
    FLUYT_TRY(writer.finish());
    return store_.catalog_->commit({.put_blobs = {{digest, size}}});
  }

  // Tries `act` with each repository that one of the images has a name in.
  template <class Act>
  Result<> fetch(const std::vector<std::string>& images, Act act) {
    Error last(Code::kFailedPrecondition,
               "no image with it has a name in a registry to fetch it from");
    for (const std::string& id : images) {
      const auto row = store_.find_row(id);
      if (!row.ok() || !row->has_value()) continue;
      const auto names = store_.catalog_->read([&](const CatalogState& state) {
        std::vector<std::string> out;
        for (const auto& [name, owner] : state.names) {
          if (owner == id) out.push_back(name);
        }
        return out;
      });
      std::set<std::string> tried;
      for (const std::string& name : names) {
        const auto reference = oci::Reference::parse(name);
        if (!reference.ok() || !tried.insert(reference->name()).second) continue;
        const auto settings = store_.now();  // the session is the registry's
        auto session = settings->registry->open(reference->registry, reference->repository, {},
                                                options_.cancelled);
        auto done = session.ok() ? act(**session, **row) : Result<>(std::move(session).error());
        if (done.ok()) return {};
        last = std::move(done).error().add_context(reference->name());
      }
    }
    return last;
  }

  bool has_blob(const ImageLayer& layer) const {
    return blobs_.contains(layer.blob_digest) && !damaged_blobs_.contains(layer.blob_digest) &&
           !misfits_.contains({layer.diff_id, layer.blob_digest});
  }

  Result<> layer(const std::vector<ImageLayer>& sources) {
    const oci::Digest& diff_id = sources.front().diff_id;
    const LayerHold hold(store_, diff_id);
    const ImageLayer* kept = FLUYT_TRY(find_kept(sources));
    const ImageLayer& source = kept != nullptr ? *kept : sources.front();
    std::string finding = FLUYT_TRY(kept != nullptr ? compare(source) : check(source));
    if (kept != nullptr) ++report_.layers_compared;
    // What is not needed any more makes room for the next.
    if (scratch_store_ && (finding.empty() || !options_.repair)) {
      FLUYT_TRY(scratch_store_->remove(diff_id));
    }
    if (finding.empty()) return {};
    Damage damage{Damage::Kind::kLayer, diff_id.text(), std::move(finding), {}, {}};
    name_users(damage, diff_id);
    if (options_.repair) to_mend_.emplace_back(report_.damages.size(), source);
    report_.damages.push_back(std::move(damage));
    return {};
  }

  // The one whose blob is kept, and unpacked into the scratch store where the form needs that;
  // null: none of them. A blob with the right digest need not be this layer's: when a tree is here
  // already, nobody unpacks what another image says that it comes from.
  Result<const ImageLayer*> find_kept(const std::vector<ImageLayer>& sources) {
    for (const ImageLayer& layer : sources) {
      if (!has_blob(layer)) continue;
      if (form_of(layer.diff_id) == LayerForm::kErofs) return &layer;
      KeptSource source(store_.blobs_);
      auto unpacked = unpack(source, layer);
      if (unpacked.ok()) return &layer;
      Error error = std::move(unpacked).error();
      if (error.code() == Code::kDataLoss || error.code() == Code::kInvalidArgument) {
        note_misfit(layer, error);
      } else if (error.code() == Code::kResourceExhausted) {
        store_.logger_.warn(cat("verify: not compared with what its blob unpacks to: layer ",
                                layer.diff_id.text(), ": ", error.message()));
      } else {
        return error;
      }
    }
    return static_cast<const ImageLayer*>(nullptr);
  }

  void note_misfit(const ImageLayer& layer, const Error& why) {
    misfits_.emplace(layer.diff_id, layer.blob_digest);
    Damage damage{Damage::Kind::kBlob,
                  layer.blob_digest.text(),
                  cat("does not unpack to the layer ", layer.diff_id.text(), ": ", why.message()),
                  {},
                  {}};
    store_.catalog_->read([&](const CatalogState& state) {
      for (const auto& [id, row] : state.images) {
        if (std::find(row.layers.begin(), row.layers.end(), layer) != row.layers.end())
          damage.images.push_back(id);
      }
      return 0;
    });
    if (options_.repair) {
      damage.outcome = Damage::Outcome::kNotRepaired;
      damage.note = "its digest is right: the image was made with it, remove that";
    }
    report_.damages.push_back(std::move(damage));
  }

  // What the kept blob unpacks to, beside what is there.
  Result<std::string> compare(const ImageLayer& layer) {
    const auto record = store_.layers_->find(layer.diff_id);
    if (!record.ok()) return record.error().message();
    if (!record->has_value()) return std::string("is not there");
    if ((*record)->form == LayerForm::kErofs) return check_image(**record);
    auto found = open_tree(store_.options_.root, layer.diff_id);
    if (!found.ok()) return found.error().message();
    const sys::Fd expected = FLUYT_TRY(open_tree(scratch_->path(), layer.diff_id));
    const auto differences =
        FLUYT_TRY(compare_trees(*found, expected, kMaxDifferences, between_steps()));
    if (!differences.empty() || (*record)->metadata_digest.empty()) return join(differences, "; ");
    // For when the blob is not kept any more.
    auto manifest = open_manifest(layer.diff_id);
    if (!manifest.ok()) return manifest.error().message();
    return text_of(ManifestReader::open(*manifest, (*record)->metadata_digest));
  }

  // An image tells all by itself: the archive in it has the layer's name for a digest, and its
  // record has that of the rest.
  Result<std::string> check_image(const LayerInfo& info) {
    auto file = sys::open(cat(folder_of(store_.options_.root, info.diff_id), "/", kImageName),
                          O_RDONLY | O_NOFOLLOW);
    if (!file.ok()) return file.error().message();
    return text_of(erofs::check_image(*file, info, between_steps()));
  }

  // What is wrong with it, if that is all that came of it.
  template <class T>
  static Result<std::string> text_of(const Result<T>& outcome) {
    if (outcome.ok()) return std::string();
    const bool is_damage =
        outcome.error().code() == Code::kDataLoss || is_loss(outcome.error().errno_value());
    if (!is_damage) return outcome.error();
    return outcome.error().message();
  }

  Result<sys::Fd> open_manifest(const oci::Digest& diff_id) const {
    return sys::open(cat(folder_of(store_.options_.root, diff_id), "/", kManifestName),
                     O_RDONLY | O_NOFOLLOW);
  }

  // Its blob is not kept: what was noted of it when it was unpacked.
  Result<std::string> check(const ImageLayer& layer) {
    const auto record = store_.layers_->find(layer.diff_id);
    const bool has_checksums =
        record.ok() && record->has_value() && !(*record)->metadata_digest.empty();
    ++(has_checksums ? report_.layers_compared : report_.layers_counted);
    if (!record.ok()) return record.error().message();
    if (!record->has_value()) return std::string("is not there");
    if ((*record)->form == LayerForm::kErofs) return check_image(**record);
    const auto tree = open_tree(store_.options_.root, layer.diff_id);
    if (!tree.ok()) return tree.error().message();
    if (!has_checksums) return count(*tree, **record);
    const auto manifest = open_manifest(layer.diff_id);
    if (!manifest.ok()) return manifest.error().message();
    return join(FLUYT_TRY(check_tree(*tree, *manifest, (*record)->metadata_digest, kMaxDifferences,
                                     between_steps())),
                "; ");
  }

  // It has no manifest: as much as its record tells.
  Result<std::string> count(sys::FdRef tree, const LayerInfo& record) {
    const TreeCount counted = FLUYT_TRY(count_tree(tree, between_steps()));
    if (counted.inodes != record.inodes) {
      return cat("has ", counted.inodes, " files and folders, expected ", record.inodes);
    }
    // Sizes with their holes are at least the data, whose blocks were rounded up.
    const uint64_t least = record.disk_bytes - std::min(record.disk_bytes, counted.inodes * 4096);
    if (counted.file_bytes < least) {
      return cat("its files have ", counted.file_bytes, " bytes, expected at least ", least);
    }
    return std::string();
  }

  LayerForm form_of(const oci::Digest& diff_id) const {
    const auto record = store_.layers_->find(diff_id);
    return record.ok() && record->has_value() ? (*record)->form : store_.layers_->form();
  }

  // Into the scratch store, once a layer.
  Result<LayerInfo> unpack(ContentSource& source, const ImageLayer& layer) {
    // A store writes one form; layers of both may be here.
    if (scratch_store_ && scratch_store_->options().form != form_of(layer.diff_id)) {
      scratch_store_.reset();
      scratch_ = FLUYT_TRY(sys::TempDir::create(store_.options_.root + "/staging"));
    }
    if (!scratch_store_) {
      scratch_store_ =
          FLUYT_TRY(LayerStore::open({.root = scratch_->path(),
                                      .unpack_program = store_.layers_->unpack_program(),
                                      .form = form_of(layer.diff_id),
                                      .precedence = store_.options_.precedence,
                                      .logger = &store_.logger_}));
    }
    LayerFetches fetches(*scratch_store_, store_.blobs_);
    const oci::Descriptor blob{.media_type = std::string(oci::media_type::kOciLayer),
                               .digest = layer.blob_digest,
                               .size = static_cast<int64_t>(layer.blob_bytes)};
    std::atomic<bool> stop{false};
    const ProgressSink look = [&](const LayerProgress&) {
      if (!check_cancelled().ok()) stop = true;
    };
    auto infos = FLUYT_TRY(fetches.fetch_all(source, {{blob, layer.diff_id}}, {}, look, stop));
    return std::move(infos.front());
  }

 public:
  /// After run(), without any pin of ours: puts good trees in the places of damaged ones.
  void mend(VerifyReport& report) {
    for (const auto& [index, layer] : to_mend_) {
      Damage& damage = report.damages[index];
      auto mended = mend_layer(damage, layer);
      damage.outcome = mended.ok() ? Damage::Outcome::kRepaired : Damage::Outcome::kNotRepaired;
      damage.note = mended.ok() ? std::move(*mended) : mended.error().message();
    }
  }

 private:
  Result<std::string> mend_layer(const Damage& damage, const ImageLayer& layer) {
    if (!damage.containers.empty()) return in_use();
    std::string how = "unpacked again from its blob";
    std::optional<LayerInfo> fresh;
    if (auto there = FLUYT_TRY(scratch_store_ ? scratch_store_->find(layer.diff_id)
                                              : Result<std::optional<LayerInfo>>(std::nullopt))) {
      fresh = std::move(*there);
    } else if (has_blob(layer)) {
      KeptSource source(store_.blobs_);
      fresh = FLUYT_TRY(unpack(source, layer));
    } else {
      how = "fetched and unpacked again";
      FLUYT_TRY(
          fetch(damage.images, [&](registry::Session& session, const ImageRow& row) -> Result<> {
            FetchedSource source(session);
            for (const ImageLayer& its : row.layers) {
              if (its.diff_id == layer.diff_id) fresh = FLUYT_TRY(unpack(source, its));
            }
            return {};
          }));
    }
    // A container that is being created waits for the claim, and finds the good tree.
    const auto claimed = store_.layer_pins_.claim({layer.diff_id});
    if (claimed.empty()) return in_use();
    auto swapped = swap(*fresh);
    store_.layer_pins_.done(claimed);
    FLUYT_TRY(std::move(swapped));
    FLUYT_TRY(store_.sync_now());
    return how;
  }

  static Error in_use() {
    return {Code::kFailedPrecondition, "containers stand on it: remove them, and repair again"};
  }

  Result<> swap(const LayerInfo& fresh) {
    const bool used = store_.catalog_->read([&](const CatalogState& state) {
      return std::any_of(state.roots.begin(), state.roots.end(), [&](const auto& entry) {
        const auto& chain = entry.second.layers;
        return std::find(chain.begin(), chain.end(), fresh.diff_id) != chain.end();
      });
    });
    if (used) return in_use();
    // Not durable from here on until the sync: a power cut in between makes it be fetched again.
    const Replacing replacing(store_, {fresh.diff_id});
    FLUYT_TRY(store_.catalog_->commit(
        {.put_layers = {{fresh.diff_id, fresh.disk_bytes, fresh.inodes, false,
                         store_.epoch_.boot_id, store_.epoch_.mount_id}}}));
    FLUYT_TRY(remove_fixups_with(fresh.diff_id));
    FLUYT_TRY(store_.layers_->remove(fresh.diff_id));
    const std::string from = folder_of(scratch_->path(), fresh.diff_id);
    const std::string to = folder_of(store_.options_.root, fresh.diff_id);
    if (::rename(from.c_str(), to.c_str()) == 0) return {};
    return Error::from_errno(errno, cat("rename(", quote(from), ", ", quote(to), ")"));
  }

  // Of every chain with the layer in it: their links may lead to files of the tree that goes. They
  // are made anew when they are needed: by nobody now, since the layer is claimed.
  Result<> remove_fixups_with(const oci::Digest& diff_id) {
    const CatalogState state = store_.catalog_->read([](const CatalogState& s) { return s; });
    for (const auto& [id, row] : state.images) {
      std::vector<oci::Digest> chain;
      for (const ImageLayer& layer : row.layers) chain.push_back(layer.diff_id);
      const auto ids = FLUYT_TRY(chain_ids_of(chain));
      const auto lowest = std::find(chain.begin(), chain.end(), diff_id);
      for (auto i = static_cast<size_t>(lowest - chain.begin()); i < ids.size(); ++i) {
        FLUYT_TRY(store_.layers_->remove_fixup(ids[i]));
      }
    }
    return {};
  }

  Store& store_;
  const VerifyOptions& options_;
  sys::GiveWay give_way_;
  std::map<oci::Digest, uint64_t> blobs_;  // and their bytes, for progress
  /// By diff id, and for each the blobs that images say it comes from.
  std::map<oci::Digest, std::vector<ImageLayer>> layers_;
  std::set<oci::Digest> damaged_blobs_;
  std::set<std::pair<oci::Digest, oci::Digest>> misfits_;  // see find_kept(): diff id and blob
  std::optional<sys::TempDir> scratch_;
  std::unique_ptr<LayerStore> scratch_store_;
  std::vector<std::pair<size_t, ImageLayer>> to_mend_;  // the place in the report's damages
  VerifyReport report_;
};

Result<VerifyReport> Store::verify(const VerifyOptions& options) {
  const Works::Work under_way = works_.begin("a verification");
  Verification verification(*this, options);
  VerifyReport report = FLUYT_TRY(verification.run());
  verification.mend(report);
  return report;
}

}  // namespace fluyt::image
