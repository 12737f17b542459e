#include <span>

#include "base/strings.h"
#include "image/layer/tar.h"
#include "image/layer/tar_block.h"
#include "image/layer/tar_number.h"

// Sparse files: which pieces of the file the data in the archive are (GNU tar's manual, "Storing
// Sparse Files").

namespace fluyt::image {

using namespace tar;  // NOLINT(google-build-using-namespace): the block's layout, made for these
                      // files

namespace {

Error bad(const TarEntry& entry, std::string_view what) {
  return Error(Code::kInvalidArgument, cat("tar: entry ", quote(entry.path), ": ", what));
}

Error too_many_pieces() {
  return Error(Code::kResourceExhausted,
               cat("tar: more than ", kMaxSparsePieces, " sparse pieces"));
}

// Offset and length in turn.
void add_pieces(std::span<const uint64_t> numbers, std::vector<SparsePiece>& out) {
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) out.push_back({numbers[i], numbers[i + 1]});
}

}  // namespace

// "offset,length,offset,length,…" of GNU sparse 0.1, and what 0.0's repeated records come to.
Result<> read_pax_pieces(std::string_view map, std::vector<SparsePiece>& out) {
  if (map.empty()) return {};
  std::vector<uint64_t> numbers;
  for (const std::string_view text : split(map, ',')) {
    const auto number = parse_number<uint64_t>(text);
    if (!number || *number > INT64_MAX) {
      return Error(Code::kInvalidArgument, "tar: GNU.sparse.map is not numbers");
    }
    numbers.push_back(*number);
  }
  if (numbers.size() % 2 != 0)
    return Error(Code::kInvalidArgument, "tar: GNU.sparse.map is cut short");
  add_pieces(numbers, out);
  return {};
}

Result<> TarParser::start_old_sparse(const char* block) {
  const auto real_size = parse_tar_number(field(block, kGnuRealSize));
  if (!real_size || *real_size < 0) return bad(entry_, "real size is not a number");
  entry_.size = static_cast<uint64_t>(*real_size);
  sparse_ = true;
  sparse_map_follows_ = false;
  pieces_.clear();
  FLUYT_TRY_CONTEXT(read_old_pieces(block + kSparseAt, kSparseCount, pieces_),
                    cat("entry ", quote(entry_.path)));
  if (block[kSparseMore] == '\0') return start_data();
  state_ = State::kOldSparse;
  return {};
}

Result<> TarParser::old_sparse(const char* block) {
  FLUYT_TRY_CONTEXT(read_old_pieces(block, kExtensionCount, pieces_),
                    cat("entry ", quote(entry_.path)));
  if (pieces_.size() > kMaxSparsePieces) return too_many_pieces();
  return block[kExtensionMore] != '\0' ? Result<>() : start_data();
}

// GNU sparse 1.0: decimal lines at the start of the data, as many blocks as they need: how many
// pieces, then offset and length of each.
Result<> TarParser::sparse_map_block(const char* block) {
  constexpr size_t kMaxDigits = 20;
  if (body_left_ < kBlock) return bad(entry_, "sparse map is cut short");
  body_left_ -= kBlock;
  sparse_text_.append(block, kBlock);
  std::string_view text = sparse_text_;
  while (true) {
    const size_t line = text.find('\n');
    if (line == std::string_view::npos) break;
    const auto number = parse_number<uint64_t>(text.substr(0, line));
    if (!number || *number > INT64_MAX) return bad(entry_, "sparse map is not numbers");
    if (sparse_numbers_.empty() && *number > kMaxSparsePieces) return too_many_pieces();
    sparse_numbers_.push_back(*number);
    text.remove_prefix(line + 1);
    if (sparse_numbers_.size() == 1 + 2 * sparse_numbers_[0]) {
      add_pieces({sparse_numbers_.data() + 1, sparse_numbers_.size() - 1}, pieces_);
      return start_data();
    }
  }
  if (text.size() > kMaxDigits) return bad(entry_, "sparse map is not numbers");
  sparse_text_ = std::string(text);
  return {};
}

// In order, apart, within the file, and together as long as the data that follows.
Result<> TarParser::validate_sparse(uint64_t body_bytes) const {
  uint64_t total = 0;
  uint64_t before = 0;
  for (const SparsePiece& piece : pieces_) {
    if (piece.offset < before || piece.length > INT64_MAX || piece.offset > INT64_MAX ||
        piece.offset + piece.length > entry_.size) {
      return bad(entry_, "sparse pieces overlap or leave the file");
    }
    before = piece.offset + piece.length;
    total += piece.length;
  }
  if (total == body_bytes) return {};
  return bad(entry_, cat("sparse pieces have ", total, " bytes, the archive ", body_bytes));
}

}  // namespace fluyt::image
