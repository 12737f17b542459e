#include "monitor/protocol/frame.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::monitor {
namespace {

std::string framed(std::string_view json) {
  std::string out = {0, 0, static_cast<char>(json.size() >> 8U), static_cast<char>(json.size())};
  return out.append(json);
}

TEST(FrameReader, CutsWhateverTheChunks) {
  const std::string stream = framed("{}") + framed("{\"a\":1}") + framed(std::string(300, 'x'));
  for (size_t step = 1; step < stream.size(); ++step) {
    FrameReader reader;
    std::vector<std::string> frames;
    for (size_t at = 0; at < stream.size(); at += step) {
      ASSERT_TRUE(reader.feed(std::string_view(stream).substr(at, step), {}).ok());
      while (true) {
        auto frame = reader.next();
        ASSERT_TRUE(frame.ok());
        if (!*frame) break;
        frames.push_back(**frame);
      }
    }
    ASSERT_EQ(frames.size(), 3U);
    EXPECT_EQ(frames[1], "{\"a\":1}");
    EXPECT_EQ(frames[2].size(), 300U);
  }
}

TEST(FrameReader, RefusesImpossibleLengths) {
  FrameReader empty;
  ASSERT_TRUE(empty.feed(std::string_view("\0\0\0\0", 4), {}).ok());
  EXPECT_FALSE(empty.next().ok());
  FrameReader huge;
  ASSERT_TRUE(huge.feed(std::string_view("\1\0\0\1", 4), {}).ok());
  EXPECT_FALSE(huge.next().ok());
}

TEST(FrameReader, ClaimsOnlyDescriptorsThatCame) {
  FrameReader reader;
  std::vector<sys::Fd> fds;
  fds.push_back(*sys::open("/dev/null", O_RDONLY));
  ASSERT_TRUE(reader.feed("", std::move(fds)).ok());
  EXPECT_FALSE(reader.take_fds(2).ok());
  EXPECT_EQ(reader.take_fds(1)->size(), 1U);
  EXPECT_TRUE(reader.take_fds(0)->empty());
  std::vector<sys::Fd> many;
  for (int i = 0; i < 33; ++i) many.push_back(*sys::open("/dev/null", O_RDONLY));
  EXPECT_FALSE(reader.feed("", std::move(many)).ok());
}

TEST(FrameWriter, SendsInPiecesWithDescriptorsAtTheirFrame) {
  auto pair = sys::make_socketpair(SOCK_STREAM);
  ASSERT_TRUE(pair.ok());
  ASSERT_TRUE(sys::set_nonblocking(pair->second, true).ok());
  FrameWriter writer(8UL << 20U);
  const std::string big(3UL << 20U, 'b');
  ASSERT_TRUE(writer.push("first"));
  std::vector<sys::Fd> fds;
  fds.push_back(*sys::open("/dev/null", O_RDONLY));
  ASSERT_TRUE(writer.push(big, std::move(fds)));
  ASSERT_TRUE(writer.push("last"));
  FrameReader reader;
  std::vector<std::string> frames;
  while (frames.size() < 3) {
    ASSERT_TRUE(writer.flush(pair->first).ok());
    while (true) {
      auto read = reader.read_from(pair->second);
      ASSERT_TRUE(read.ok());
      if (*read == FrameReader::Read::kNothing) break;
    }
    while (auto frame = *reader.next()) frames.push_back(*frame);
  }
  EXPECT_TRUE(writer.empty());
  EXPECT_EQ(frames[0], "first");
  EXPECT_EQ(frames[1], big);
  EXPECT_EQ(frames[2], "last");
  EXPECT_EQ(reader.take_fds(1)->size(), 1U);
}

TEST(FrameWriter, IsBounded) {
  FrameWriter writer(1000);
  EXPECT_TRUE(writer.push(std::string(900, 'x')));
  EXPECT_FALSE(writer.push(std::string(200, 'x')));
}

TEST(FrameReader, SaysWhenTheOtherSideHasGone) {
  auto pair = sys::make_socketpair(SOCK_STREAM);
  ASSERT_TRUE(pair.ok());
  pair->first.reset();
  FrameReader reader;
  EXPECT_EQ(*reader.read_from(pair->second), FrameReader::Read::kEnd);
  FrameWriter writer(1000);
  ASSERT_TRUE(writer.push("x"));
  EXPECT_FALSE(writer.flush(pair->second).ok());
}

}  // namespace
}  // namespace fluyt::monitor
