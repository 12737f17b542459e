#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "image/store.h"

/// Other settings for a store that is in use. Everything that can fail comes first, so that all of
/// it holds or none.
namespace fluyt::image {

std::shared_ptr<registry::Registry> Store::make_registry(CredentialTable credentials,
                                                         const std::string& certs_dir,
                                                         const std::string& auth_file) const {
  return std::make_shared<registry::Registry>(
      registry::RegistryOptions{.certs_dir = certs_dir,
                                .timeouts = options_.timeouts,
                                .retry = options_.retry,
                                .credentials = std::move(credentials),
                                .auth_file = auth_file,
                                .proxies = options_.proxies},
      logger_);
}

Result<std::function<void()>> Store::prepare(StoreChange change) {
  if (::access(change.unpack_program.c_str(), X_OK) != 0)
    return Error::from_errno(errno, cat("unpack_program: ", quote(change.unpack_program, 1024)));
  const LayerForm form = FLUYT_TRY(layers_->choose(change.layer_form));
  // Another registry client with every change, so that no token outlives the credentials that it
  // was given for.
  auto next = std::make_shared<const Settings>(Settings{
      .verify = std::move(change.verify),
      .keep_blobs = change.keep_blobs,
      .parallel_fetches = std::max<size_t>(change.parallel_fetches, 1),
      .max_fetches = change.max_fetches,
      .registry =
          make_registry(std::move(change.credentials), change.certs_dir, change.auth_file)});
  return std::function<void()>([this, next, form, driver = change.root_driver,
                                unpack = std::move(change.unpack_program),
                                pinned = std::move(change.pinned)] {
    *settings_.lock() = next;
    layers_->set_form(form);
    layers_->set_unpack_program(unpack);
    roots_.set_driver(driver);
    keep_pinned(pinned);
  });
}

}  // namespace fluyt::image
