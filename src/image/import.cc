#include <optional>

#include "base/strings.h"
#include "image/archive/archive.h"
#include "image/store.h"

namespace fluyt::image {

namespace {

class ArchiveSource final : public ContentSource {
 public:
  explicit ArchiveSource(const archive::Archive& from) : archive_(from) {}
  Result<std::string> manifest(const oci::Descriptor& descriptor) override {
    auto bytes = archive_.read(descriptor);
    // The archive is not whole: something else than no image for the platform.
    const bool is_lacking = !bytes.ok() && bytes.error().code() == Code::kNotFound;
    if (is_lacking) return std::move(bytes).error().with_code(Code::kDataLoss);
    return bytes;
  }
  Result<> stream(const oci::Descriptor& descriptor,
                  const std::function<Result<>(std::string_view)>& sink) override {
    return archive_.stream(descriptor, sink);
  }
  bool has_another(const oci::Descriptor& /*descriptor*/) override { return false; }

 private:
  const archive::Archive& archive_;
};

// A signature, or an image for other machines, beside what was wanted.
bool is_about_another(const Error& error) {
  return error.code() == Code::kNotFound || error.code() == Code::kInvalidArgument;
}

// The names that the catalog gets, normalised: tags, and for a real manifest its digest too.
Result<std::vector<std::string>> names_for(const archive::ArchivedImage& image,
                                           const std::vector<std::string>& wanted) {
  std::vector<std::string> out;
  for (const std::string& name : wanted) {
    const oci::Reference reference =
        FLUYT_TRY_CONTEXT(oci::Reference::parse(name), "the archive's image name");
    if (reference.digest.has_value()) {
      return Error(Code::kInvalidArgument,
                   cat("name ", quote(name), ": expected a tag, not a digest"));
    }
    out.push_back(reference.text());
    if (image.is_original) out.push_back(cat(reference.name(), "@", image.digest.text()));
  }
  return out;
}

}  // namespace

std::shared_ptr<void> Store::watch_import(const std::string& path, ImportWatch watch) {
  const auto mine = std::make_shared<const ImportWatch>(std::move(watch));
  (*import_watches_.lock())[path] = mine;
  return {nullptr, [this, path, mine](void*) {
            auto watches = import_watches_.lock();
            const auto found = watches->find(path);
            if (found != watches->end() && found->second == mine) watches->erase(found);
          }};
}

Result<std::vector<Image>> Store::import(const std::string& path, const ImportOptions& options) {
  const Works::Work under_way = works_.begin("an import");
  const std::shared_ptr<const ImportWatch> watch = [&] {
    auto watches = import_watches_.lock();
    const auto found = watches->find(path);
    return found == watches->end() ? nullptr : found->second;
  }();
  const uint64_t available = FLUYT_TRY_CONTEXT(layers_->available_bytes(), "import");
  const auto from = FLUYT_TRY_CONTEXT(
      archive::Archive::open(path, {.scratch = options_.root + "/staging",
                                    .limit_bytes = available,
                                    .unpack_program = layers_->unpack_program(),
                                    .cancelled = watch == nullptr ? nullptr : watch->cancelled}),
      "import");
  if (!options.name.empty() && from->images().size() != 1) {
    return Error(Code::kInvalidArgument,
                 cat("import ", quote(path), ": name ", quote(options.name), ": the archive holds ",
                     from->images().size(), " images, a name fits one"));
  }
  ArchiveSource source(*from);
  std::vector<Image> out;
  std::optional<Error> left_out;  // the first
  for (const archive::ArchivedImage& image : from->images()) {
    const auto plan =
        plan_image(source, Document{image.digest, image.bytes}, image.media_type, options.platform);
    if (!plan.ok() && is_about_another(plan.error())) {
      logger_.info(cat("import ", quote(path), ": left out: ", plan.error().message()));
      if (!left_out.has_value()) left_out = plan.error();
      continue;
    }
    const auto add = [&]() -> Result<Image> {
      if (!plan.ok()) return plan.error();
      const auto names = FLUYT_TRY(names_for(
          image, options.name.empty() ? image.names : std::vector<std::string>{options.name}));
      std::atomic<bool> stop{false};
      const ProgressSink progress = [&](const LayerProgress& layer) {
        if (watch == nullptr) return;
        if (watch->cancelled != nullptr && *watch->cancelled) stop = true;
        if (watch->progress) watch->progress(layer);
      };
      return install(source, *plan,
                     {names, Sync::kBeforeReturn, keeps_blobs(PullOptions::Purpose::kRunAndPush)},
                     progress, stop);
    };
    out.push_back(FLUYT_TRY_CONTEXT(add(), cat("import ", quote(path))));
  }
  if (out.empty() && left_out.has_value()) {
    return std::move(*left_out).add_context(cat("import ", quote(path)));
  }
  return out;
}

}  // namespace fluyt::image
