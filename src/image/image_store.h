#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "image/auth/credential_table.h"
#include "image/auth/credentials.h"
#include "image/layer/info.h"
#include "image/policy/options.h"
#include "image/registry/options.h"
#include "image/rootfs/roots.h"
#include "oci/image.h"
#include "oci/reference.h"
#include "sys/overlay.h"
#include "sys/precedence.h"

/// Images, from a registry or a file to a root. Thread-safe; nothing here waits for another pull to
/// answer a list.
namespace fluyt::image {

/// One image. Its id is the digest of its config, "sha256:…", everywhere.
struct Image {
  std::string id;
  std::vector<std::string> repo_tags;     // docker.io/library/busybox:latest
  std::vector<std::string> repo_digests;  // docker.io/library/busybox@sha256:…
  uint64_t size = 0;                      // bytes: layers as they came, and config
  oci::ImageConfig config;
  std::string manifest_digest;
  bool pinned = false;
};

struct LayerProgress {
  std::string digest;  // of the blob
  enum class Phase { kWaiting, kFetching, kDone, kExists } phase = Phase::kWaiting;
  uint64_t done_bytes = 0;
  uint64_t total_bytes = 0;
};

struct PullOptions {
  Credentials credentials;
  oci::Platform platform = oci::Platform::host();
  std::string kubernetes_namespace;                    // whose policy holds; empty: none
  std::function<void(const LayerProgress&)> progress;  // any thread, may be empty
  /// What the registry has to say to people, before pull() returns; any thread, may be empty.
  std::function<void(const std::string&)> warning;
  /// Asked ten times a second by the thread that pulls; true ends the pull with kCancelled, and
  /// what nobody else waits for. May be empty.
  std::function<bool()> is_given_up;
  enum class Purpose { kRun, kRunAndPush } purpose = Purpose::kRun;
};

/// An image that a container is about to stand on.
struct Admission {
  std::string image_id;
  std::string name;                  // as who wants the container says it: a name, or an id
  std::string kubernetes_namespace;  // as PullOptions has it
};

struct ImportOptions {
  std::string name;  // gives the image this name; empty: the names the archive holds
  oci::Platform platform = oci::Platform::host();
};

struct FsUsage {
  std::string mountpoint;
  uint64_t used_bytes = 0;
  uint64_t inodes = 0;
  bool complete = true;  // false: there is more, which was not counted
};

/// Which layers' blobs are kept beside what they were unpacked to. A tree does not give back the
/// bytes that it came from: without its blobs an image of trees cannot be pushed or saved.
enum class KeepBlobs {
  kNever,
  kPushable,  // of what was imported, or pulled with Purpose::kRunAndPush
  kAlways,
};

struct StoreOptions {
  std::string root;  // our folder: made 0700; one process at a time
  /// A folder that ends with the boot (a tmpfs): a disk that loses writes is noted there, for
  /// itself may not take the note. Made when absent; empty: root.
  std::string state;
  std::string certs_dir;        // hosts.toml files, one folder a registry host (containerd's form)
  std::string unpack_program;   // absolute path of fluyt-unpack
  size_t parallel_fetches = 3;  // layers of one pull at a time
  size_t max_fetches = 8;       // of all pulls together; each has one whatever the others do
  std::optional<LayerForm> layer_form = LayerForm::kDirectory;  // see LayerStore::Options
  RootDriver root_driver = RootDriver::kOverlay;                // of new roots
  registry::HttpTimeouts timeouts;
  registry::RetryPolicy retry;
  KeepBlobs keep_blobs = KeepBlobs::kPushable;
  CredentialTable credentials;  // the node's own, where a caller brings none
  std::string auth_file;        // the same as a file in Docker's form; empty: none
  registry::ProxySettings proxies;
  policy::VerifyOptions verify;                 // what images have to prove
  std::shared_ptr<sys::Precedence> precedence;  // of calls that fetches give way to; may be none
};

class ImageStore {
 public:
  /// Opens or makes the store; half-finished work of a dead process is removed here.
  static Result<std::unique_ptr<ImageStore>> open(StoreOptions options, Logger& logger);
  virtual ~ImageStore() = default;

  /// Fetches, verifies and unpacks what is missing; returns the image. Concurrent pulls share
  /// layers.
  virtual Result<Image> pull(const oci::Reference& reference, const PullOptions& options) = 0;
  /// From an OCI layout folder, or a docker-archive or oci-archive tar (gzip allowed). One Image
  /// each that it holds.
  virtual Result<std::vector<Image>> import(const std::string& path,
                                            const ImportOptions& options) = 0;

  virtual Result<std::vector<Image>> list() = 0;
  /// By name, name@digest, id, or unambiguous id prefix (>= 4 hex digits); nothing when absent.
  virtual Result<std::optional<Image>> find(const std::string& name_or_id) = 0;
  /// Removes the image with all its names (CRI) and frees what only it used; absent is success.
  /// Layers that a root still uses stay until the root is removed.
  virtual Result<> remove(const std::string& name_or_id) = 0;
  /// Removes one name; the image goes with its last one (Docker's untag).
  virtual Result<> untag(const std::string& name) = 0;

  /// Whether the node's rules let a container stand on the image, as they are now. What a pull or
  /// an earlier call has found to hold is remembered, over restarts, and costs no request; else
  /// signatures are fetched (with the node's own credentials) and programs are run, for at most a
  /// minute. kPermissionDenied names the rule that refuses; no answer from a registry refuses too.
  virtual Result<> admit(const Admission& what) = 0;

  /// A root for `container_id`, recorded before it is made: an overlay, or with kCopy a directory
  /// as it is. The lease on the image's layers ends with remove_root.
  virtual Result<sys::OverlayMount> create_root(const std::string& container_id,
                                                const std::string& image_id,
                                                const RootOptions& options = {}) = 0;
  /// Whether a root's files can belong to other ids than on disk (RootOptions::ids): an error says
  /// why they cannot, with this kernel and the store's file system.
  virtual Result<> probe_ids() = 0;
  virtual Result<> remove_root(const std::string& container_id) = 0;
  virtual Result<std::vector<std::string>> list_roots() = 0;
  /// Bytes and inodes of a container's writable layer.
  virtual Result<FsUsage> root_usage(const std::string& container_id) = 0;
  virtual Result<FsUsage> fs_usage() = 0;

  /// Reads a file of the image through its layers, resolved in the root, at most `limit` bytes;
  /// nothing when it is not there. For /etc/passwd and /etc/group before a container exists.
  virtual Result<std::optional<std::string>> read_image_file(const std::string& image_id,
                                                             const std::string& path,
                                                             size_t limit) = 0;
};

}  // namespace fluyt::image
