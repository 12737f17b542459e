#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "image/assemble.h"
#include "image/blob/store.h"
#include "image/catalog/catalog.h"
#include "image/durability.h"
#include "image/gc_plan.h"
#include "image/image_store.h"
#include "image/layer/store.h"
#include "image/layer_fetches.h"
#include "image/library.h"
#include "image/pins.h"
#include "image/policy/verify.h"
#include "image/registry/session.h"
#include "image/rootfs/roots.h"
#include "image/works.h"
#include "sys/fd.h"

namespace fluyt::image {

class BlobSender;

/// The image store: one file a verb (open, pull, import, install, admit, sync, remove, roots, find,
/// tag, push, save, describe, gc, verify). Below options.root:
///
///     lock         flock(2)ed by the process that has the store
///     catalog.db   the truth
///     blobs/       configs, manifests, indexes; layers as they came, where they are kept
///     layers/ fixups/ staging/ trash/ aside/   see LayerStore
///     roots/       see Roots
class Store final : public ImageStore, public Library {
 public:
  struct Parts {
    sys::Fd lock;
    std::unique_ptr<Catalog> catalog;
    BlobStore blobs;
    std::unique_ptr<LayerStore> layers;
    Roots roots;
    WriteEpoch epoch;
  };
  Store(StoreOptions options, Parts parts, Logger& logger);
  ~Store() override;

  Result<Image> pull(const oci::Reference& reference, const PullOptions& options) override;
  Result<std::vector<Image>> import(const std::string& path, const ImportOptions& options) override;
  Result<std::vector<Image>> list() override;
  Result<std::optional<Image>> find(const std::string& name_or_id) override;
  Result<> remove(const std::string& name_or_id) override;
  Result<> untag(const std::string& name) override;
  Result<Image> tag(const std::string& name_or_id, const std::string& new_name) override;
  Result<Pushed> push(const oci::Reference& reference, const PushOptions& options) override;
  Result<> save(const SaveOptions& options,
                const std::function<Result<>(std::string_view)>& sink) override;
  std::vector<ImageDetail> list_details() override;
  Result<std::optional<ImageDetail>> describe(const std::string& name_or_id) override;
  void keep_pinned(std::vector<std::string> patterns) override;
  Result<std::function<void()>> prepare(StoreChange change) override;
  std::shared_ptr<void> watch_import(const std::string& path, ImportWatch watch) override;
  std::vector<ImageDetail> list_unused(Unused which) override;
  Result<GcReport> collect_garbage(const GcOptions& options) override;
  Result<VerifyReport> verify(const VerifyOptions& options) override;
  Result<> admit(const Admission& what) override;
  Result<sys::OverlayMount> create_root(const std::string& container_id,
                                        const std::string& image_id,
                                        const RootOptions& options = {}) override;
  Result<> probe_ids() override;
  Result<> remove_root(const std::string& container_id) override;
  Result<std::vector<std::string>> list_roots() override;
  Result<FsUsage> root_usage(const std::string& container_id) override;
  Result<FsUsage> fs_usage() override;
  Result<std::optional<std::string>> read_image_file(const std::string& image_id,
                                                     const std::string& path,
                                                     size_t limit) override;

  /// Makes disk and catalog agree: what a dead process left half-done goes, what is not whole any
  /// more is discarded. Once, before anything else. open.cc
  Result<> reconcile();

 private:
  struct PullFlight;
  struct Settings;
  class Verification;
  struct Content {  // digests of one image or root
    std::vector<oci::Digest> layers;
    std::vector<oci::Digest> blobs;
  };
  /// Keeps what an image has from being collected while somebody reads it. When the image was
  /// removed meanwhile, what could not go then goes at the end.
  class Hold {
   public:
    Hold(Store& store, const ImageRow& row, const std::string& owner);
    Hold(Hold&& other) noexcept;
    Hold& operator=(Hold&&) = delete;
    ~Hold();

   private:
    Store* store_;  // none: moved from
    std::string id_;
    Content content_;
    Pins::Pin layers_;
    Pins::Pin blobs_;
  };
  void collect_if_gone(const std::string& image_id, const Content& content);
  enum class Sync { kBehind, kBeforeReturn };
  struct Install {
    std::vector<std::string> names;
    Sync sync = Sync::kBehind;
    bool keep_blobs = false;
    std::vector<ApprovalRow> approvals;  // of the image; they have no id yet
  };

  // pull.cc
  static void stop_pull(PullFlight& flight);
  struct PullQuestion {  // what the waiters of one flight have in common
    oci::Reference reference;
    Credentials credentials;
    oci::Platform platform;
    PullOptions::Purpose purpose;
    std::string kubernetes_namespace;
  };
  void run_pull(const PullQuestion& question, PullFlight& flight);
  Result<Image> pull_now(const PullQuestion& question, const ProgressSink& progress,
                         PullFlight& flight);
  Result<Image> pull_from(registry::Session& session, const PullQuestion& question,
                          const ProgressSink& progress, std::atomic<bool>& stop);
  /// The rules asked, and what they let through.
  struct Approver {
    Approval ask;  // empty: there is nothing to ask
    /// What `ask` let through and is to be remembered, without the image's id, which is not known
    /// yet.
    std::shared_ptr<std::vector<ApprovalRow>> granted =
        std::make_shared<std::vector<ApprovalRow>>();
  };
  Approver approver_of(const policy::VerifyOptions& options, const PullQuestion& question,
                       registry::Session& session);
  Result<std::optional<Image>> pull_known(const PullQuestion& question,
                                          const oci::Descriptor& target, const Approver& approver);
  // admit.cc
  struct Claim;
  static ApprovalRow row_of(const std::string& image_id, const policy::Question& question,
                            const policy::Rules& rules);
  void take_back(const ApprovalRow& what);
  Result<std::vector<oci::Reference>> names_of(const Admission& what, const Image& image) const;
  std::vector<oci::Digest> targets_of(const Image& image, const oci::Reference& name) const;
  Result<oci::Descriptor> describe_target(const oci::Digest& target) const;
  Result<> prove(const Claim& claim, const Image& image, const Admission& what,
                 const Settings& settings, Deadline deadline);
  Result<> admit_nameless(const Image& image, const Admission& what,
                          const Settings& settings) const;
  bool keeps_blobs(PullOptions::Purpose purpose) const;
  // install.cc
  Result<Image> install(ContentSource& source, const ImagePlan& plan, const Install& how,
                        const ProgressSink& progress, std::atomic<bool>& stop);
  Result<> bring_in(ContentSource& source, const ImagePlan& plan, const Install& how,
                    const ProgressSink& progress, std::atomic<bool>& stop);
  uint64_t missing_bytes(const ImagePlan& plan, const Install& how) const;
  Result<> check_space(uint64_t missing) const;
  CatalogChange change_for(const ImagePlan& plan, const std::vector<LayerInfo>& infos,
                           const Install& how) const;
  struct NamedConfig {
    std::string image_id;
    std::shared_ptr<const oci::ImageConfig> config;
  };
  /// A commit by which images come or go: who sees an image finds its config, and of an image that
  /// is not there none is kept.
  Result<> commit_images(const CatalogChange& change, const NamedConfig& arriving = {});
  std::vector<oci::Digest> damaged_layers(const ImagePlan& plan) const;
  // sync.cc
  /// Layers whose trees others of the same name take the place of, as long as it is there: no sync
  /// of before calls what comes durable.
  class Replacing {
   public:
    Replacing(Store& store, std::vector<oci::Digest> layers);
    ~Replacing();
    Replacing(const Replacing&) = delete;
    Replacing& operator=(const Replacing&) = delete;
    /// Their rows are not durable any more. To be called before the first of them goes.
    Result<> begin() const;

   private:
    Store& store_;
    const std::vector<oci::Digest> layers_;
  };
  Result<> sync_now();
  std::string lost_writes_note() const;
  Error lost_writes(Error why) const;  // with what follows from it
  void note_lost_writes();
  Result<> forget_lost_writes();
  Result<> discard_unsynced();
  Result<> discard(const std::vector<oci::Digest>& lost, const std::vector<oci::Digest>& claimed);
  // open.cc
  Result<> discard_broken();
  Result<> load_configs(CatalogChange& change);
  Result<> sweep_roots(CatalogChange& change);
  Result<> sweep_content();
  Result<> count_blobs();
  // remove.cc
  static Content content_of(const ImageRow& row);
  Result<> remove_image(const ImageRow& row);
  /// What of them nobody uses goes, and what of the chains' fix-ups; `fixups` says whether those
  /// that somebody has in hand are waited for or left to the next collection.
  Result<> collect(const Content& candidates, Pins::Pinned fixups = Pins::Pinned::kLeave);
  Result<> collect_fixups(Pins::Pinned pinned);
  /// Keeps the fix-ups of a chain, those there are and those that are being made.
  struct ChainHold {
    Works::Work under_way;
    Pins::Pin fixups;
  };
  Result<ChainHold> hold_chain(const std::vector<oci::Digest>& diff_ids, const std::string& owner);
  std::set<oci::Digest> layers_in_roots() const;
  Result<> give_up(const oci::Digest& layer, const std::set<oci::Digest>& stood_on);
  Result<> sweep_aside();
  // describe.cc
  Result<std::optional<ImageRow>> find_row(const std::string& name_or_id) const;
  ImageDetail make_detail(const ImageRow& row, const CatalogState& state) const;
  // sendable.cc
  /// The image's manifest. `verb` is what was wanted.
  struct Sendable {
    oci::Digest digest;  // of `bytes`
    std::string bytes;
    oci::Manifest manifest;
    std::vector<size_t> lacking;  // places of layers whose blob was not kept
  };
  Result<Sendable> get_sendable(const ImageRow& row, const std::string& name,
                                std::string_view verb) const;
  /// What that layer's blob can be made from again.
  Result<std::optional<LayerArchive>> find_archive(const ImageRow& row, const Sendable& sendable,
                                                   size_t place) const;
  /// kFailedPrecondition, with what to do.
  Error lacks_blobs(const Sendable& sendable, const std::vector<size_t>& places,
                    const std::string& name, std::string_view verb) const;
  Result<> take_archives(const ImageRow& row, const std::string& name, Sendable& sendable,
                         std::map<oci::Digest, LayerArchive>& archives) const;  // save.cc
  // push.cc
  class Outgoing;
  std::vector<Outgoing> outgoing_of(const oci::Manifest& manifest,
                                    const oci::Reference& target) const;
  Result<> find_sources(const ImageRow& row, const Sendable& sendable, const std::string& name,
                        BlobSender& sender, std::vector<Outgoing>& blobs) const;
  Result<> send_all(std::vector<Outgoing>& blobs, BlobSender& sender,
                    const std::atomic<bool>& cancelled) const;
  std::optional<OneOfSeveral> one_of_several(const ImageRow& row, const std::string& name) const;
  bool may_warn_of(const std::string& container_id);  // roots.cc
  // gc.cc
  Result<StoreContent> look() const;
  Result<> remove_unfinished(const std::vector<std::string>& paths);
  Result<> remove_trash(const std::vector<std::string>& paths);
  // find.cc
  bool is_pinned(const std::string& name) const;
  Result<std::optional<std::string>> find_id(const std::string& name_or_id) const;
  std::optional<Image> find_image(const std::string& id) const;
  Image make_image(const ImageRow& row, const CatalogState& state) const;

  /// What may change (change.cc). A verb takes it once, and keeps what it began with.
  struct Settings {
    policy::VerifyOptions verify;
    KeepBlobs keep_blobs = KeepBlobs::kPushable;
    size_t parallel_fetches = 3;
    size_t max_fetches = 8;
    std::shared_ptr<registry::Registry> registry;
  };
  std::shared_ptr<const Settings> now() const { return *settings_.lock(); }
  std::shared_ptr<registry::Registry> make_registry(CredentialTable credentials,
                                                    const std::string& certs_dir,
                                                    const std::string& auth_file) const;

  const StoreOptions options_;  // what is fixed; the rest as it was at the start, see now()
  Logger& logger_;
  sys::Fd lock_;
  std::unique_ptr<Catalog> catalog_;
  BlobStore blobs_;
  std::unique_ptr<LayerStore> layers_;
  Roots roots_;
  const WriteEpoch epoch_;
  Guarded<std::shared_ptr<const Settings>> settings_;
  LayerFetches fetches_;
  Works works_;
  Pins layer_pins_;
  Pins blob_pins_;              // apart: an uncompressed layer's tree and blob have one digest
  std::mutex images_changing_;  // one commit_images() at a time
  Guarded<std::map<std::string, std::shared_ptr<const oci::ImageConfig>>> configs_;  // by image id
  Guarded<std::vector<std::string>> pinned_;  // patterns of names
  Guarded<std::map<std::string, std::shared_ptr<const ImportWatch>>> import_watches_;  // by path
  Guarded<std::map<std::string, int64_t>> usage_warned_;  // containers, and when (now_boot_ns())
  Pins chain_pins_;     // by chain id: whose fix-ups are being made or looked through
  std::mutex syncing_;  // one sync_now() at a time
  // Rows dropped since the running sync began: a layer of that name which is there now came later
  // than the sync looked.
  Guarded<std::set<oci::Digest>> renewed_;
  Guarded<std::multiset<oci::Digest>> replacing_;  // locked after renewed_
  std::shared_mutex arrivals_;  // shared: an image on its way in; alone: see sync.cc
  // Who is on its way in may have lost data, too. A note of it stands for the next process, which
  // the kernel would not tell.
  std::atomic<bool> lost_writes_{false};

  std::mutex pulls_mutex_;
  std::condition_variable pulls_changed_;
  std::map<std::string, std::shared_ptr<PullFlight>> pulls_;
  size_t running_pulls_ = 0;

  std::unique_ptr<Syncer> syncer_;  // last: its thread uses all of the above
};

}  // namespace fluyt::image
