#include "image/archive/tar_writer.h"

#include <gtest/gtest.h>

#include "image/layer/tar.h"

namespace fluyt::image::archive {
namespace {

class Reader final : public TarSink {
 public:
  Result<> begin(TarEntry& entry) override {
    names.push_back(entry.path);
    sizes.push_back(entry.size);
    content.emplace_back();
    return {};
  }
  Result<> data(uint64_t /*offset*/, std::string_view bytes) override {
    content.back() += bytes;
    return {};
  }
  Result<> end() override { return {}; }
  std::vector<std::string> names;
  std::vector<uint64_t> sizes;
  std::vector<std::string> content;
};

TEST(TarWriter, WhatItWritesIsRead) {
  std::string out;
  TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  ASSERT_TRUE(tar.folder("blobs/").ok());
  ASSERT_TRUE(tar.file("a", "hello").ok());
  ASSERT_TRUE(tar.file("empty", "").ok());
  ASSERT_TRUE(tar.begin_file("whole", 512).ok());
  ASSERT_TRUE(tar.data(std::string(500, 'x')).ok());
  EXPECT_FALSE(tar.end_file().ok());
  EXPECT_FALSE(tar.data(std::string(13, 'x')).ok());
  ASSERT_TRUE(tar.data(std::string(12, 'x')).ok());
  ASSERT_TRUE(tar.end_file().ok());
  ASSERT_TRUE(tar.finish().ok());
  EXPECT_EQ(out.size() % 512, 0U);
  Reader reader;
  TarParser parser(reader);
  ASSERT_TRUE(parser.push(out).ok());
  ASSERT_TRUE(parser.finish().ok());
  EXPECT_EQ(reader.names, (std::vector<std::string>{"blobs/", "a", "empty", "whole"}));
  EXPECT_EQ(reader.content, (std::vector<std::string>{"", "hello", "", std::string(512, 'x')}));
}

TEST(TarWriter, WhatAMemberSaysOfItselfIsRead) {
  std::string out;
  TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  TarMember member;
  member.name = std::string(150, 'n');
  member.mode = 04755;
  member.uid = 3'000'000;  // more than seven octal digits
  member.gid = 7;
  member.mtime = 1'700'000'000;
  member.size = 2;
  member.xattrs = {{"user.a", std::string("b\0c", 3)}};
  ASSERT_TRUE(tar.entry(member).ok());
  ASSERT_TRUE(tar.data("hi").ok());
  ASSERT_TRUE(tar.end_file().ok());
  TarMember link;
  link.name = "link";
  link.type = '2';
  link.link = std::string(120, 'l');
  ASSERT_TRUE(tar.entry(link).ok());
  TarMember device;
  device.name = "device";
  device.type = '3';
  device.major = 1;
  device.minor = 3;
  ASSERT_TRUE(tar.entry(device).ok());
  ASSERT_TRUE(tar.finish().ok());
  class Keeper final : public TarSink {
   public:
    Result<> begin(TarEntry& entry) override {
      entries.push_back(entry);
      return {};
    }
    Result<> data(uint64_t /*offset*/, std::string_view /*bytes*/) override { return {}; }
    Result<> end() override { return {}; }
    std::vector<TarEntry> entries;
  } keeper;
  TarParser parser(keeper);
  ASSERT_TRUE(parser.push(out).ok());
  ASSERT_TRUE(parser.finish().ok());
  ASSERT_EQ(keeper.entries.size(), 3U);
  EXPECT_EQ(keeper.entries[0].path, member.name);
  EXPECT_EQ(keeper.entries[0].mode, 04755U);
  EXPECT_EQ(keeper.entries[0].uid, 3'000'000U);
  EXPECT_EQ(keeper.entries[0].gid, 7U);
  EXPECT_EQ(keeper.entries[0].mtime, 1'700'000'000);
  ASSERT_EQ(keeper.entries[0].xattrs.size(), 1U);
  EXPECT_EQ(keeper.entries[0].xattrs[0].second, std::string("b\0c", 3));
  EXPECT_EQ(keeper.entries[1].type, TarType::kSymlink);
  EXPECT_EQ(keeper.entries[1].link, link.link);
  EXPECT_EQ(keeper.entries[2].type, TarType::kCharDevice);
  EXPECT_EQ(keeper.entries[2].device_minor, 3U);
}

TEST(TarWriter, SizesAboveEightGibibytesAreRead) {
  std::string out;
  TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  constexpr uint64_t kSize = 9ULL << 30U;
  ASSERT_TRUE(tar.begin_file("large", kSize).ok());
  Reader reader;
  TarParser parser(reader);
  ASSERT_TRUE(parser.push(out).ok());
  ASSERT_EQ(reader.sizes.size(), 1U);
  EXPECT_EQ(reader.sizes[0], kSize);
}

TEST(TarWriter, LongNamesAreRead) {
  std::string out;
  TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  std::vector<std::string> names;
  for (size_t size = 90; size < 180; ++size) {
    names.push_back("blobs/" + std::string(size, 'n'));
    ASSERT_TRUE(tar.file(names.back(), "x").ok());
  }
  ASSERT_TRUE(tar.finish().ok());
  Reader reader;
  TarParser parser(reader);
  ASSERT_TRUE(parser.push(out).ok());
  ASSERT_TRUE(parser.finish().ok());
  EXPECT_EQ(reader.names, names);
}

}  // namespace
}  // namespace fluyt::image::archive
