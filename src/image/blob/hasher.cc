#include "image/blob/hasher.h"

#include <openssl/evp.h>

#include <array>
#include <utility>

#include "base/strings.h"

namespace fluyt::image {

namespace {

Error crypto_error(std::string_view call) { return Error(Code::kInternal, cat("openssl: ", call)); }

}  // namespace

void Hasher::Freer::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Hasher::Hasher(std::unique_ptr<evp_md_ctx_st, Freer> context, std::string_view algorithm)
    : context_(std::move(context)), algorithm_(algorithm) {}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

Result<Hasher> Hasher::create(std::string_view algorithm) {
  const EVP_MD* type = nullptr;
  std::string_view name;
  if (algorithm == "sha256") {
    type = EVP_sha256();
    name = "sha256";
  } else if (algorithm == "sha512") {
    type = EVP_sha512();
    name = "sha512";
  } else {
    return Error(Code::kInvalidArgument,
                 cat("digest algorithm ", quote(algorithm), ": only sha256 and sha512 are known"));
  }
  std::unique_ptr<evp_md_ctx_st, Freer> context(EVP_MD_CTX_new());
  if (context == nullptr) return crypto_error("EVP_MD_CTX_new()");
  if (EVP_DigestInit_ex(context.get(), type, nullptr) != 1)
    return crypto_error("EVP_DigestInit_ex()");
  return Hasher(std::move(context), name);
}

Result<> Hasher::update(std::string_view bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) {
    return crypto_error("EVP_DigestUpdate()");
  }
  return {};
}

Result<oci::Digest> Hasher::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(context_.get(), bytes.data(), &size) != 1) {
    return crypto_error("EVP_DigestFinal_ex()");
  }
  const std::string_view view(reinterpret_cast<const char*>(bytes.data()), size);
  return oci::Digest::parse(cat(algorithm_, ":", to_hex(view)));
}

Result<oci::Digest> digest_of(std::string_view algorithm, std::string_view bytes) {
  Hasher hasher = FLUYT_TRY(Hasher::create(algorithm));
  FLUYT_TRY(hasher.update(bytes));
  return hasher.finish();
}

}  // namespace fluyt::image
