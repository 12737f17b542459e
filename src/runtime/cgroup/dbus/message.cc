#include "runtime/cgroup/dbus/message.h"

#include <algorithm>
#include <bit>

#include "base/strings.h"

namespace fluyt::dbus {

namespace {

constexpr size_t kFixedHeader = 16;  // up to and with the length of the header fields
constexpr size_t kMaxSignature = 255;

// Header fields.
enum Field : uint8_t {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSender = 7,
  kSignature = 8,
};

Error broken(std::string_view what) { return Error(Code::kDataLoss, cat("D-Bus message: ", what)); }

bool is_basic(char type) {
  return std::string_view("ybnqiuxtdsogh").find(type) != std::string_view::npos;
}

// The length of the first complete type; 0 when there is none.
size_t type_length(std::string_view text, int depth) {
  if (text.empty() || depth > kMaxDepth) return 0;
  if (is_basic(text[0]) || text[0] == 'v') return 1;
  if (text[0] == 'a') {
    if (text.size() > 1 && text[1] == '{') {
      if (text.size() < 5 || !is_basic(text[2])) return 0;
      const size_t value = type_length(text.substr(3), depth + 1);
      if (value == 0 || 3 + value >= text.size() || text[3 + value] != '}') return 0;
      return value + 4;
    }
    const size_t element = type_length(text.substr(1), depth + 1);
    return element == 0 ? 0 : element + 1;
  }
  if (text[0] != '(') return 0;
  size_t at = 1;
  while (at < text.size() && text[at] != ')') {
    const size_t member = type_length(text.substr(at), depth + 1);
    if (member == 0) return 0;
    at += member;
  }
  return at < text.size() && at > 1 ? at + 1 : 0;
}

template <class T>
void append_little(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) {
    out += static_cast<char>(value & 0xFFU);
    value = static_cast<T>(value >> 8U);
  }
}

template <class T>
T little(std::string_view bytes) {
  T value = 0;
  for (size_t i = sizeof value; i-- > 0;) {
    value = static_cast<T>(value << 8U) | static_cast<T>(static_cast<uint8_t>(bytes[i]));
  }
  return value;
}

void string_field(Writer& out, Field field, std::string_view type, std::string_view text) {
  if (text.empty()) return;
  out.align(8);
  out.byte(field);
  out.signature(type);
  if (field == kSignature) {
    out.signature(text);
  } else {
    out.string(text);
  }
}

Result<> read_field(Reader& in, Message& message) {
  FLUYT_TRY(in.align(8));
  const uint8_t field = FLUYT_TRY(in.byte());
  const std::string type = FLUYT_TRY(in.signature());
  const auto expect = [&](std::string_view wanted) -> Result<> {
    if (type == wanted) return {};
    return broken(cat("header field ", field, " is of type ", quote(type), ", expected ", wanted));
  };
  const auto text = [&](std::string& target) -> Result<> {
    FLUYT_TRY(expect("s"));
    target = FLUYT_TRY(in.string());
    return {};
  };
  switch (field) {
    case kPath:
      FLUYT_TRY(expect("o"));
      message.path = FLUYT_TRY(in.object_path());
      return {};
    case kInterface:
      return text(message.interface);
    case kMember:
      return text(message.member);
    case kErrorName:
      return text(message.error_name);
    case kDestination:
      return text(message.destination);
    case kSender:
      return text(message.sender);
    case kReplySerial:
      FLUYT_TRY(expect("u"));
      message.reply_serial = FLUYT_TRY(in.u32());
      return {};
    case kSignature:
      FLUYT_TRY(expect("g"));
      message.signature = FLUYT_TRY(in.signature());
      return {};
    default:
      // Unknown ones are to be ignored, says the specification.
      if (FLUYT_TRY(first_type(type)).size() != type.size())
        return broken("a header field has more than one value");
      return in.skip(type, 1);
  }
}

Result<> check_header(const Message& message) {
  switch (message.kind) {
    case Kind::kCall:
      if (message.path.empty() || message.member.empty())
        return broken("a call without path or member");
      return {};
    case Kind::kReply:
      if (message.reply_serial == 0) return broken("a reply to nothing");
      return {};
    case Kind::kError:
      if (message.reply_serial == 0 || message.error_name.empty())
        return broken("an error without name, or to nothing");
      return {};
    case Kind::kSignal:
      if (message.path.empty() || message.interface.empty() || message.member.empty())
        return broken("a signal without path, interface or member");
      return {};
  }
  return broken("of an unknown kind");
}

Result<> check_body(const Message& message) {
  Reader in(message.body);
  std::string_view rest = message.signature;
  while (!rest.empty()) {
    const std::string_view type = FLUYT_TRY(first_type(rest));
    FLUYT_TRY(in.skip(type));
    rest.remove_prefix(type.size());
  }
  if (!in.done()) return broken("the body is longer than its signature says");
  return {};
}

}  // namespace

void Writer::align(size_t boundary) {
  while (out_.size() % boundary != 0) out_ += '\0';
}

void Writer::u32(uint32_t value) {
  align(4);
  append_little(out_, value);
}

void Writer::u64(uint64_t value) {
  align(8);
  append_little(out_, value);
}

void Writer::string(std::string_view text) {
  u32(static_cast<uint32_t>(text.size()));
  out_ += text;
  out_ += '\0';
}

void Writer::signature(std::string_view text) {
  byte(static_cast<uint8_t>(text.size()));
  out_ += text;
  out_ += '\0';
}

Writer::Array Writer::begin_array(size_t alignment) {
  u32(0);
  const size_t length_at = out_.size() - 4;
  // The padding to the first element is there even when there is none, and is not counted.
  align(alignment);
  return {.length_at = length_at, .start = out_.size()};
}

void Writer::end_array(const Array& array) {
  std::string length;
  append_little(length, static_cast<uint32_t>(out_.size() - array.start));
  out_.replace(array.length_at, 4, length);
}

Result<std::string_view> Reader::take(size_t count) {
  if (count > bytes_.size() - at_) return broken("ends too early");
  const std::string_view piece = bytes_.substr(at_, count);
  at_ += count;
  return piece;
}

Result<> Reader::align(size_t boundary) {
  const size_t padding = (boundary - at_ % boundary) % boundary;
  for (const char c : FLUYT_TRY(take(padding))) {
    if (c != '\0') return broken("padding that is not zero");
  }
  return {};
}

Result<uint8_t> Reader::byte() { return static_cast<uint8_t>(FLUYT_TRY(take(1))[0]); }

Result<uint32_t> Reader::u32() {
  FLUYT_TRY(align(4));
  return little<uint32_t>(FLUYT_TRY(take(4)));
}

Result<uint64_t> Reader::u64() {
  FLUYT_TRY(align(8));
  return little<uint64_t>(FLUYT_TRY(take(8)));
}

Result<bool> Reader::boolean() {
  const uint32_t value = FLUYT_TRY(u32());
  if (value > 1) return broken("a boolean that is neither 0 nor 1");
  return value == 1;
}

Result<std::string> Reader::string() {
  const uint32_t size = FLUYT_TRY(u32());
  if (size >= kMaxMessageBytes) return broken("a string longer than a message may be");
  const std::string_view text = FLUYT_TRY(take(size_t{size} + 1));
  if (text.back() != '\0' || text.find('\0') != size)
    return broken("a string with a zero in it, or none behind it");
  if (!is_utf8(text.substr(0, size))) return broken("a string that is not UTF-8");
  return std::string(text.substr(0, size));
}

Result<std::string> Reader::object_path() {
  std::string path = FLUYT_TRY(string());
  if (!is_valid_object_path(path)) return broken(cat("object path ", quote(path)));
  return path;
}

Result<std::string> Reader::signature() {
  const uint8_t size = FLUYT_TRY(byte());
  const std::string_view text = FLUYT_TRY(take(size_t{size} + 1));
  if (text.back() != '\0' || !is_valid_signature(text.substr(0, size)))
    return broken(cat("signature ", quote(text.substr(0, size))));
  return std::string(text.substr(0, size));
}

Result<size_t> Reader::begin_array(size_t alignment) {
  const uint32_t size = FLUYT_TRY(u32());
  FLUYT_TRY(align(alignment));
  if (size > bytes_.size() - at_) return broken("an array longer than the message");
  return at_ + size;
}

Result<> Reader::skip(std::string_view type, int depth) {
  if (depth > kMaxDepth) return broken("nested too deeply");
  if (type.empty()) return broken("an empty type");
  switch (type[0]) {
    case 'y':
      FLUYT_TRY(take(1));
      return {};
    case 'n':
    case 'q':
      FLUYT_TRY(align(2));
      FLUYT_TRY(take(2));
      return {};
    case 'b':
      FLUYT_TRY(boolean());
      return {};
    case 'i':
    case 'u':
    case 'h':
      FLUYT_TRY(u32());
      return {};
    case 'x':
    case 't':
    case 'd':
      FLUYT_TRY(u64());
      return {};
    case 's':
      FLUYT_TRY(string());
      return {};
    case 'o':
      FLUYT_TRY(object_path());
      return {};
    case 'g':
      FLUYT_TRY(signature());
      return {};
    case 'v': {
      const std::string inner = FLUYT_TRY(signature());
      if (FLUYT_TRY(first_type(inner)).size() != inner.size())
        return broken("a variant of more than one value");
      return skip(inner, depth + 1);
    }
    case 'a': {
      const std::string_view element = type.substr(1);
      const size_t end = FLUYT_TRY(begin_array(alignment_of(element.empty() ? '\0' : element[0])));
      while (at_ < end) FLUYT_TRY(skip(element, depth + 1));
      if (at_ != end) return broken("an array that ends within an element");
      return {};
    }
    case '(':
    case '{': {
      FLUYT_TRY(align(8));
      std::string_view rest = type.substr(1, type.size() - 2);
      while (!rest.empty()) {
        const std::string_view member = FLUYT_TRY(first_type(rest));
        FLUYT_TRY(skip(member, depth + 1));
        rest.remove_prefix(member.size());
      }
      return {};
    }
    default:
      return broken(cat("type ", quote(type)));
  }
}

Result<std::string_view> first_type(std::string_view signature) {
  const size_t length = type_length(signature, 0);
  if (length == 0) return broken(cat("signature ", quote(signature)));
  return signature.substr(0, length);
}

bool is_valid_signature(std::string_view signature) {
  if (signature.size() > kMaxSignature) return false;
  while (!signature.empty()) {
    const size_t length = type_length(signature, 0);
    if (length == 0) return false;
    signature.remove_prefix(length);
  }
  return true;
}

bool is_valid_object_path(std::string_view path) {
  if (path == "/") return true;
  if (path.empty() || path.front() != '/' || path.back() == '/') return false;
  if (path.find("//") != std::string_view::npos) return false;
  return std::ranges::all_of(path, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '/';
  });
}

size_t alignment_of(char type) {
  switch (type) {
    case 'y':
    case 'g':
    case 'v':
      return 1;
    case 'n':
    case 'q':
      return 2;
    case 'x':
    case 't':
    case 'd':
    case '(':
    case '{':
      return 8;
    default:
      return 4;
  }
}

std::string encode(const Message& message) {
  Writer out;
  out.byte('l');
  out.byte(static_cast<uint8_t>(message.kind));
  out.byte(message.flags);
  out.byte(1);  // of the protocol
  out.u32(static_cast<uint32_t>(message.body.size()));
  out.u32(message.serial);
  const Writer::Array fields = out.begin_array(8);
  string_field(out, kPath, "o", message.path);
  string_field(out, kInterface, "s", message.interface);
  string_field(out, kMember, "s", message.member);
  string_field(out, kErrorName, "s", message.error_name);
  if (message.reply_serial != 0) {
    out.align(8);
    out.byte(kReplySerial);
    out.signature("u");
    out.u32(message.reply_serial);
  }
  string_field(out, kDestination, "s", message.destination);
  string_field(out, kSender, "s", message.sender);
  string_field(out, kSignature, "g", message.signature);
  out.end_array(fields);
  out.align(8);
  return out.take() + message.body;
}

Result<std::optional<Message>> take_message(std::string& buffer) {
  if (buffer.size() < kFixedHeader) return std::optional<Message>();
  if (buffer[0] != 'l') return broken("not little-endian");
  if (buffer[3] != 1) return broken("of another version of the protocol");
  const std::string_view all = buffer;
  const uint64_t body_size = little<uint32_t>(all.substr(4));
  const uint64_t fields_size = little<uint32_t>(all.substr(12));
  const uint64_t header_size = (kFixedHeader + fields_size + 7) / 8 * 8;
  const uint64_t size = header_size + body_size;
  if (size > kMaxMessageBytes) {
    return Error(Code::kResourceExhausted,
                 cat("D-Bus message: ", size, " bytes: expected at most ", kMaxMessageBytes));
  }
  if (buffer.size() < size) return std::optional<Message>();
  Message message;
  const auto kind = static_cast<uint8_t>(buffer[1]);
  if (kind < 1 || kind > 4) return broken(cat("of kind ", kind));
  message.kind = static_cast<Kind>(kind);
  message.flags = static_cast<uint8_t>(buffer[2]);
  message.serial = little<uint32_t>(all.substr(8));
  if (message.serial == 0) return broken("serial 0");
  Reader header(all.substr(0, header_size));
  FLUYT_TRY(header.skip("(yyyyuu)"));
  const size_t end = FLUYT_TRY(header.begin_array(8));
  while (header.at() < end) FLUYT_TRY(read_field(header, message));
  if (header.at() != end) return broken("the header ends within a field");
  FLUYT_TRY(header.align(8));
  message.body = all.substr(header_size, body_size);
  FLUYT_TRY(check_header(message));
  FLUYT_TRY(check_body(message));
  buffer.erase(0, size);
  return std::optional(std::move(message));
}

std::string_view signature_of(const Value& value) {
  struct Visitor {
    std::string_view operator()(bool) const { return "b"; }
    std::string_view operator()(int32_t) const { return "i"; }
    std::string_view operator()(uint32_t) const { return "u"; }
    std::string_view operator()(int64_t) const { return "x"; }
    std::string_view operator()(uint64_t) const { return "t"; }
    std::string_view operator()(double) const { return "d"; }
    std::string_view operator()(const std::string&) const { return "s"; }
    std::string_view operator()(const std::vector<uint8_t>&) const { return "ay"; }
    std::string_view operator()(const std::vector<uint32_t>&) const { return "au"; }
    std::string_view operator()(const std::vector<std::string>&) const { return "as"; }
    std::string_view operator()(const Pairs&) const { return "a(ss)"; }
  };
  return std::visit(Visitor{}, value);
}

void write_variant(Writer& out, const Value& value) {
  struct Visitor {
    Writer& out;
    void operator()(bool v) const { out.boolean(v); }
    void operator()(int32_t v) const { out.u32(static_cast<uint32_t>(v)); }
    void operator()(uint32_t v) const { out.u32(v); }
    void operator()(int64_t v) const { out.u64(static_cast<uint64_t>(v)); }
    void operator()(uint64_t v) const { out.u64(v); }
    void operator()(double v) const { out.u64(std::bit_cast<uint64_t>(v)); }
    void operator()(const std::string& v) const { out.string(v); }
    void operator()(const std::vector<uint8_t>& v) const {
      const Writer::Array array = out.begin_array(1);
      for (const uint8_t one : v) out.byte(one);
      out.end_array(array);
    }
    void operator()(const std::vector<uint32_t>& v) const {
      const Writer::Array array = out.begin_array(4);
      for (const uint32_t one : v) out.u32(one);
      out.end_array(array);
    }
    void operator()(const std::vector<std::string>& v) const {
      const Writer::Array array = out.begin_array(4);
      for (const std::string& one : v) out.string(one);
      out.end_array(array);
    }
    void operator()(const Pairs& v) const {
      const Writer::Array array = out.begin_array(8);
      for (const auto& [first, second] : v) {
        out.align(8);
        out.string(first);
        out.string(second);
      }
      out.end_array(array);
    }
  };
  out.signature(signature_of(value));
  std::visit(Visitor{out}, value);
}

}  // namespace fluyt::dbus
