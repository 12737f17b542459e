#include "image/policy/public_key.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/strings.h"

namespace fluyt::image::policy {

namespace {

constexpr size_t kMaxPemBytes = 64UL << 10U;
constexpr int kLeastRsaBits = 2048;
constexpr int kMostRsaBits = 16384;  // more costs whoever checks it more than whoever sends it

struct BioCloser {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
struct ContextCloser {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

Error bad_key(std::string_view what) {
  ERR_clear_error();
  return Error(Code::kInvalidArgument, cat("public key: ", what));
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

void PublicKey::Freer::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

Result<PublicKey> PublicKey::parse(std::string_view pem) {
  if (pem.size() > kMaxPemBytes) return bad_key(cat("more than ", kMaxPemBytes, " bytes"));
  const std::unique_ptr<BIO, BioCloser> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  EVP_PKEY* raw = bio ? PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr) : nullptr;
  if (raw == nullptr) return bad_key("expected PEM, -----BEGIN PUBLIC KEY-----");
  PublicKey out(raw);  // owns it
  switch (EVP_PKEY_get_base_id(raw)) {
    case EVP_PKEY_ED25519:
      return out;
    case EVP_PKEY_EC: {
      char group[64] = {};
      size_t size = 0;
      EVP_PKEY_get_group_name(raw, group, sizeof group, &size);
      const std::string_view name(group, size);
      if (name == "prime256v1" || name == "secp384r1" || name == "secp521r1") return out;
      return bad_key(cat("curve ", quote(name), ": expected P-256, P-384 or P-521"));
    }
    case EVP_PKEY_RSA: {
      const int bits = EVP_PKEY_get_bits(raw);
      if (bits >= kLeastRsaBits && bits <= kMostRsaBits) return out;
      return bad_key(cat("RSA of ", bits, " bits: expected ", kLeastRsaBits, " to ", kMostRsaBits));
    }
    default:
      return bad_key("expected ECDSA, RSA or Ed25519");
  }
}

bool PublicKey::verifies(std::string_view bytes, std::string_view signature) const {
  const std::unique_ptr<EVP_MD_CTX, ContextCloser> context(EVP_MD_CTX_new());
  const EVP_MD* hash =
      EVP_PKEY_get_base_id(key_.get()) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
  const bool good = context != nullptr &&
                    EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, key_.get()) == 1 &&
                    EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(),
                                     bytes_of(bytes), bytes.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace fluyt::image::policy
