#include <span>

#include "base/strings.h"
#include "image/layer/gzip_library.h"
#include "image/layer/inflate_method.h"

namespace fluyt::image {

namespace {

Error broken(std::string_view what) { return Error(Code::kDataLoss, cat("gzip: ", what)); }

// One gzip member at a time: header, deflate data, checksum and length. decode() goes on until `in`
// is used up or the member has ended, whichever is first, takes from `in` what was used, and says
// whether the member has ended.
#ifdef FLUYT_HAVE_ISAL
class Member {
 public:
  Member() { isal_inflate_init(&state_); }

  void start() {
    isal_inflate_reset(&state_);
    state_.crc_flag = ISAL_GZIP;
  }

  Result<bool> decode(std::string_view& in, InflateTarget& target) {
    // ISA-L declares its input mutable but only reads it; its counters are 32 bits wide.
    const std::string_view piece = in.substr(0, 1U << 30U);
    state_.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(piece.data()));
    state_.avail_in = static_cast<uint32_t>(piece.size());
    bool ended = false;
    do {
      const std::span<char> room = FLUYT_TRY(target.room());
      state_.next_out = reinterpret_cast<uint8_t*>(room.data());
      state_.avail_out = static_cast<uint32_t>(room.size());
      const int status = isal_inflate(&state_);
      if (status < 0 || status > ISAL_OUT_OVERFLOW) return broken(reason(status));
      const size_t made = room.size() - state_.avail_out;
      if (made != 0) FLUYT_TRY(target.made(made));
      ended = state_.block_state == ISAL_BLOCK_FINISH;
    } while (!ended && (state_.avail_in != 0 || state_.avail_out == 0));
    in.remove_prefix(piece.size() - state_.avail_in);
    return ended;
  }

 private:
  static std::string_view reason(int status) {
    switch (status) {
      case ISAL_INVALID_WRAPPER:
        return "a member's header is not valid";
      case ISAL_UNSUPPORTED_METHOD:
        return "a member is not deflate data";
      case ISAL_INCORRECT_CHECKSUM:
        return "checksum or length does not match";
      default:
        return "the deflate data is not valid";
    }
  }
  inflate_state state_;
};
#else
class Member {
 public:
  Member() { inflateInit2(&state_, 15 + 16); }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() { inflateEnd(&state_); }

  void start() { inflateReset(&state_); }

  Result<bool> decode(std::string_view& in, InflateTarget& target) {
    const std::string_view piece = in.substr(0, 1U << 30U);
    state_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    state_.avail_in = static_cast<uInt>(piece.size());
    int status = Z_OK;
    do {
      const std::span<char> room = FLUYT_TRY(target.room());
      state_.next_out = reinterpret_cast<Bytef*>(room.data());
      state_.avail_out = static_cast<uInt>(room.size());
      status = inflate(&state_, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        return broken(state_.msg != nullptr ? state_.msg : "the deflate data is not valid");
      }
      const size_t made = room.size() - state_.avail_out;
      if (made != 0) FLUYT_TRY(target.made(made));
    } while (status != Z_STREAM_END && (state_.avail_in != 0 || state_.avail_out == 0));
    in.remove_prefix(piece.size() - state_.avail_in);
    return status == Z_STREAM_END;
  }

 private:
  z_stream state_{};
};
#endif

// Members back to back, as eStargz and bgzip write them; zeros behind the last one, as tapes and
// block devices leave them (gzip(1) ignores those too).
class GzipMethod final : public Inflater::Method {
 public:
  std::string_view name() const override { return "gzip"; }

  Result<> push(std::string_view bytes, InflateTarget& target) override {
    while (!bytes.empty()) {
      if (where_ == Where::kBetween && bytes[0] == '\x1f') {
        member_.start();
        where_ = Where::kInside;
      } else if (where_ == Where::kBetween && bytes[0] == '\0') {
        where_ = Where::kZeros;
      } else if (where_ == Where::kBetween) {
        return broken("bytes that are not gzip behind the end of a member");
      }
      if (where_ == Where::kZeros) {
        if (bytes.find_first_not_of('\0') == std::string_view::npos) return {};
        return broken("bytes behind the zeros that follow the last member");
      }
      if (FLUYT_TRY(member_.decode(bytes, target))) where_ = Where::kBetween;
    }
    return {};
  }

  Result<> finish() override {
    if (where_ == Where::kInside) return broken("the stream ends in the middle");
    return {};
  }

 private:
  enum class Where { kBetween, kInside, kZeros };
  Where where_ = Where::kBetween;
  Member member_;
};

}  // namespace

std::unique_ptr<Inflater::Method> make_gzip_method() { return std::make_unique<GzipMethod>(); }

}  // namespace fluyt::image
