#include "streaming/spdy/frames.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "base/strings.h"
#include "streaming/spdy/dictionary.h"
#include "streaming/spdy/words.h"

namespace fluyt::streaming::spdy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Writes down what was read.
class Recorder final : public FrameVisitor {
 public:
  std::vector<std::string> seen;
  std::string data;  // whole, since frames are handed on in whatever pieces

 private:
  void on_syn_stream(const SynStream& frame) override {
    std::string text = cat("syn ", frame.id, frame.fin ? " fin" : "");
    for (const auto& [name, value] : frame.headers) text += cat(" ", name, "=", value);
    seen.push_back(std::move(text));
  }
  void on_syn_reply(uint32_t stream, bool /*fin*/) override {
    seen.push_back(cat("reply ", stream));
  }
  void on_data(uint32_t /*stream*/, std::string_view bytes) override { data += bytes; }
  void on_fin(uint32_t stream) override { seen.push_back(cat("fin ", stream)); }
  void on_reset(uint32_t stream, uint32_t status) override {
    seen.push_back(cat("reset ", stream, " ", status));
  }
  void on_ping(uint32_t id) override { seen.push_back(cat("ping ", id)); }
  void on_go_away() override { seen.emplace_back("goaway"); }
};

std::string conversation() {
  HeaderDeflater deflater;
  std::string bytes =
      write_syn_stream({.id = 1, .fin = true, .headers = {{"streamtype", "error"}}}, deflater);
  bytes +=
      write_syn_stream({.id = 3, .headers = {{"streamtype", "data"}, {"port", "80"}}}, deflater);
  return bytes + write_data(3, "hello ", false) + write_ping(7) + write_data(3, "world", true) +
         write_reset(1, ResetStatus::kCancel) + write_go_away(3, false);
}

void expect_conversation(const Recorder& recorder) {
  EXPECT_THAT(recorder.seen,
              ElementsAre("syn 1 fin streamtype=error", "syn 3 streamtype=data port=80", "ping 7",
                          "fin 3", "reset 1 5", "goaway"));
  EXPECT_EQ(recorder.data, "hello world");
}

std::string refused(std::string_view bytes) {
  Recorder recorder;
  FrameReader reader(recorder);
  const auto fed = reader.feed(bytes);
  return fed.ok() ? "accepted" : fed.error().message();
}

std::string control(uint16_t type, std::string_view payload, uint16_t version = 3) {
  std::string frame;
  put_u16(frame, 0x8000U | version);
  put_u16(frame, type);
  put_u32(frame, static_cast<uint32_t>(payload.size()));
  return frame.append(payload);
}

TEST(Dictionary, IsTheOneOfTheSpecification) {
  const std::string& words = dictionary();
  EXPECT_EQ(words.size(), 1423U);
  // Its Adler-32 stands at the head of every SPDY/3 header stream.
  EXPECT_EQ(adler32(1, reinterpret_cast<const Bytef*>(words.data()), 1423), 0xe3c6a7c2U);
}

TEST(Frames, AreReadAsTheyWereWritten) {
  Recorder recorder;
  FrameReader reader(recorder);
  ASSERT_TRUE(reader.feed(conversation()).ok());
  expect_conversation(recorder);
}

TEST(Frames, MayComeByteByByte) {
  Recorder recorder;
  FrameReader reader(recorder);
  for (const char byte : conversation()) ASSERT_TRUE(reader.feed({&byte, 1}).ok());
  expect_conversation(recorder);
}

TEST(Frames, AnEmptyDataFrameWithFinEndsTheStream) {
  Recorder recorder;
  FrameReader reader(recorder);
  ASSERT_TRUE(reader.feed(write_data(5, "", true)).ok());
  EXPECT_THAT(recorder.seen, ElementsAre("fin 5"));
}

TEST(Frames, DataLargerThanAFrameBecomesSeveral) {
  const std::string big((1UL << 24U) + 5, 'x');
  Recorder recorder;
  FrameReader reader(recorder);
  ASSERT_TRUE(reader.feed(write_data(1, big, true)).ok());
  EXPECT_EQ(recorder.data.size(), big.size());
  EXPECT_THAT(recorder.seen, ElementsAre("fin 1"));
}

TEST(Frames, UnknownControlFramesAreDropped) {
  Recorder recorder;
  FrameReader reader(recorder);
  ASSERT_TRUE(reader.feed(control(4, std::string(12, '\0'))).ok());  // SETTINGS
  ASSERT_TRUE(reader.feed(control(9, std::string(8, '\0'))).ok());   // WINDOW_UPDATE
  ASSERT_TRUE(reader.feed(control(77, "")).ok());
  ASSERT_TRUE(reader.feed(write_ping(1)).ok());
  EXPECT_THAT(recorder.seen, ElementsAre("ping 1"));
}

TEST(Frames, ABrokenOneIsRefusedWithWhatWasExpected) {
  EXPECT_EQ(refused(control(6, "abcd", 2)), "spdy: version 2: expected 3");
  EXPECT_EQ(refused(control(6, "abc")), "spdy: PING: expected 4 bytes");
  EXPECT_EQ(refused(control(3, "abc")), "spdy: RST_STREAM: expected 8 bytes");
  EXPECT_EQ(refused(control(7, "")), "spdy: GOAWAY: expected 8 bytes");
  EXPECT_EQ(refused(control(1, "short")), "spdy: SYN_STREAM is too short");
  EXPECT_EQ(refused(control(2, "")), "spdy: a control frame without its stream");
  EXPECT_EQ(refused(write_data(0, "x", false)), "spdy: data on stream 0");
  EXPECT_THAT(refused("GET / HTTP/1.1\r\n\r\n"), "accepted");  // the head of a data frame
}

TEST(Frames, AControlFrameThatIsTooLongIsRefusedByItsHead) {
  std::string head;
  put_u16(head, 0x8003U);
  put_u16(head, 1);
  put_u32(head, kMaxControlBytes + 1);
  EXPECT_THAT(refused(head), HasSubstr("expected at most 16384"));
}

TEST(Headers, ABlockThatInflatesWithoutEndIsRefused) {
  HeaderDeflater deflater;
  const std::string block =
      deflater.write({{"a", std::string(kMaxHeaderBytes, 'a')}});  // a few hundred bytes
  EXPECT_LT(block.size(), 1000U);
  HeaderInflater inflater;
  const auto read = inflater.read(block);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.error().message(), HasSubstr("once it is inflated"));
}

TEST(Headers, PairsAreChecked) {
  EXPECT_FALSE(read_pairs("").ok());
  EXPECT_FALSE(read_pairs(write_pairs({{"Upper", "x"}})).ok());
  EXPECT_FALSE(read_pairs(write_pairs({{"", "x"}})).ok());
  EXPECT_FALSE(read_pairs(write_pairs({{"a", "x"}, {"a", "y"}})).ok());
  EXPECT_FALSE(read_pairs(write_pairs({{"a", "x"}}) + "y").ok());
  std::string many;
  put_u32(many, 0xffffffffU);
  EXPECT_FALSE(read_pairs(many).ok());
  std::string longer;
  put_u32(longer, 1);
  put_u32(longer, 0xffffffffU);
  EXPECT_FALSE(read_pairs(longer + "a").ok());
  EXPECT_TRUE(read_pairs(write_pairs({})).ok());
}

TEST(Headers, TheFirstOfSeveralValuesCounts) {
  const Headers headers = {{"port", std::string("80\0 81", 6)}};
  EXPECT_EQ(find_header(headers, "port"), "80");
  EXPECT_EQ(find_header(headers, "streamtype"), std::nullopt);
}

TEST(Headers, ForeignCompressionIsRefused) {
  HeaderInflater inflater;
  EXPECT_FALSE(inflater.read("no zlib at all").ok());
}

}  // namespace
}  // namespace fluyt::streaming::spdy
