#pragma once

#include <google/protobuf/message.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace fluyt::cri::testing {

/// Changes protobuf messages at random places as their descriptors allow, so that a fuzzer's inputs
/// stay messages however deep they go. What it makes is always serialized to what can be parsed
/// again: text stays UTF-8.
class MessageMutator {
 public:
  /// Changes at most `size` bytes of a buffer of `capacity` in place, and answers the new size:
  /// what libFuzzer's LLVMFuzzerMutate does, which knows what the program compared bytes with.
  using ChangeBytes = std::function<size_t(uint8_t* bytes, size_t size, size_t capacity)>;

  /// `words` are texts worth trying in any field of text.
  MessageMutator(uint32_t seed, ChangeBytes change_bytes, std::vector<std::string> words);

  /// One change: a field set, changed, cleared, or one element more or less, at any depth.
  void change(google::protobuf::Message& message);

  /// True once in `times`.
  bool once_in(uint32_t times);
  /// At least 0, below `end`, which is above 0.
  uint64_t below(uint64_t end);

 private:
  using Field = google::protobuf::FieldDescriptor;

  void change_in(google::protobuf::Message& message, int depth);
  void change_one(google::protobuf::Message& message, const Field& field, int depth);
  void change_list(google::protobuf::Message& message, const Field& field, int depth);
  void add(google::protobuf::Message& message, const Field& field, int depth);
  void set(google::protobuf::Message& message, const Field& field, int element);
  template <class Integer>
  Integer integer(Integer now);
  std::string text(std::string now, bool utf8);

  std::mt19937 random_;
  ChangeBytes change_bytes_;
  std::vector<std::string> words_;
};

}  // namespace fluyt::cri::testing
