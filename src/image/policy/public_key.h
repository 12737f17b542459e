#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"

struct evp_pkey_st;

namespace fluyt::image::policy {

/// A public key that signatures are checked with: ECDSA on P-256, P-384 or P-521, RSA of at least
/// 2048 bits (PKCS #1 v1.5), both over SHA-256, or Ed25519.
class PublicKey {
 public:
  /// From PEM ("BEGIN PUBLIC KEY"), the first one of the text. Anything else is kInvalidArgument.
  static Result<PublicKey> parse(std::string_view pem);
  /// Whether `signature` (raw, not base64) is this key's over `bytes`.
  bool verifies(std::string_view bytes, std::string_view signature) const;

 private:
  struct Freer {
    void operator()(evp_pkey_st* key) const;
  };
  explicit PublicKey(evp_pkey_st* key) : key_(key, Freer{}) {}
  std::shared_ptr<evp_pkey_st> key_;
};

}  // namespace fluyt::image::policy
