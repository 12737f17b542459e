#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "image/layer/inflate.h"
#include "image/layer/info.h"
#include "image/layer/reaper.h"
#include "image/layer/view.h"
#include "oci/digest.h"
#include "sys/fd.h"
#include "sys/precedence.h"

namespace fluyt::image {

/// A part of a file: the tar that a layer was unpacked from, where the disk has it still, or what
/// was made of it.
struct LayerArchive {
  sys::Fd file;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  /// Reads from `at` on, at least one byte; 0 at the end of the part alone. A file that ends before
  /// its part is kDataLoss.
  Result<size_t> read_at(uint64_t at, std::span<char> into) const;
  /// Passes all of it on, and says what its digest was; kCancelled once `cancelled`, which may be
  /// null, is set.
  Result<oci::Digest> pass_on(std::string_view algorithm, const ByteSink& sink,
                              const std::atomic<bool>* cancelled) const;
};

/// Unpacked layers on disk. Below `root`:
///
///     layers/<hex of diff id>/fs           the tree, exactly one for a diff id, never changed; or
///                                          where the image is mounted
///     layers/<hex of diff id>/layer.erofs  the image, of a layer in that form
///     layers/<hex of diff id>/layer.json   LayerInfo; beside it a tree's `manifest` (manifest.h)
///     fixups/<hex of chain id>/fs          what a chain adds above its top layer: resolve_chain
///     staging/<random>/                    work in progress; emptied by open()
///     trash/<random>/                      on its way out; emptied by open()
///     aside/<hex>.<boot id>.<random>/      of layers and fix-ups by what they had for a name:
///     given
///                                          up in that boot under somebody who may stand on it
///
/// What open() cannot remove is logged and stays.
/// A layer is there or it is not: it appears by one rename, after its digests were verified.
/// Nothing is synced here: "durable or same boot" is the catalog's affair, by sync(). Thread-safe.
class LayerStore {
 public:
  struct Options {
    std::string root;            // ours, 0700; made when absent
    std::string unpack_program;  // absolute path of fluyt-unpack
    /// Kept free on the disk: what is written side by side may take what is free less this.
    uint64_t reserve_bytes = 64UL << 20U;
    /// Of new layers; those that are there stay as they are. Where the kernel cannot mount images
    /// open() fails with what it said. None: images where the kernel mounts them, and can map their
    /// ids for a user namespace, else trees.
    std::optional<LayerForm> form = LayerForm::kDirectory;
    /// Of calls that the making of layers gives way to; may be none.
    std::shared_ptr<sys::Precedence> precedence;
    /// Told of trees that cannot be removed; may be none, and outlives the store.
    Logger* logger = nullptr;
  };
  static Result<std::unique_ptr<LayerStore>> open(Options options);

  /// The layer's record; nothing when it is not there.
  Result<std::optional<LayerInfo>> find(const oci::Digest& diff_id) const;
  /// The layer's tar: of one in an image. Nothing for a tree, which does not give it back, and for
  /// a layer that is not there. Whoever reads it compares its digest with the diff id.
  Result<std::optional<LayerArchive>> find_archive(const oci::Digest& diff_id) const;
  bool has_archive(const oci::Digest& diff_id) const;
  /// Every layer there is; a folder whose record cannot be read is passed over (and can be removed
  /// with remove()): its name is in `damaged` when given.
  Result<std::vector<LayerInfo>> list(std::vector<std::string>* damaged = nullptr) const;
  /// Removes a layer's tree: renamed to trash first, so that it is gone at once. Absent is success.
  /// The caller knows that no chain, root or pull uses it.
  Result<> remove(const oci::Digest& diff_id) const;
  /// The same, but who stands on the tree keeps it until remove_aside(); nobody else gets it.
  /// `boot_id` is that of now.
  Result<> set_aside(const oci::Digest& diff_id, const std::string& boot_id) const;
  /// What was set aside, and not removed yet.
  struct Aside {
    std::string path;     // below root
    oci::Digest id;       // a layer's diff id, a fix-up's chain id
    std::string boot_id;  // of then: nobody stands on what is of another
  };
  Result<std::vector<Aside>> list_aside() const;
  Result<> remove_aside(const Aside& aside) const;

  /// The directories that show a chain of layers, topmost first: the trees, and above a layer that
  /// needs it the chain's fix-up: a small tree with just the implied directories (owner, mode and
  /// attributes of the same path below) and the hard links into lower layers. So a tree shared by
  /// many images is never changed for one of them, and none is copied. Fix-ups that are missing are
  /// made (needs CAP_SYS_ADMIN: reads a private overlay mount). A layer that hides all below it
  /// ends the list, and one that is there twice is in it once. `diff_ids` are lowest first, all
  /// present. A hard link whose target no lower layer has is kInvalidArgument. The look-ups of what
  /// is made are bounded by the layers' number and their entries: more are kResourceExhausted. Once
  /// `stop`, which may be null, is set, the making ends with kCancelled.
  Result<std::vector<std::string>> resolve_chain(std::span<const oci::Digest> diff_ids,
                                                 const std::atomic<bool>* stop = nullptr) const;
  /// Fix-ups there are, as chain ids; and their removal (absent is success).
  Result<std::vector<oci::Digest>> list_fixups() const;
  Result<> remove_fixup(const oci::Digest& chain_id) const;
  /// As set_aside().
  Result<> set_fixup_aside(const oci::Digest& chain_id, const std::string& boot_id) const;

  /// syncfs(2) of the disk that holds the layers. An error means that any layer not yet durable may
  /// have lost data: remove it, do not try again.
  Result<> sync() const;
  /// Takes mounted images out of the mount table: running containers keep what they stand on.
  ~LayerStore();
  LayerStore(const LayerStore&) = delete;
  LayerStore& operator=(const LayerStore&) = delete;
  /// Has the disk begin with what was written so far. Promises nothing when it succeeds; an error
  /// is one of sync(), and a process that begins after it may not be told of it again.
  Result<> write_ahead() const;
  /// When all that may have lost data is gone: sync() and write_ahead() are each told of an error
  /// once, and what they have not told yet is of that.
  void forget_errors() const;

  const Options& options() const { return options_; }
  /// Of new layers: as options().form says, until another is set. What is being written keeps its
  /// own.
  LayerForm form() const { return form_; }
  void set_form(LayerForm form) { form_ = form; }
  /// The same of options().unpack_program.
  std::string unpack_program() const { return *unpack_program_.lock(); }
  void set_unpack_program(std::string path) { *unpack_program_.lock() = std::move(path); }
  /// The form that is meant by Options::form. An error is what the kernel said to one asked for.
  Result<LayerForm> choose(std::optional<LayerForm> form) const;
  /// Where the disk has less than a tenth of its blocks or inodes left, or `missing_bytes` are more
  /// than a layer may take: waits, not for ever and not once `stop` is set, for the removal of what
  /// failed layers left behind.
  void wait_for_room(uint64_t missing_bytes, const std::atomic<bool>& stop) const;
  /// Bytes that a new layer may take now.
  Result<uint64_t> available_bytes() const;

 private:
  friend class LayerWriter;
  LayerStore(Options options, LayerForm form, sys::Fd root, sys::Fd sync_handle,
             sys::Fd ahead_handle, std::unique_ptr<Reaper> trash)
      : options_(std::move(options)),
        form_(form),
        unpack_program_(options_.unpack_program),
        root_(std::move(root)),
        sync_handle_(std::move(sync_handle)),
        ahead_handle_(std::move(ahead_handle)),
        trash_(std::move(trash)) {}
  /// What resolve_chain needs to know of a layer, kept so that it need not read the record again.
  struct Known {
    bool needs_chain = false;
    bool has_lower_links = false;
    bool opaque_root = false;
    bool mounted = false;  // or a tree, which needs no mount
    LayerForm form = LayerForm::kDirectory;
  };
  /// Of a layer in an image: mounted when it returns.
  Result<> mount(const oci::Digest& diff_id) const;
  Result<Known> known(const oci::Digest& diff_id) const;
  Result<> move_aside(const std::string& path, const oci::Digest& id,
                      const std::string& boot_id) const;
  /// The directory of the chain's fix-up, made if need be; nothing when it needs none.
  Result<std::optional<std::string>> fixup_dir(const oci::Digest& top,
                                               const std::vector<std::string>& below,
                                               const oci::Digest& chain_id,
                                               LookUps& look_ups) const;
  Result<> check_depth(std::span<const oci::Digest> diff_ids) const;

  Options options_;
  std::atomic<LayerForm> form_;
  Guarded<std::string> unpack_program_;
  sys::Fd root_;
  sys::Fd sync_handle_;   // opened before anything is written: errors are reported per open file
  sys::Fd ahead_handle_;  // another one: neither hears in the other's place
  std::unique_ptr<Reaper> trash_;  // of layers that failed
  Guarded<std::map<std::string, Known>> known_;
  mutable std::mutex mounting_;
};

inline constexpr std::string_view kImageName = "layer.erofs";
/// The most directories that overlayfs stacks.
inline constexpr size_t kMaxLowerDirs = 500;

/// image-spec config.md, "Layer ChainID": of each beginning of a chain of layers, lowest first; as
/// many as there are layers.
Result<std::vector<oci::Digest>> chain_ids_of(std::span<const oci::Digest> diff_ids);

}  // namespace fluyt::image
