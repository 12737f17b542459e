#include "image/layer/tar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "image/layer/tar_build.h"
#include "image/layer/tar_number.h"

namespace fluyt::image {
namespace {

using testing::HasSubstr;

struct Seen {
  TarEntry entry;
  std::string content;  // holes as zeros
};

class Recorder final : public TarSink {
 public:
  Result<> begin(TarEntry& entry) override {
    seen.push_back({entry, {}});
    return {};
  }
  Result<> data(uint64_t offset, std::string_view bytes) override {
    std::string& content = seen.back().content;
    EXPECT_GE(offset, content.size());
    content.resize(offset, '\0');
    content += bytes;
    return {};
  }
  Result<> end() override {
    seen.back().content.resize(seen.back().entry.size, '\0');
    ++ended;
    return {};
  }
  std::vector<Seen> seen;
  size_t ended = 0;
};

Result<std::vector<Seen>> parse(std::string_view bytes, size_t piece = SIZE_MAX) {
  Recorder recorder;
  TarParser parser(recorder);
  while (!bytes.empty()) {
    FLUYT_TRY(parser.push(bytes.substr(0, piece)));
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  FLUYT_TRY(parser.finish());
  return recorder.seen;
}

std::vector<Seen> parse_ok(std::string_view bytes) {
  auto whole = parse(bytes);
  EXPECT_TRUE(whole.ok()) << (whole.ok() ? "" : whole.error().message());
  if (!whole.ok()) return {};
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{511}, size_t{513}}) {
    auto pieces = parse(bytes, piece);
    EXPECT_TRUE(pieces.ok());
    if (!pieces.ok() || pieces->size() != whole->size()) {
      ADD_FAILURE() << "pieces of " << piece << " read otherwise";
      continue;
    }
    for (size_t i = 0; i < whole->size(); ++i) {
      EXPECT_EQ((*pieces)[i].entry.path, (*whole)[i].entry.path);
      EXPECT_EQ((*pieces)[i].content, (*whole)[i].content);
    }
  }
  return std::move(whole).value();
}

std::string error_of(std::string_view bytes) {
  auto result = parse(bytes);
  return result.ok() ? "no error" : result.error().message();
}

TEST(Tar, ReadsPlainEntries) {
  const auto seen =
      parse_ok(TarBuild()
                   .dir("d", 0750, 7, 8)
                   .file("d/f", std::string(1000, 'a'), 04755)
                   .symlink("l", "d/f")
                   .hard_link("h", "d/f")
                   .add({.type = '3', .name = "null", .mode = 0666, .major = 1, .minor = 3})
                   .file("empty", "")
                   .end());
  ASSERT_EQ(seen.size(), 6U);
  EXPECT_EQ(seen[0].entry.type, TarType::kDirectory);
  EXPECT_EQ(seen[0].entry.uid, 7U);
  EXPECT_EQ(seen[1].content, std::string(1000, 'a'));
  EXPECT_EQ(seen[1].entry.mode, 04755U);
  EXPECT_EQ(seen[1].entry.mtime, 1'000'000'000);
  EXPECT_EQ(seen[2].entry.link, "d/f");
  EXPECT_EQ(seen[3].entry.type, TarType::kHardLink);
  EXPECT_EQ(seen[4].entry.device_minor, 3U);
  EXPECT_EQ(seen[5].content, "");
}

TEST(Tar, OldDirectoriesEndInASlash) {
  EXPECT_EQ(parse_ok(TarBuild().add({.type = '\0', .name = "d/"}).end())[0].entry.type,
            TarType::kDirectory);
}

TEST(Tar, PaxRecordsReplaceFields) {
  const auto seen = parse_ok(TarBuild()
                                 .pax({{"path", "long/name"},
                                       {"uid", "4000000000"},
                                       {"mtime", "-1.25"},
                                       {"SCHILY.xattr.user.a", std::string("\0\n=", 3)},
                                       {"LIBARCHIVE.xattr.user.%62", "AQID"},
                                       {"comment", ""}})
                                 .file("short", "data")
                                 .file("next")
                                 .end());
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0].entry.path, "long/name");
  EXPECT_EQ(seen[0].entry.uid, 4'000'000'000U);
  EXPECT_EQ(seen[0].entry.mtime, -2);
  EXPECT_EQ(seen[0].entry.mtime_ns, 750'000'000U);
  ASSERT_EQ(seen[0].entry.xattrs.size(), 2U);
  EXPECT_EQ(seen[0].entry.xattrs[0].second, std::string("\0\n=", 3));
  EXPECT_EQ(seen[0].entry.xattrs[1].first, "user.b");
  EXPECT_EQ(seen[0].entry.xattrs[1].second, "\x01\x02\x03");
  EXPECT_EQ(seen[1].entry.path, "next") << "records are for one entry alone";
}

TEST(Tar, PaxSizeReplacesTheHeadersSize) {
  const std::string data(700, 'z');
  std::string tar = TarBuild().pax({{"size", "700"}}).bytes();
  tar += TarBuild::header({.name = "f"}, 0) + data + std::string(1024 - 700, '\0');
  EXPECT_EQ(parse_ok(tar + std::string(1024, '\0'))[0].content, data);
}

TEST(Tar, GlobalPaxHeadersHaveNoEffect) {
  const auto seen = parse_ok(TarBuild().pax({{"path", "evil"}}, 'g').file("f").end());
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].entry.path, "f");
}

TEST(Tar, GnuLongNames) {
  const std::string name(300, 'n');
  const auto seen = parse_ok(
      TarBuild()
          .add({.type = 'L', .name = "././@LongLink", .data = name + '\0'})
          .add({.type = 'K', .name = "././@LongLink", .data = std::string(200, 't') + '\0'})
          .symlink("cut", "cut")
          .end());
  EXPECT_EQ(seen.at(0).entry.path, name);
  EXPECT_EQ(seen.at(0).entry.link, std::string(200, 't'));
}

TEST(Tar, PrefixesByFormat) {
  std::string ustar = TarBuild::header({.name = "f"}, 0);
  ustar.replace(345, 3, "dir");
  TarBuild::seal(ustar);
  EXPECT_EQ(parse_ok(ustar).at(0).entry.path, "dir/f");
  std::string gnu = TarBuild::header({.name = "f"}, 0);
  gnu.replace(257, 8, std::string("ustar  \0", 8));
  gnu.replace(345, 11, "15555555555");  // a time, not a prefix
  TarBuild::seal(gnu);
  EXPECT_EQ(parse_ok(gnu).at(0).entry.path, "f");
  std::string old_go = TarBuild::header({.name = "f"}, 0);
  old_go.replace(257, 8, std::string("ustar  \0", 8));
  old_go.replace(345, 13, "var/lib/thing");
  TarBuild::seal(old_go);
  EXPECT_EQ(parse_ok(old_go).at(0).entry.path, "var/lib/thing/f");
}

TEST(Tar, Base256Numbers) {
  std::string block = TarBuild::header({.name = "f"}, 0);
  block.replace(108, 8, std::string("\x80\0\0\0\xEE\x6B\x28\x00", 8));  // 4000000000
  block.replace(136, 12, std::string(11, '\xFF') + "\xFE");             // -2
  TarBuild::seal(block);
  const auto seen = parse_ok(block);
  EXPECT_EQ(seen.at(0).entry.uid, 4'000'000'000U);
  EXPECT_EQ(seen.at(0).entry.mtime, -2);
}

TEST(Tar, SparseZeroOne) {
  const auto seen = parse_ok(TarBuild()
                                 .pax({{"GNU.sparse.size", "5000"},
                                       {"GNU.sparse.numblocks", "2"},
                                       {"GNU.sparse.name", "real"},
                                       {"GNU.sparse.map", "1000,3,4000,2"}})
                                 .file("fake", "abcde")
                                 .end());
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].entry.path, "real");
  EXPECT_EQ(seen[0].content.size(), 5000U);
  EXPECT_EQ(seen[0].content.substr(1000, 4), std::string("abc\0", 4));
  EXPECT_EQ(seen[0].content.substr(4000, 3), std::string("de\0", 3));
}

TEST(Tar, SparseMapsThatLieAreRefused) {
  const auto with = [](const std::string& map, const std::string& blocks) {
    return error_of(TarBuild()
                        .pax({{"GNU.sparse.size", "50"},
                              {"GNU.sparse.numblocks", blocks},
                              {"GNU.sparse.map", map}})
                        .file("f", "abcde")
                        .end());
  };
  EXPECT_THAT(with("10,5,12,0", "2"), HasSubstr("overlap or leave the file"));
  EXPECT_THAT(with("48,5", "1"), HasSubstr("overlap or leave the file"));
  EXPECT_THAT(with("10,4", "1"), HasSubstr("sparse pieces have 4 bytes, the archive 5"));
  EXPECT_THAT(with("10,5", "2"), HasSubstr("numblocks"));
  EXPECT_THAT(with("10,x", "1"), HasSubstr("not numbers"));
}

TEST(Tar, EndsAtTwoZeroBlocksOrAtTheEnd) {
  EXPECT_EQ(parse_ok(TarBuild().file("f").end() + "anything at all").size(), 1U);
  EXPECT_EQ(parse_ok(TarBuild().file("f").bytes()).size(), 1U);
  EXPECT_EQ(parse_ok(TarBuild().file("f").bytes() + std::string(512, '\0')).size(), 1U);
  EXPECT_EQ(parse_ok("").size(), 0U);
  const std::string lone =
      TarBuild().file("f").bytes() + std::string(512, '\0') + TarBuild().file("g").end();
  EXPECT_THAT(error_of(lone), HasSubstr("a block of zeros is followed by"));
}

TEST(Tar, TruncationIsSeenEverywhereButInPadding) {
  const std::string tar = TarBuild().pax({{"path", "p"}}).file("f", std::string(600, 'x')).bytes();
  for (const size_t size :
       {size_t{1}, size_t{511}, size_t{600}, size_t{1024}, size_t{1500}, size_t{2000}}) {
    auto result = parse(tar.substr(0, size));
    ASSERT_FALSE(result.ok()) << size;
    EXPECT_EQ(result.error().code(), Code::kDataLoss) << size;
  }
  EXPECT_TRUE(parse(tar.substr(0, 1536 + 600)).ok()) << "only padding is missing";
}

TEST(Tar, RefusesWhatIsNoTar) {
  std::string block = TarBuild::header({.name = "f"}, 0);
  block[0] = 'g';
  EXPECT_THAT(error_of(block), HasSubstr("checksum does not match"));
  EXPECT_THAT(error_of(TarBuild().add({.type = 'Q', .name = "f"}).end()), HasSubstr("type \"Q\""));
  EXPECT_THAT(error_of(TarBuild().pax({{"path", std::string("a\0b", 3)}}).file("f").end()),
              HasSubstr("NUL"));
  EXPECT_THAT(
      error_of(TarBuild().add({.type = 'x', .name = "p", .data = "12 path=a"}).file("f").end()),
      HasSubstr("does not end where it says"));
  EXPECT_THAT(
      error_of(TarBuild().add({.type = 'x', .name = "p", .data = "7 path\n"}).file("f").end()),
      HasSubstr("has no key"));
  EXPECT_THAT(error_of(TarBuild().pax({{"uid", "4294967295"}}).file("f").end()), HasSubstr("uid"));
  EXPECT_THAT(error_of(TarBuild().pax({{"size", "-1"}}).file("f").end()), HasSubstr("size"));
}

TEST(Tar, ExtensionHeadersHaveALimit) {
  const std::string tar = TarBuild::header({.type = 'x', .name = "p"}, kMaxTarMetaBytes + 1);
  auto result = parse(tar);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kResourceExhausted);
}

TEST(Tar, VolumesAndDumpDirectoriesArePassedOver) {
  const auto seen = parse_ok(TarBuild()
                                 .add({.type = 'V', .name = "label"})
                                 .add({.type = 'D', .name = "dump", .data = "Yf"})
                                 .file("f")
                                 .end());
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].entry.path, "f");
}

TEST(TarNumber, ReadsOctalAndBase256) {
  EXPECT_EQ(parse_tar_number("0000644\0"), 0644);
  EXPECT_EQ(parse_tar_number("   644 "), 0644);
  EXPECT_EQ(parse_tar_number(std::string_view("\0\0\0\0", 4)), 0);
  EXPECT_EQ(parse_tar_number("08"), std::nullopt);
  EXPECT_EQ(parse_tar_number("6 4"), std::nullopt);
  EXPECT_EQ(parse_tar_number("-1"), std::nullopt);
  EXPECT_EQ(parse_tar_number("\xFF\xFF\xFF\xFF"), -1);
  EXPECT_EQ(parse_tar_number(std::string("\x80\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 9)), std::nullopt);
}

TEST(TarNumber, ReadsPaxTimes) {
  EXPECT_EQ(parse_pax_time("12.000000001")->nanoseconds, 1U);
  EXPECT_EQ(parse_pax_time("12.1234567899")->nanoseconds, 123'456'789U);
  EXPECT_EQ(parse_pax_time("12.")->nanoseconds, 0U);
  EXPECT_FALSE(parse_pax_time("12.x"));
  EXPECT_FALSE(parse_pax_time(""));
  EXPECT_FALSE(parse_pax_time(".5"));
}

}  // namespace
}  // namespace fluyt::image
