#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

/// D-Bus messages as values: encoding and strict, bounded decoding. Little-endian both ways, which
/// is what a sender on the same machine writes. Pure.
namespace fluyt::dbus {

/// The specification allows 128 MiB; nothing that we ask for has an answer near this.
inline constexpr size_t kMaxMessageBytes = 1U << 20U;
/// Of arrays, structures and variants in each other.
inline constexpr int kMaxDepth = 16;

/// Marshals values one behind the other; each aligns itself. Starts at an offset that is a multiple
/// of 8, as a body does.
class Writer {
 public:
  void byte(uint8_t value) { out_ += static_cast<char>(value); }
  void boolean(bool value) { u32(value ? 1 : 0); }
  void u32(uint32_t value);
  void u64(uint64_t value);
  /// Also an object path.
  void string(std::string_view text);
  void signature(std::string_view text);
  void align(size_t boundary);

  /// An array: begin, the elements, end. `alignment` is that of the element's type.
  struct Array {
    size_t length_at;
    size_t start;
  };
  Array begin_array(size_t alignment);
  void end_array(const Array& array);

  const std::string& bytes() const { return out_; }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Reads values one behind the other. Every reader is kDataLoss when the bytes are not what they
/// must be.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  Result<uint8_t> byte();
  Result<bool> boolean();
  Result<uint32_t> u32();
  Result<uint64_t> u64();
  Result<std::string> string();
  Result<std::string> object_path();
  Result<std::string> signature();
  Result<> align(size_t boundary);
  /// Where the array that begins here ends.
  Result<size_t> begin_array(size_t alignment);
  /// Passes over the value of one complete type, checking it.
  Result<> skip(std::string_view type, int depth = 0);

  size_t at() const { return at_; }
  bool done() const { return at_ == bytes_.size(); }

 private:
  Result<std::string_view> take(size_t count);
  std::string_view bytes_;
  size_t at_ = 0;
};

/// The first complete type of a signature ("a(sv)" of "a(sv)u").
Result<std::string_view> first_type(std::string_view signature);
/// What the specification calls valid, with our bound on depth.
bool is_valid_signature(std::string_view signature);
bool is_valid_object_path(std::string_view path);
/// The alignment of a type by its first character; 0 for none such.
size_t alignment_of(char type);

enum class Kind : uint8_t { kCall = 1, kReply = 2, kError = 3, kSignal = 4 };

struct Message {
  Kind kind = Kind::kCall;
  uint8_t flags = 0;
  uint32_t serial = 0;        // not 0 in a message that was sent
  uint32_t reply_serial = 0;  // of the call that a reply or error answers
  std::string path;
  std::string interface;
  std::string member;
  std::string error_name;
  std::string destination;
  std::string sender;
  std::string signature;  // of the body
  std::string body;
  bool operator==(const Message&) const = default;
};

/// The bytes of a message; `message.serial` must be set.
std::string encode(const Message& message);
/// Takes the first message off `buffer`; nothing when it is not whole yet. kDataLoss for bytes that
/// are no message, kResourceExhausted for one above kMaxMessageBytes: the connection is lost then.
/// The body has been checked against its signature.
Result<std::optional<Message>> take_message(std::string& buffer);

/// A value in a variant: the types that unit properties have.
using Pairs = std::vector<std::pair<std::string, std::string>>;
using Value =
    std::variant<bool, int32_t, uint32_t, int64_t, uint64_t, double, std::string,
                 std::vector<uint8_t>, std::vector<uint32_t>, std::vector<std::string>, Pairs>;
std::string_view signature_of(const Value& value);
void write_variant(Writer& out, const Value& value);

}  // namespace fluyt::dbus
