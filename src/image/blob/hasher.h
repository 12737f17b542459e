#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "oci/digest.h"

struct evp_md_ctx_st;

namespace fluyt::image {

/// A digest computed as the bytes go by. Of one thread at a time.
class Hasher {
 public:
  /// `algorithm` is "sha256" or "sha512"; anything else is kInvalidArgument.
  static Result<Hasher> create(std::string_view algorithm);
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  Result<> update(std::string_view bytes);
  /// The digest of all that went by. The hasher is of no further use.
  Result<oci::Digest> finish();

 private:
  struct Freer {
    void operator()(evp_md_ctx_st* context) const;
  };
  Hasher(std::unique_ptr<evp_md_ctx_st, Freer> context, std::string_view algorithm);
  std::unique_ptr<evp_md_ctx_st, Freer> context_;
  std::string_view algorithm_;  // a literal
};

/// The digest of `bytes`, in one go.
Result<oci::Digest> digest_of(std::string_view algorithm, std::string_view bytes);

}  // namespace fluyt::image
