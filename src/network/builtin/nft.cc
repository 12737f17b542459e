#include "network/builtin/nft.h"

#include <nftables/libnftables.h>

#include <memory>

#include "base/strings.h"

namespace fluyt::network {

namespace {

constexpr size_t kShownBytes = 512;

struct Free {
  void operator()(nft_ctx* context) const { nft_ctx_free(context); }
};

}  // namespace

// A context a call: it is made in 0.1 ms, and its socket belongs to the namespace that it was made
// in.
Result<std::string> run_nft(std::string_view commands) {
  const std::unique_ptr<nft_ctx, Free> context(nft_ctx_new(NFT_CTX_DEFAULT));
  if (context == nullptr) return Error(Code::kInternal, "nft_ctx_new: out of memory");
  nft_ctx_output_set_flags(context.get(), NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_PROTO);
  if (nft_ctx_buffer_output(context.get()) != 0 || nft_ctx_buffer_error(context.get()) != 0) {
    return Error(Code::kInternal, "nft_ctx_buffer_output: out of memory");
  }
  const std::string text(commands);
  if (nft_run_cmd_from_buffer(context.get(), text.c_str()) != 0) {
    return Error(
        Code::kInternal,
        cat("nftables: ", quote(trim(nft_ctx_get_error_buffer(context.get())), kShownBytes)));
  }
  return std::string(nft_ctx_get_output_buffer(context.get()));
}

}  // namespace fluyt::network
