#include "base/strings.h"
#include "image/store.h"

namespace fluyt::image {

Result<Image> Store::tag(const std::string& name_or_id, const std::string& new_name) {
  const oci::Reference reference = FLUYT_TRY_CONTEXT(oci::Reference::parse(new_name), "tag");
  if (reference.digest.has_value()) {
    return Error(Code::kInvalidArgument,
                 cat("tag ", quote(new_name), ": expected a name with a tag, not a digest"));
  }
  const auto id = FLUYT_TRY(find_id(name_or_id));
  // The image may go meanwhile: the catalogue then refuses a name for what is not there.
  if (id.has_value()) {
    auto named = catalog_->commit({.put_names = {{reference.text(), *id}}});
    if (!named.ok() && named.error().code() != Code::kNotFound) return std::move(named).error();
    if (auto image = find_image(*id)) return std::move(*image);
  }
  return Error(Code::kNotFound, cat("image ", quote(name_or_id), ": no such image"));
}

}  // namespace fluyt::image
