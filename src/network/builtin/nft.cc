#include "network/builtin/nft.h"

#include <nftables/libnftables.h>

#include "base/strings.h"

namespace fluyt::network {

namespace {

constexpr size_t kShownBytes = 512;

}  // namespace

void Nft::Free::operator()(nft_ctx* context) const { nft_ctx_free(context); }

Nft::Nft() = default;
Nft::~Nft() = default;

Result<std::string> Nft::run(std::string_view commands) {
  if (context_ == nullptr) {
    context_.reset(nft_ctx_new(NFT_CTX_DEFAULT));
    if (context_ == nullptr) return Error(Code::kInternal, "nft_ctx_new: out of memory");
    nft_ctx_output_set_flags(context_.get(), NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_PROTO);
    if (nft_ctx_buffer_output(context_.get()) != 0 || nft_ctx_buffer_error(context_.get()) != 0) {
      context_.reset();
      return Error(Code::kInternal, "nft_ctx_buffer_output: out of memory");
    }
  }
  const std::string text(commands);
  const int status = nft_run_cmd_from_buffer(context_.get(), text.c_str());
  // Reading them is what empties them.
  std::string out = nft_ctx_get_output_buffer(context_.get());
  const std::string said = nft_ctx_get_error_buffer(context_.get());
  if (status == 0) return out;
  return Error(Code::kInternal, cat("nftables: ", quote(trim(said), kShownBytes)));
}

}  // namespace fluyt::network
