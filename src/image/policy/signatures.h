#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/policy/lookaside.h"
#include "image/registry/session.h"
#include "oci/reference.h"

namespace fluyt::image::policy {

/// One signature as cosign attaches it to an image.
struct SigstoreSignature {
  std::string payload;    // the bytes that were signed
  std::string signature;  // raw
};

/// What could be had of the signatures of one manifest.
struct SigstoreSignatures {
  std::vector<SigstoreSignature> found;
  std::optional<Error> trouble;  // on the way to others: it counts when these prove nothing
  std::string unread;            // the media type of one that is there and is not read; or ""
};

/// The signatures of one pull, fetched when they are first asked for. Nothing in them is believed.
class Signatures {
 public:
  virtual ~Signatures() = default;
  Signatures() = default;
  Signatures(const Signatures&) = delete;
  Signatures& operator=(const Signatures&) = delete;
  /// Attached in the registry to `manifest`: the tag sha256-<hex>.sig, and referrers of cosign's
  /// type. An error where asking on makes no sense: the caller has cancelled, or nothing was found
  /// and every server lets us wait.
  virtual Result<SigstoreSignatures> sigstore(const oci::Digest& manifest) = 0;
  /// OpenPGP messages: from the lookaside store, or else the registry's own extension.
  virtual Result<std::vector<std::string>> simple(const oci::Digest& manifest) = 0;
};

inline constexpr size_t kMaxSignatures = 64;
inline constexpr size_t kMaxSignatureBytes = 256UL << 10U;

/// Asks the registry that the image comes from, through the pull's own session.
class RegistrySignatures final : public Signatures {
 public:
  RegistrySignatures(registry::Session& session, const oci::Reference& reference,
                     const Lookaside& lookaside)
      : session_(session), reference_(reference), lookaside_(lookaside) {}
  Result<SigstoreSignatures> sigstore(const oci::Digest& manifest) override;
  Result<std::vector<std::string>> simple(const oci::Digest& manifest) override;

 private:
  Result<> add_attached(const std::string& target, std::vector<SigstoreSignature>& out);
  std::string find_bundle(const oci::Digest& manifest);
  Result<std::vector<std::string>> from_lookaside(const std::string& base);
  registry::Session& session_;
  const oci::Reference& reference_;
  const Lookaside& lookaside_;
};

}  // namespace fluyt::image::policy
