#include "image/layer/inflate.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <cstdint>

#include "image/layer/gzip_build.h"

namespace fluyt::image {
namespace {

std::string text_of(size_t size) {
  std::string out;
  uint32_t state = 1;
  while (out.size() < size) {
    state = state * 1664525 + 1013904223;
    out += std::string(state >> 28U, static_cast<char>('a' + (state >> 20U) % 26));
    out += static_cast<char>(state >> 16U);
  }
  return out.substr(0, size);
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

Result<std::string> inflate_all(std::string_view bytes, size_t piece,
                                std::string_view compression) {
  std::string out;
  Inflater inflater([&](std::string_view some) -> Result<> {
    out += some;
    return {};
  });
  while (!bytes.empty()) {
    FLUYT_TRY(inflater.push(bytes.substr(0, piece)));
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  FLUYT_TRY(inflater.finish());
  EXPECT_EQ(inflater.compression(), compression);
  return out;
}

void expect_text(const std::string& bytes, const std::string& text, std::string_view compression) {
  for (const size_t piece : {size_t{1}, size_t{13}, size_t{4096}, SIZE_MAX}) {
    auto out = inflate_all(bytes, piece, compression);
    ASSERT_TRUE(out.ok()) << out.error().message() << " in pieces of " << piece;
    EXPECT_TRUE(*out == text) << "in pieces of " << piece;
  }
}

Code code_of(const std::string& bytes, std::string_view compression) {
  for (const size_t piece : {size_t{1}, size_t{13}}) {
    if (inflate_all(bytes, piece, compression).ok()) return Code::kInternal;
  }
  auto out = inflate_all(bytes, SIZE_MAX, compression);
  return out.ok() ? Code::kInternal : out.error().code();
}

TEST(Inflater, Gzip) {
  const std::string text = text_of(700'000);
  for (const int level : {0, 1, 6, 9}) expect_text(gzip(text, level), text, "gzip");
  expect_text(gzip(""), "", "gzip");
}

TEST(Inflater, GzipOfManyMembersAndZerosBehind) {
  const std::string a = text_of(100'000);
  std::string bytes = gzip(a) + gzip("") + gzip("b") + gzip(a, 1);
  expect_text(bytes, a + "b" + a, "gzip");
  expect_text(bytes + std::string(1000, '\0'), a + "b" + a, "gzip");
}

TEST(Inflater, GzipThatIsDamaged) {
  const std::string good = gzip(text_of(50'000));
  for (const size_t size : {size_t{2}, size_t{9}, size_t{100}, good.size() - 8, good.size() - 1}) {
    EXPECT_EQ(code_of(good.substr(0, size), "gzip"), Code::kDataLoss) << size;
  }
  for (const size_t back : {size_t{1}, size_t{8}}) {  // length, checksum
    std::string bad = good;
    bad[bad.size() - back] = static_cast<char>(bad[bad.size() - back] ^ 1);
    EXPECT_EQ(code_of(bad, "gzip"), Code::kDataLoss) << back;
  }
  EXPECT_EQ(code_of(good + "garbage", "gzip"), Code::kDataLoss);
  EXPECT_EQ(code_of(good + std::string(5, '\0') + "garbage", "gzip"), Code::kDataLoss);
  EXPECT_EQ(code_of(good + good.substr(0, 20), "gzip"), Code::kDataLoss)
      << "a second member cut short";
}

TEST(Inflater, ZstdFramesAndSkippableOnes) {
  const std::string text = text_of(700'000);
  const std::string skippable("\x5A\x2A\x4D\x18\x03\0\0\0xyz", 11);
  expect_text(zstd(text), text, "zstd");
  expect_text(skippable + zstd(text) + skippable + zstd("b") + skippable, text + "b", "zstd");
}

TEST(Inflater, ZstdThatIsDamaged) {
  const std::string good = zstd(text_of(50'000));
  EXPECT_EQ(code_of(good.substr(0, good.size() - 1), "zstd"), Code::kDataLoss);
  EXPECT_EQ(code_of(good + "garbage", "zstd"), Code::kDataLoss);
  EXPECT_EQ(code_of(good + good.substr(0, 3), "zstd"), Code::kDataLoss);
  const std::string of_v07("\x27\xb5\x2f\xfd\x24\0\0", 7);
  EXPECT_EQ(code_of(good + of_v07, "zstd"), Code::kDataLoss);
}

TEST(Inflater, WhatIsNotCompressedPassesThrough) {
  for (const std::string text : {"", "a", "abc", "abcd", "abcdefgh"})
    expect_text(text, text, "none");
}

TEST(Inflater, TheSinksErrorEndsIt) {
  Inflater inflater([](std::string_view) -> Result<> { return Error(Code::kAborted, "enough"); });
  auto result = inflater.push(gzip(text_of(1000)));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kAborted);
}

}  // namespace
}  // namespace fluyt::image
