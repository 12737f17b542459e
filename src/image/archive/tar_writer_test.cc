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
