#include "image/layer/gzip.h"

#include <utility>
#include <vector>

#include "base/strings.h"
#include "image/layer/gzip_library.h"

namespace fluyt::image {

namespace {

constexpr size_t kBufferBytes = 256UL << 10U;
constexpr size_t kPieceBytes = 1UL << 30U;  // the libraries' counters are 32 bits wide

enum class More { kComes, kNone };

}  // namespace

#ifdef FLUYT_HAVE_ISAL
struct GzipWriter::State {
  explicit State(ByteSink to) : sink(std::move(to)), out(kBufferBytes), level(kLevelBytes) {
    isal_deflate_init(&stream);
    stream.level = 2;  // an eighth larger than zlib's default, in an eighteenth of the time
    stream.level_buf = level.data();
    stream.level_buf_size = kLevelBytes;
    stream.gzip_flag = IGZIP_GZIP;
    stream.flush = NO_FLUSH;
  }
  Result<> push(std::string_view bytes, More more) {
    do {
      // ISA-L declares its input mutable but only reads it.
      const std::string_view piece = bytes.substr(0, kPieceBytes);
      stream.next_in = reinterpret_cast<uint8_t*>(const_cast<char*>(piece.data()));
      stream.avail_in = static_cast<uint32_t>(piece.size());
      bytes.remove_prefix(piece.size());
      stream.end_of_stream = more == More::kNone && bytes.empty() ? 1 : 0;
      do {
        stream.next_out = reinterpret_cast<uint8_t*>(out.data());
        stream.avail_out = static_cast<uint32_t>(out.size());
        if (const int status = isal_deflate(&stream); status != COMP_OK)
          return Error(Code::kInternal, cat("isal_deflate = ", status));
        const size_t made = out.size() - stream.avail_out;
        if (made != 0) FLUYT_TRY(sink({out.data(), made}));
      } while (stream.avail_out == 0 || stream.avail_in != 0);
    } while (!bytes.empty());
    if (more == More::kNone && stream.internal_state.state != ZSTATE_END)
      return Error(Code::kInternal, "isal_deflate: the member did not end");
    return {};
  }

  static constexpr uint32_t kLevelBytes = ISAL_DEF_LVL2_DEFAULT;
  const ByteSink sink;
  std::vector<char> out;
  std::vector<uint8_t> level;
  isal_zstream stream;
};
#else
struct GzipWriter::State {
  explicit State(ByteSink to) : sink(std::move(to)), out(kBufferBytes) {
    deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { deflateEnd(&stream); }
  Result<> push(std::string_view bytes, More more) {
    int status = Z_OK;
    do {
      const std::string_view piece = bytes.substr(0, kPieceBytes);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
      stream.avail_in = static_cast<uInt>(piece.size());
      bytes.remove_prefix(piece.size());
      const int flush = more == More::kNone && bytes.empty() ? Z_FINISH : Z_NO_FLUSH;
      do {
        stream.next_out = reinterpret_cast<Bytef*>(out.data());
        stream.avail_out = static_cast<uInt>(out.size());
        status = deflate(&stream, flush);
        if (status == Z_STREAM_ERROR) return Error(Code::kInternal, "deflate = Z_STREAM_ERROR");
        const size_t made = out.size() - stream.avail_out;
        if (made != 0) FLUYT_TRY(sink({out.data(), made}));
      } while (stream.avail_out == 0 || stream.avail_in != 0);
    } while (!bytes.empty());
    if (more == More::kNone && status != Z_STREAM_END)
      return Error(Code::kInternal, "deflate: the member did not end");
    return {};
  }

  const ByteSink sink;
  std::vector<char> out;
  z_stream stream{};
};
#endif

GzipWriter::GzipWriter(ByteSink sink) : state_(std::make_unique<State>(std::move(sink))) {}
GzipWriter::GzipWriter(GzipWriter&&) noexcept = default;
GzipWriter::~GzipWriter() = default;

Result<> GzipWriter::write(std::string_view bytes) {
  return bytes.empty() ? Result<>() : state_->push(bytes, More::kComes);
}

Result<> GzipWriter::finish() { return state_->push({}, More::kNone); }

}  // namespace fluyt::image
