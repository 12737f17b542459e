#include "runtime/checkpoint/criu_message.h"

#include "base/strings.h"

namespace fluyt::runtime::checkpoint {

namespace {

enum class Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// One message being written, field by field.
class Writer {
 public:
  Writer& number(uint32_t field, int64_t value) {
    tag(field, Wire::kVarint);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Writer& text(uint32_t field, std::string_view value) {
    tag(field, Wire::kBytes);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Writer& flag(uint32_t field, bool value) { return value ? number(field, 1) : *this; }
  Writer& text_if(uint32_t field, std::string_view value) {
    return value.empty() ? *this : text(field, value);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(uint32_t field, Wire wire) {
    varint(uint64_t{field} << 3U | static_cast<uint64_t>(wire));
  }
  void varint(uint64_t value) {
    while (value >= 0x80) {
      bytes_ += static_cast<char>(value | 0x80);
      value >>= 7U;
    }
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// One message being read: next() until there is no more.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;     // of a varint
    std::string_view text;  // of bytes
  };
  /// Nothing at the end.
  Result<std::optional<Field>> next() {
    if (rest_.empty()) return std::optional<Field>();
    const uint64_t tag = FLUYT_TRY(varint());
    Field field;
    field.number = tag >> 3U;
    switch (static_cast<Wire>(tag & 7U)) {
      case Wire::kVarint:
        field.value = FLUYT_TRY(varint());
        return std::optional(field);
      case Wire::kBytes: {
        const uint64_t size = FLUYT_TRY(varint());
        field.text = FLUYT_TRY(take(size));
        return std::optional(field);
      }
      case Wire::kFixed64:
        FLUYT_TRY(take(8));
        return std::optional(field);
      case Wire::kFixed32:
        FLUYT_TRY(take(4));
        return std::optional(field);
    }
    return Error(Code::kDataLoss, cat("criu's answer: unknown wire type ", tag & 7U));
  }

 private:
  Result<std::string_view> take(uint64_t size) {
    if (size > rest_.size()) return Error(Code::kDataLoss, "criu's answer: cut short");
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }
  Result<uint64_t> varint() {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(FLUYT_TRY(take(1))[0]);
      value |= uint64_t{byte & 0x7FU} << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    return Error(Code::kDataLoss, "criu's answer: a number of more than 64 bits");
  }
  std::string_view rest_;
};

// Calls `take` with each field.
template <class Take>
Result<> for_each_field(std::string_view bytes, Take take) {
  Reader reader(bytes);
  while (true) {
    const auto field = FLUYT_TRY(reader.next());
    if (!field) return {};
    FLUYT_TRY(take(*field));
  }
}

std::string pair_of(std::string_view first, std::string_view second) {
  return Writer().text(1, first).text(2, second).bytes();
}

constexpr int64_t kNewNetwork = 0x40000000;  // CLONE_NEWNET, as empty_ns has it

void encode_lists(const CriuOptions& o, Writer& out) {
  for (const auto& [key, value] : o.external_mounts) out.text(23, pair_of(key, value));
  for (const auto& [controller, path] : o.cgroup_roots) out.text(25, pair_of(controller, path));
  for (const auto& [key, fd] : o.inherited) {
    out.text(27, Writer().text(1, key).number(2, fd).bytes());
  }
  for (const std::string& name : o.external) out.text(37, name);
  for (const auto& [type, file] : o.joins) out.text(39, pair_of(type, file));
}

std::string encode_options(const CriuOptions& o) {
  constexpr int kLogLevel = 4;
  Writer out;
  out.number(1, o.images_fd);
  if (o.pid != 0) out.number(2, o.pid);
  out.flag(3, o.leave_running)
      .flag(4, o.ext_unix_sk)
      .flag(5, o.tcp_established)
      .flag(6, o.evasive_devices)
      .flag(7, o.shell_job)
      .flag(8, o.file_locks)
      .number(9, kLogLevel)
      .text_if(10, o.log_file);
  if (o.page_server_port != 0) {
    out.text(11, Writer().text(1, o.page_server_address).number(2, o.page_server_port).bytes());
  }
  out.flag(12, true)  // notifications
      .text_if(13, o.root)
      .text_if(14, o.parent_image)
      .flag(15, o.track_memory)
      .flag(16, o.auto_dedup);
  if (o.work_fd >= 0) out.number(17, o.work_fd);
  out.flag(18, o.link_remap).flag(26, o.restore_sibling);
  encode_lists(o, out);
  out.number(34, static_cast<int64_t>(o.cgroup_mode));
  if (o.empty_network) out.number(38, kNewNetwork);
  out.text_if(44, o.freeze_cgroup)
      .flag(46, o.tcp_skip_in_flight)
      .flag(48, o.lazy_pages)
      .flag(50, o.orphan_pts_master)
      .text_if(53, o.lsm_profile)
      .text_if(63, o.lsm_mount_context);
  return out.bytes();
}

int to_int(uint64_t value) { return static_cast<int>(static_cast<int64_t>(value)); }

Result<> read_inner(const Reader::Field& field, Response& out) {
  switch (field.number) {
    case 4:
      return for_each_field(field.text, [&](const Reader::Field& f) -> Result<> {
        if (f.number == 1) out.restored_pid = to_int(f.value);
        return {};
      });
    case 5:
      return for_each_field(field.text, [&](const Reader::Field& f) -> Result<> {
        if (f.number == 1) out.script = f.text;
        if (f.number == 2) out.script_pid = to_int(f.value);
        return {};
      });
    case 8:
      return for_each_field(field.text, [&](const Reader::Field& f) -> Result<> {
        if (f.number == 1) out.memory_tracking = f.value != 0;
        if (f.number == 2) out.lazy_pages = f.value != 0;
        return {};
      });
    case 10:
      return for_each_field(field.text, [&](const Reader::Field& f) -> Result<> {
        if (f.number == 1) out.major = to_int(f.value);
        if (f.number == 2) out.minor = to_int(f.value);
        if (f.number == 4) out.sublevel = to_int(f.value);
        return {};
      });
    default:
      return {};
  }
}

}  // namespace

std::string encode_request(RequestType type, const CriuOptions& options) {
  return Writer().number(1, static_cast<int64_t>(type)).text(2, encode_options(options)).bytes();
}

std::string encode_question(RequestType type) {
  Writer out;
  out.number(1, static_cast<int64_t>(type)).flag(4, true);  // keep_open
  if (type == RequestType::kFeatureCheck) out.text(5, Writer().flag(1, true).flag(2, true).bytes());
  return out.bytes();
}

std::string encode_notified(bool success) {
  return Writer()
      .number(1, static_cast<int64_t>(RequestType::kNotify))
      .number(3, success ? 1 : 0)
      .bytes();
}

Result<Response> parse_response(std::string_view bytes) {
  Response out;
  FLUYT_TRY(for_each_field(bytes, [&](const Reader::Field& field) -> Result<> {
    if (field.number == 1) out.type = static_cast<uint32_t>(field.value);
    if (field.number == 2) out.success = field.value != 0;
    if (field.number == 7) out.error_number = to_int(field.value);
    if (field.number == 9) out.error_message = field.text;
    return read_inner(field, out);
  }));
  return out;
}

}  // namespace fluyt::runtime::checkpoint
