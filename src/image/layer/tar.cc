#include "image/layer/tar.h"

#include <algorithm>

#include "base/strings.h"
#include "image/layer/tar_block.h"
#include "image/layer/tar_number.h"

namespace fluyt::image {

using namespace tar;  // NOLINT(google-build-using-namespace): the block's layout, made for this
                      // file

namespace {

Error bad(std::string_view what) { return Error(Code::kInvalidArgument, cat("tar: ", what)); }
Error bad(const TarEntry& entry, std::string_view what) {
  return bad(cat("entry ", quote(entry.path), ": ", what));
}

Result<uint32_t> id_of(std::string_view what, std::optional<int64_t> value) {
  // 4294967295 is (uid_t)-1, which chown(2) reads as "leave it".
  if (value && *value >= 0 && *value < UINT32_MAX) return static_cast<uint32_t>(*value);
  return bad(cat(what, " is not a number from 0 to 4294967294"));
}

Result<TarType> type_of(char flag, std::string_view path) {
  switch (flag) {
    case '\0':
    case '0':
    case '7':
      // v7 had no directories but names that end in a slash, and writers still do that.
      return path.ends_with('/') ? TarType::kDirectory : TarType::kFile;
    case 'S':
      return TarType::kFile;
    case '1':
      return TarType::kHardLink;
    case '2':
      return TarType::kSymlink;
    case '3':
      return TarType::kCharDevice;
    case '4':
      return TarType::kBlockDevice;
    case '5':
      return TarType::kDirectory;
    case '6':
      return TarType::kFifo;
    default:
      return bad(
          cat("type ", quote(std::string_view(&flag, 1)), " is not one that a layer may have"));
  }
}

}  // namespace

// A whole block: out of `bytes` itself where it can be, or gathered over several calls.
const char* TarParser::take_block(std::string_view& bytes) {
  if (block_.empty() && bytes.size() >= kBlock) {
    const char* block = bytes.data();
    bytes.remove_prefix(kBlock);
    return block;
  }
  const std::string_view piece = bytes.substr(0, kBlock - block_.size());
  block_ += piece;
  bytes.remove_prefix(piece.size());
  return block_.size() == kBlock ? block_.data() : nullptr;
}

Result<> TarParser::push(std::string_view bytes) {
  end_ += bytes.size();
  while (!bytes.empty()) FLUYT_TRY(step(bytes));
  return {};
}

Result<> TarParser::step(std::string_view& bytes) {
  switch (state_) {
    case State::kHeader:
    case State::kOldSparse:
    case State::kSparseMap: {
      const char* block = take_block(bytes);
      if (block == nullptr) return {};
      here_ = end_ - bytes.size();
      FLUYT_TRY(block_done(block));
      block_.clear();
      return {};
    }
    case State::kMeta: {
      const std::string_view piece = bytes.substr(0, body_left_);
      meta_ += piece;
      bytes.remove_prefix(piece.size());
      body_left_ -= piece.size();
      return body_left_ == 0 ? meta_done() : Result<>();
    }
    case State::kData:
      return data(bytes);
    case State::kSkip: {
      const size_t size = std::min<uint64_t>(bytes.size(), body_left_);
      bytes.remove_prefix(size);
      body_left_ -= size;
      if (body_left_ == 0) after_body();
      return {};
    }
    case State::kPadding: {
      const size_t size = std::min<uint64_t>(bytes.size(), padding_left_);
      bytes.remove_prefix(size);
      padding_left_ -= size;
      if (padding_left_ == 0) state_ = State::kHeader;
      return {};
    }
    case State::kEnded:
      bytes = {};
      return {};
  }
  return {};
}

Result<> TarParser::finish() {
  const bool at_border = state_ == State::kHeader && block_.empty() && !has_extensions_;
  // The padding of the last entry may be missing: nobody reads it.
  const bool in_padding = state_ == State::kPadding && !has_extensions_;
  if (state_ == State::kEnded || in_padding || at_border) return {};
  return Error(Code::kDataLoss, "tar: the archive ends in the middle of an entry");
}

Result<> TarParser::block_done(const char* block) {
  if (state_ == State::kOldSparse) return old_sparse(block);
  if (state_ == State::kSparseMap) return sparse_map_block(block);
  return header(block);
}

void TarParser::after_body() { state_ = padding_left_ != 0 ? State::kPadding : State::kHeader; }

void TarParser::forget_extensions() {
  long_name_.reset();
  long_link_.reset();
  pax_.clear();
  has_extensions_ = false;
}

Result<> TarParser::header(const char* block) {
  if (is_zero(block)) {
    if (zero_block_seen_) state_ = State::kEnded;
    zero_block_seen_ = true;
    return {};
  }
  if (zero_block_seen_) return bad("a block of zeros is followed by neither another nor the end");
  const std::string_view name = tar_text(field(block, kName));
  if (!checksum_matches(block))
    return bad(cat("header ", quote(name), ": checksum does not match"));
  const auto size = parse_tar_number(field(block, kSize));
  if (!size || *size < 0) return bad(cat("entry ", quote(name), ": size is not a number"));
  const auto body_bytes = static_cast<uint64_t>(*size);
  const char flag = block[kTypeFlag];
  switch (flag) {
    case 'L':
      return start_meta(Meta::kLongName, body_bytes);
    case 'K':
      return start_meta(Meta::kLongLink, body_bytes);
    case 'x':
      return start_meta(Meta::kPax, body_bytes);
    case 'g':
      return start_meta(Meta::kGlobal, body_bytes);
    case 'V':
    case 'M':
    case 'D':
    case 'N':
      start_skip(body_bytes);
      return {};
    default:
      return entry(block, flag);
  }
}

void TarParser::start_skip(uint64_t body_bytes) {
  forget_extensions();
  ++skipped_;
  body_left_ = body_bytes;
  padding_left_ = padding_of(body_bytes);
  if (body_left_ != 0) state_ = State::kSkip;
}

Result<> TarParser::start_meta(Meta kind, uint64_t body_bytes) {
  if (body_bytes > kMaxTarMetaBytes) {
    return Error(Code::kResourceExhausted, cat("tar: extension header of ", body_bytes,
                                               " bytes: at most ", kMaxTarMetaBytes, " are read"));
  }
  if (kind != Meta::kGlobal) has_extensions_ = true;
  meta_kind_ = kind;
  meta_.clear();
  body_left_ = body_bytes;
  padding_left_ = padding_of(body_bytes);
  state_ = State::kMeta;
  return body_left_ == 0 ? meta_done() : Result<>();
}

Result<> TarParser::meta_done() {
  after_body();
  switch (meta_kind_) {
    case Meta::kLongName:
      long_name_ = tar_text(meta_);
      break;
    case Meta::kLongLink:
      long_link_ = tar_text(meta_);
      break;
    case Meta::kPax:
      pax_ = FLUYT_TRY(parse_pax(meta_));
      break;
    case Meta::kGlobal:
      FLUYT_TRY(parse_pax(meta_));
      break;
  }
  return {};
}

Result<> TarParser::entry(const char* block, char flag) {
  entry_ = TarEntry();
  entry_.path = tar_text(field(block, kName));
  if (const std::string_view prefix = prefix_of(block); !prefix.empty()) {
    entry_.path = cat(prefix, "/", entry_.path);
  }
  entry_.link = tar_text(field(block, kLinkName));
  const auto mode = parse_tar_number(field(block, kMode));
  const auto mtime = parse_tar_number(field(block, kMtime));
  const auto size = parse_tar_number(field(block, kSize));
  if (!mode || !mtime || !size) return bad(entry_, "mode or time is not a number");
  entry_.mode = static_cast<uint32_t>(*mode) & 07777U;
  entry_.mtime = *mtime;
  auto uid = parse_tar_number(field(block, kUid));
  auto gid = parse_tar_number(field(block, kGid));
  auto body_bytes = static_cast<uint64_t>(*size);
  FLUYT_TRY_CONTEXT(merge_pax(uid, gid, body_bytes), cat("entry ", quote(entry_.path)));
  if (long_name_) entry_.path = *long_name_;
  if (long_link_) entry_.link = *long_link_;
  if (is_header_only(flag)) body_bytes = 0;
  entry_.uid = FLUYT_TRY_CONTEXT(id_of("uid", uid), cat("entry ", quote(entry_.path)));
  entry_.gid = FLUYT_TRY_CONTEXT(id_of("gid", gid), cat("entry ", quote(entry_.path)));
  entry_.type = FLUYT_TRY_CONTEXT(type_of(flag, entry_.path), cat("entry ", quote(entry_.path)));
  if (entry_.type == TarType::kCharDevice || entry_.type == TarType::kBlockDevice) {
    FLUYT_TRY(read_device(block));
  }
  body_left_ = body_bytes;
  padding_left_ = padding_of(body_bytes);
  // A sparse map makes sense for files alone; a body behind anything else is only passed over.
  if (entry_.type != TarType::kFile) sparse_ = sparse_map_follows_ = false;
  if (flag == 'S') return start_old_sparse(block);
  if (!sparse_) entry_.size = entry_.type == TarType::kFile ? body_bytes : 0;
  if (!sparse_map_follows_) return start_data();
  state_ = State::kSparseMap;
  return {};
}

Result<> TarParser::read_device(const char* block) {
  const auto major = parse_tar_number(field(block, kMajor));
  const auto minor = parse_tar_number(field(block, kMinor));
  // Linux has 12 bits for the one and 20 for the other.
  if (!major || !minor || *major < 0 || *minor < 0 || *major > 0xFFF || *minor > 0xFFFFF) {
    return bad(entry_, "device number is out of range");
  }
  entry_.device_major = static_cast<uint32_t>(*major);
  entry_.device_minor = static_cast<uint32_t>(*minor);
  return {};
}

// What the PAX header before this entry says takes the place of what the entry's own header says.
Result<> TarParser::merge_pax(std::optional<int64_t>& uid, std::optional<int64_t>& gid,
                              uint64_t& body_bytes) {
  sparse_ = sparse_map_follows_ = false;
  pieces_.clear();
  sparse_text_.clear();
  sparse_numbers_.clear();
  if (pax_.empty()) return {};
  PaxFields fields = FLUYT_TRY(read_pax_fields(pax_));
  if (fields.path) entry_.path = *fields.path;
  if (fields.link) entry_.link = *fields.link;
  if (fields.uid) uid = fields.uid;
  if (fields.gid) gid = fields.gid;
  if (fields.size) body_bytes = static_cast<uint64_t>(*fields.size);
  if (fields.mtime) {
    entry_.mtime = *fields.mtime;
    entry_.mtime_ns = fields.mtime_ns;
  }
  entry_.xattrs = std::move(fields.xattrs);
  if (!fields.sparse) return {};
  sparse_ = true;
  sparse_map_follows_ = fields.sparse_map_in_data;
  if (!fields.real_size) return bad("a sparse file without its real size");
  entry_.size = *fields.real_size;
  return read_pax_pieces(fields.sparse_map, pieces_);
}

Result<> TarParser::start_data() {
  if (entry_.size > INT64_MAX) return bad(entry_, "size is out of range");
  if (sparse_) {
    FLUYT_TRY(validate_sparse(body_left_));
    std::erase_if(pieces_, [](const SparsePiece& piece) { return piece.length == 0; });
  }
  piece_ = 0;
  piece_done_ = 0;
  offset_ = 0;
  ++entries_;
  forget_extensions();
  // The sink may take strings out of the entry; its type and path are wanted to the end.
  const TarType type = entry_.type;
  const std::string path = entry_.path;
  entry_.sparse = sparse_;
  entry_.body_position = here_;
  FLUYT_TRY_CONTEXT(sink_.begin(entry_), cat("entry ", quote(path)));
  entry_.type = type;
  entry_.path = path;
  if (body_left_ == 0) return end_of_body();
  state_ = type == TarType::kFile ? State::kData : State::kSkip;
  return {};
}

Result<> TarParser::data(std::string_view& bytes) {
  std::string_view piece = bytes.substr(0, body_left_);
  if (sparse_) {
    const SparsePiece& now = pieces_[piece_];
    piece = piece.substr(0, now.length - piece_done_);
    offset_ = now.offset + piece_done_;
    piece_done_ += piece.size();
    if (piece_done_ == now.length) {
      ++piece_;
      piece_done_ = 0;
    }
  }
  FLUYT_TRY_CONTEXT(sink_.data(offset_, piece), cat("entry ", quote(entry_.path)));
  offset_ += piece.size();
  bytes.remove_prefix(piece.size());
  body_left_ -= piece.size();
  return body_left_ == 0 ? end_of_body() : Result<>();
}

Result<> TarParser::end_of_body() {
  after_body();
  if (entry_.type != TarType::kFile) return {};
  FLUYT_TRY_CONTEXT(sink_.end(), cat("entry ", quote(entry_.path)));
  return {};
}

}  // namespace fluyt::image
