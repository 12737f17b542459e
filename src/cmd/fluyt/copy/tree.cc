#include "cmd/fluyt/copy/tree.h"

#include <fcntl.h>

#include <utility>

#include "image/archive/tree.h"
#include "image/archive/untar.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

namespace archive = image::archive;

constexpr size_t kPieceBytes = 256UL << 10U;

class Receiver final : public TreeReceiver {
 public:
  explicit Receiver(std::unique_ptr<archive::Untar> untar) : untar_(std::move(untar)) {}
  Result<> push(std::string_view bytes) override { return untar_->push(bytes); }
  Result<> finish() override { return untar_->finish(); }

 private:
  std::unique_ptr<archive::Untar> untar_;
};

}  // namespace

Result<> send_tree(const std::string& path, const std::string& name, Links last,
                   const ByteSink& sink) {
  std::string piece;  // headers are small: they travel with what follows them
  const auto send = [&]() -> Result<> {
    FLUYT_TRY(sink(piece));
    piece.clear();
    return {};
  };
  archive::TarWriter tar([&](std::string_view bytes) -> Result<> {
    piece.append(bytes);
    return piece.size() >= kPieceBytes ? send() : Result<>();
  });
  if (name.empty()) {
    const sys::Fd folder = FLUYT_TRY(sys::open(path, O_RDONLY | O_DIRECTORY));
    FLUYT_TRY(archive::write_contents(folder, "", tar, {}));
  } else {
    const int keep = last == Links::kKeep ? O_NOFOLLOW : 0;
    const sys::Fd what = FLUYT_TRY(sys::open(path, O_PATH | keep));
    FLUYT_TRY(archive::write_tree(what, name, tar, {}));
  }
  FLUYT_TRY(tar.finish());
  return send();
}

Result<std::unique_ptr<TreeReceiver>> TreeReceiver::create(const std::string& folder, Owner owner) {
  auto untar = FLUYT_TRY(archive::Untar::create(
      FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY)),
      {.folder = "",
       .owner = owner == Owner::kKept ? archive::UntarOptions::Owner::kKept
                                      : archive::UntarOptions::Owner::kNobodyAsked,
       .set_id = archive::UntarOptions::SetId::kDropped}));
  return std::unique_ptr<TreeReceiver>(std::make_unique<Receiver>(std::move(untar)));
}

}  // namespace fluyt::cli
