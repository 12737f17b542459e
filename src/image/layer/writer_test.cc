#include "image/layer/writer.h"

#include <gmock/gmock.h>

#include "image/layer/erofs_image.h"
#include "image/layer/gzip_build.h"
#include "image/layer/layer_test.h"
#include "image/layer/unpack.h"

namespace fluyt::image {
namespace {

using testing::HasSubstr;

class Writer : public LayerFormTest {
 protected:
  const std::string tar_ = TarBuild().dir("d").file("d/f", std::string(100'000, 'x')).end();
  oci::Digest digest_ = digest_of("sha256", tar_).value();
  oci::Digest other_ = digest_of("sha256", "other").value();

  std::string error_of_expecting(std::string_view blob, LayerExpectation expectation) {
    auto info = unpack(blob, std::move(expectation));
    EXPECT_TRUE(is_clean());
    EXPECT_TRUE(store_->list()->empty());
    if (info.ok()) return "no error";
    EXPECT_EQ(info.error().code(), Code::kDataLoss);
    return info.error().message();
  }
};

FLUYT_FOR_BOTH_FORMS(Writer);

TEST_P(Writer, ALayerAppearsWhenItIsVerified) {
  const std::string blob = gzip(tar_);
  const oci::Digest blob_digest = digest_of("sha256", blob).value();
  const LayerInfo info = unpack(blob,
                                {.blob_digest = blob_digest,
                                 .blob_bytes = blob.size(),
                                 .diff_id = digest_,
                                 .media_type = "application/vnd.oci.image.layer.v1.tar+gzip"},
                                1000)
                             .value();
  EXPECT_EQ(info.diff_id, digest_);
  EXPECT_EQ(info.blob_digest, blob_digest);
  EXPECT_EQ(info.compression, "gzip");
  EXPECT_EQ(info.unpacked_bytes, tar_.size());
  EXPECT_EQ(info.disk_bytes, form() == LayerForm::kDirectory ? 106'496U : 110'592U);
  const LayerInfo found = store_->find(digest_).value().value();
  EXPECT_EQ(found.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
  EXPECT_EQ(found.implied_dirs, info.implied_dirs);
  EXPECT_EQ(store_->list()->size(), 1U);
  EXPECT_TRUE(is_clean());
  // Once more, by another way: success, and one tree.
  EXPECT_EQ(unpack(tar_, {.diff_id = digest_})->blob_digest, blob_digest);
  ASSERT_TRUE(store_->remove(digest_).ok());
  ASSERT_TRUE(store_->remove(digest_).ok());
  EXPECT_FALSE(store_->find(digest_).value());
  EXPECT_TRUE(is_clean());
}

TEST_P(Writer, WhatDoesNotMatchIsNeverSeen) {
  EXPECT_THAT(error_of_expecting(tar_, {.blob_digest = other_}),
              HasSubstr("the manifest says " + other_.text()));
  EXPECT_THAT(error_of_expecting(tar_, {.diff_id = other_}),
              HasSubstr("config says " + other_.text()));
  EXPECT_THAT(error_of_expecting(tar_, {.blob_bytes = tar_.size() + 1}),
              HasSubstr("the manifest says"));
  EXPECT_THAT(error_of_expecting(tar_, {.blob_bytes = tar_.size() - 1}),
              HasSubstr("more bytes came"));
  EXPECT_THAT(error_of_expecting(gzip(tar_), {.diff_id = digest_of("sha256", gzip(tar_)).value()}),
              HasSubstr("config says"));
  EXPECT_THAT(error_of_expecting(tar_.substr(0, 50'000), {}), HasSubstr("ends in the middle"));
  EXPECT_THAT(error_of_expecting(gzip(tar_).substr(0, 100), {}), HasSubstr("ends in the middle"));
}

TEST_P(Writer, OtherAlgorithms) {
  const oci::Digest digest = digest_of("sha512", tar_).value();
  const LayerInfo info = unpack(tar_, {.blob_digest = digest, .diff_id = digest_}).value();
  EXPECT_EQ(info.blob_digest, digest);
  EXPECT_EQ(info.diff_id, digest_);
}

TEST_P(Writer, ABadLayerEndsTheStreamEarly) {
  const std::string start = TarBuild().file("../x").bytes();
  LayerWriter writer = LayerWriter::create(*store_, {}).value();
  std::string message;
  for (int i = 0; i < 1000 && message.empty(); ++i) {
    auto written = writer.write(i == 0 ? start : std::string(65536, 'x'));
    if (!written.ok()) message = written.error().message();
  }
  EXPECT_THAT(message, HasSubstr("climbs out of the layer"));
  EXPECT_FALSE(writer.finish().ok());
}

TEST_P(Writer, DroppedHalfWayItLeavesNothing) {
  {
    LayerWriter writer = LayerWriter::create(*store_, {}).value();
    ASSERT_TRUE(writer.write(tar_.substr(0, 60'000)).ok());
  }
  EXPECT_TRUE(is_clean());
}

TEST_P(Writer, CancellingEndsAWait) {
  std::atomic<bool> cancelled = false;
  LayerWriter writer = LayerWriter::create(*store_, {}, &cancelled).value();
  ASSERT_TRUE(writer.write(tar_).ok());
  cancelled = true;
  auto result = writer.finish();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kCancelled);
}

TEST_P(Writer, WhatADeadProcessLeftIsSwept) {
  ASSERT_TRUE(sys::make_dirs(dir_.path() + "/store/staging/dead/fs/a/b", 0755).ok());
  ASSERT_TRUE(LayerStore::open(store_->options()).ok());
  EXPECT_TRUE(is_clean());
}

TEST_P(Writer, ADamagedRecordIsReplaced) {
  const LayerInfo info = unpack_ok(tar_);
  const std::string record = tree_of(info) + "/../layer.json";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, record, "{", 0600).ok());
  std::vector<std::string> damaged;
  EXPECT_TRUE(store_->list(&damaged)->empty());
  EXPECT_EQ(damaged, std::vector{std::string(digest_.hex())});
  EXPECT_EQ(store_->find(digest_).error().code(), Code::kDataLoss);
  unpack_ok(tar_);
  EXPECT_TRUE(store_->find(digest_).value());
}

TEST_P(Writer, AMissingProgramIsAnErrorAtOnce) {
  LayerStore::Options options = store_->options();
  options.unpack_program = dir_.path() + "/none";
  const auto store = LayerStore::open(options).value();
  auto writer = LayerWriter::create(*store, {});
  ASSERT_FALSE(writer.ok());
  EXPECT_THAT(writer.error().message(), HasSubstr("start the unpacker"));
}

TEST(LayerInfo, NamesOfAnyBytesSurvive) {
  LayerInfo info{.diff_id = digest_of("sha256", "").value(),
                 .blob_digest = digest_of("sha512", "").value()};
  info.implied_dirs = {"", "a%b", "\xff\x01 \"\\", "plain"};
  info.lower_links = {{"\xfe", "t\n"}};
  const LayerInfo back = parse_layer_info(to_json(info)).value();
  EXPECT_EQ(back.implied_dirs, info.implied_dirs);
  EXPECT_EQ(back.lower_links, info.lower_links);
  EXPECT_EQ(back.blob_digest, info.blob_digest);
}

TEST(Report, OfAWorkerIsCheckedLikeAnythingFromOutside) {
  EXPECT_EQ(parse_report(to_report(Error(Code::kDataLoss, "why"))).error().message(), "why");
  EXPECT_EQ(parse_report(to_report(Error(Code::kDataLoss, "why"))).error().code(), Code::kDataLoss);
  for (const char* text : {"", "[]", "{}", "{\"error\":1}",
                           "{\"error\":{\"code\":1,\"message\":\"\"}}", "{\"diff_id\":\"x\"}"}) {
    EXPECT_FALSE(parse_report(text).ok()) << text;
  }
}

TEST_P(Writer, AnImageHasTheArchiveInItAndKnowsItsOwnDigest) {
  if (form() != LayerForm::kErofs) GTEST_SKIP() << "of images";
  const LayerInfo info = unpack(gzip(tar_)).value();
  const std::string image =
      sys::read_file(cat(dir_.path(), "/store/layers/", info.diff_id.hex(), "/", kImageName),
                     1U << 30U)
          .value();
  EXPECT_EQ(image.size(), info.disk_bytes);
  EXPECT_EQ(image.substr(4096, tar_.size()), tar_);
  const std::string around = image.substr(4096 + tar_.size()) + image.substr(0, 4096);
  EXPECT_EQ(digest_of("sha256", around)->text(), info.metadata_digest);
}

TEST_P(Writer, AnImageTellsOfEachFlippedBit) {
  if (form() != LayerForm::kErofs) GTEST_SKIP() << "of images";
  const LayerInfo info = unpack(tar_).value();
  const sys::Fd file =
      sys::open(cat(dir_.path(), "/store/layers/", info.diff_id.hex(), "/", kImageName), O_RDWR)
          .value();
  ASSERT_TRUE(erofs::check_image(file, info).ok());
  for (const off_t at : {off_t{0}, off_t{1030}, off_t{4096}, off_t{60'000},
                         static_cast<off_t>(info.disk_bytes) - 1}) {
    char byte = 0;
    ASSERT_EQ(pread(file.raw(), &byte, 1, at), 1);
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(pwrite(file.raw(), &byte, 1, at), 1);
    EXPECT_EQ(erofs::check_image(file, info).error().code(), Code::kDataLoss) << at;
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(pwrite(file.raw(), &byte, 1, at), 1);
  }
  ASSERT_EQ(ftruncate(file.raw(), static_cast<off_t>(info.disk_bytes) - 4096), 0);
  EXPECT_EQ(erofs::check_image(file, info).error().code(), Code::kDataLoss);
}

TEST_P(Writer, AStoreTakesOverWhatWasMountedAndLeavesNothingMounted) {
  if (form() != LayerForm::kErofs) GTEST_SKIP() << "of images";
  const LayerInfo info = unpack(tar_).value();
  const auto mounted = [&] {
    return sys::read_file("/proc/self/mountinfo", 1U << 24U)->find(info.diff_id.hex()) !=
           std::string::npos;
  };
  EXPECT_FALSE(mounted());
  ASSERT_TRUE(store_->resolve_chain({{info.diff_id}}).ok());
  ASSERT_TRUE(mounted());
  // As after SIGKILL: the next store finds it mounted.
  auto next = LayerStore::open(store_->options()).value();
  ASSERT_TRUE(next->resolve_chain({{info.diff_id}}).ok());
  next.reset();
  EXPECT_FALSE(mounted());
  ASSERT_TRUE(store_->remove(info.diff_id).ok());
  EXPECT_TRUE(is_clean());
}

}  // namespace
}  // namespace fluyt::image
