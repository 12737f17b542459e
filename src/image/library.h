#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/image_store.h"
#include "oci/reference.h"

/// What people do with images beside running them. The engine needs none of it: front ends for
/// people are given the library of the store that the engine has.
namespace fluyt::image {

/// Progress and end of an import that goes through the engine.
struct ImportWatch {
  std::function<void(const LayerProgress&)> progress;  // any thread, may be empty
  const std::atomic<bool>* cancelled = nullptr;        // ends the import with kCancelled
};

/// An image whose name pointed at an index of several platforms when it came. One of them is here,
/// so that its manifest goes out alone.
struct OneOfSeveral {
  std::string image;     // the name or id that was asked for
  std::string index;     // digests
  std::string manifest;  // as it is here
  std::string platform;  // "linux/amd64"
};
using OneOfSeveralSink = std::function<void(const OneOfSeveral&)>;

struct PushOptions {
  Credentials credentials;
  std::function<void(const LayerProgress&)> progress;  // any thread, may be empty
  OneOfSeveralSink one_of_several;                     // told before anything else, may be empty
  const std::atomic<bool>* cancelled = nullptr;        // ends the push with kCancelled
};
struct Pushed {
  std::string digest;  // of the manifest, as the registry has it now
  uint64_t size = 0;   // of the manifest
  /// The image came by an index of several platforms; just this one's manifest went.
  bool one_platform_of_several = false;
  /// Layers whose blobs were not kept and went compressed anew: the manifest is another one than
  /// the image came by, the image (its id) is the same.
  size_t remade_layers = 0;
};

enum class ArchiveFormat { kDocker, kOci };
struct SaveOptions {
  std::vector<std::string> images;  // names or ids; a name goes into the archive, an id has none
  ArchiveFormat format = ArchiveFormat::kDocker;
  OneOfSeveralSink one_of_several;  // told before the first byte, of each; may be empty
  const std::atomic<bool>* cancelled = nullptr;  // ends it with kCancelled
};

/// A layer of an image, and who else stands on it.
struct LayerDetail {
  std::string diff_id;
  std::string blob_digest;
  std::string media_type;  // of the blob, as its manifest said
  uint64_t blob_bytes = 0;
  uint64_t disk_bytes = 0;  // of the tree
  uint64_t inodes = 0;
  bool blob_kept = false;
  bool durable = false;
  std::vector<std::string> images;      // ids of the others that have it
  std::vector<std::string> containers;  // ids of those whose root stands on it
};
/// An image with what it takes on the disk: its trees, kept blobs and documents.
struct ImageDetail {
  Image image;
  int64_t added_ns = 0;
  std::vector<LayerDetail> layers;      // lowest first
  std::vector<std::string> containers;  // whose root was made from it
  uint64_t disk_bytes = 0;
  uint64_t shared_bytes = 0;  // of these, that another image has too
  uint64_t unique_bytes = 0;  // that would be free without it and the containers on it
  bool pushable = false;      // its layers' blobs are kept, or can be made again
  std::string manifest_json;  // the last two of describe() alone
  std::string config_json;
};

enum class Unused { kNameless, kAll };

/// One thing on the store's disk, and what becomes of it in a collection.
struct GcItem {
  enum class Kind { kLayer, kBlob, kFixup, kRoot, kUnfinished, kTrash, kCatalog, kUnknown } kind;
  std::string name;  // a digest, a container's id, or a path below the store
  uint64_t bytes = 0;
  uint64_t inodes = 0;
  bool goes = false;
  std::string reason;                // why it goes, or what it is when it stays
  std::vector<std::string> holders;  // who makes it stay
};
struct GcReport {
  std::vector<GcItem> items;
  uint64_t going_bytes = 0;
  uint64_t going_inodes = 0;
  uint64_t staying_bytes = 0;
};
struct GcOptions {
  enum class Mode { kExplain, kCollect } mode = Mode::kExplain;
  /// Whether there is the container whose a root of this id is; a root of none goes. Empty: all
  /// stay.
  std::function<bool(const std::string&)> is_container;
};

/// What of a store's options may change while it is open.
struct StoreChange {
  std::string certs_dir;
  CredentialTable credentials;
  std::string auth_file;
  policy::VerifyOptions verify;
  KeepBlobs keep_blobs = KeepBlobs::kPushable;
  std::optional<LayerForm> layer_form = LayerForm::kDirectory;
  RootDriver root_driver = RootDriver::kOverlay;
  std::string unpack_program;
  size_t parallel_fetches = 3;
  size_t max_fetches = 8;
  std::vector<std::string> pinned;  // see keep_pinned()
};

struct VerifyOptions {
  std::vector<std::string> images;  // names or ids; empty: all, and what no image has
  bool repair = false;
  std::function<void(const LayerProgress&)> progress;  // any thread, may be empty
  const std::atomic<bool>* cancelled = nullptr;
};
/// Something on the disk that is not as it was.
struct Damage {
  enum class Kind { kLayer, kBlob } kind;
  std::string digest;                   // a layer's diff id or a blob's digest
  std::string finding;                  // what is wrong
  std::vector<std::string> images;      // ids of those that have it
  std::vector<std::string> containers;  // ids of those that stand on it
  enum class Outcome { kFound, kRepaired, kNotRepaired } outcome = Outcome::kFound;
  std::string note;  // how it was mended, or why not and what helps
};
struct VerifyReport {
  size_t images = 0;
  size_t blobs = 0;            // hashed
  size_t layers_compared = 0;  // entry by entry, with what their blobs unpack to or checksums say
  size_t layers_counted = 0;   // of before there were checksums: files counted against the record
  std::vector<Damage> damages;
};

/// Thread-safe.
class Library {
 public:
  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  virtual ~Library() = default;

  /// Images that are never collected, and are durable before their pull returns: names as people
  /// write them, or the start of one with a '*' behind it. To be said before the first pull, or
  /// again with other ones: those that are here become pinned, or are no more.
  virtual void keep_pinned(std::vector<std::string> patterns) = 0;

  /// Checks all of it, a form of layers with what the disk and the kernel can. What it returns puts
  /// them in force, and cannot fail: for pulls and pushes that begin after it.
  virtual Result<std::function<void()>> prepare(StoreChange change) = 0;

  /// Watches the next import of `path` for as long as the result is there.
  virtual std::shared_ptr<void> watch_import(const std::string& path, ImportWatch watch) = 0;

  /// Gives the image another name, "repository[:tag]"; one that another image had moves.
  virtual Result<Image> tag(const std::string& name_or_id, const std::string& new_name) = 0;
  /// Sends the image that has this name to the registry that the name says. A layer whose blob was
  /// not kept is left to the registry where that has it; of a layer in an image (LayerForm::kErofs)
  /// the blob is made again; of a tree it cannot be: kFailedPrecondition, before anything is sent.
  virtual Result<Pushed> push(const oci::Reference& reference, const PushOptions& options) = 0;
  /// The images as one tar, piece by piece: what `docker load` takes, or an OCI layout. A layer in
  /// an image whose blob was not kept goes uncompressed. Nothing is written when one of them cannot
  /// be saved. An error of the sink ends it and is returned.
  virtual Result<> save(const SaveOptions& options,
                        const std::function<Result<>(std::string_view)>& sink) = 0;

  virtual std::vector<ImageDetail> list_details() = 0;
  virtual Result<std::optional<ImageDetail>> describe(const std::string& name_or_id) = 0;
  /// The images that no container was made from and that are not pinned: those without a tag, or
  /// all.
  virtual std::vector<ImageDetail> list_unused(Unused which) = 0;

  /// Says what is on the disk and why, and removes what nothing refers to. It waits for no pull and
  /// no start, and takes nothing that one of them needs.
  virtual Result<GcReport> collect_garbage(const GcOptions& options) = 0;
  /// Reads blobs and layers again. With `repair`, what is damaged is unpacked again from its blob,
  /// or fetched from where its image has a name. A layer that a container stands on is left, since
  /// the container has it mounted, and named.
  virtual Result<VerifyReport> verify(const VerifyOptions& options) = 0;
};

/// Of a store that ImageStore::open() made; it lives as long.
Library& library_of(ImageStore& store);

}  // namespace fluyt::image
