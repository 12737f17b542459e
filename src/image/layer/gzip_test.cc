#include "image/layer/gzip.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

namespace fluyt::image {
namespace {

std::string compressed(const std::string& bytes, size_t piece) {
  std::string out;
  GzipWriter gzip([&](std::string_view more) -> Result<> {
    out += more;
    return {};
  });
  for (size_t at = 0; at < bytes.size(); at += piece) {
    EXPECT_TRUE(gzip.write(std::string_view(bytes).substr(at, piece)).ok());
  }
  EXPECT_TRUE(gzip.finish().ok());
  return out;
}

// zlib as an oracle: one member, whole, and nothing behind it.
std::string expanded(const std::string& bytes, size_t expected) {
  std::string out(expected + 1, '\0');
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_in, 0U);
  out.resize(stream.total_out);
  inflateEnd(&stream);
  return out;
}

TEST(Gzip, ZlibReadsWhatWasWrittenInPiecesOfAnySize) {
  std::mt19937 random(7);
  std::string noise(700'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  for (const std::string& bytes : {std::string(), std::string("x"), std::string(3'000'000, 'a'),
                                   noise, noise + std::string(1'000'000, '\0') + noise}) {
    for (const size_t piece : {size_t{1} << 30U, size_t{65536}, size_t{4099}}) {
      const std::string out = compressed(bytes, piece);
      EXPECT_EQ(expanded(out, bytes.size()), bytes) << bytes.size() << " by " << piece;
    }
  }
  EXPECT_LT(compressed(std::string(3'000'000, 'a'), 65536).size(), 50'000U);
}

TEST(Gzip, TheSameBytesMakeTheSameMember) {
  const std::string bytes(300'000, 'z');
  EXPECT_EQ(compressed(bytes, 1000), compressed(bytes, 1000));
}

TEST(Gzip, AnErrorOfTheSinkEndsIt) {
  GzipWriter gzip([](std::string_view) -> Result<> { return Error(Code::kCancelled, "no more"); });
  auto written = gzip.write(std::string(10'000, 'x'));
  if (written.ok()) written = gzip.finish();  // it may all be in the buffer until then
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code(), Code::kCancelled);
}

}  // namespace
}  // namespace fluyt::image
