#include "cri/testing/message_mutator.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/strings.h"

namespace fluyt::cri::testing {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMaxDepth = 12;
constexpr size_t kMostText = 8192;

/// A message and all messages within it.
void collect(Message& message, std::vector<Message*>& all) {
  all.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> present;
  reflection.ListFields(message, &present);
  for (const auto* field : present) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      collect(*reflection.MutableMessage(&message, field), all);
      continue;
    }
    for (int i = 0; i < reflection.FieldSize(message, field); ++i)
      collect(*reflection.MutableRepeatedMessage(&message, field, i), all);
  }
}

}  // namespace

MessageMutator::MessageMutator(uint32_t seed, ChangeBytes change_bytes,
                               std::vector<std::string> words)
    : random_(seed), change_bytes_(std::move(change_bytes)), words_(std::move(words)) {}

uint64_t MessageMutator::below(uint64_t end) {
  return std::uniform_int_distribution<uint64_t>(0, end - 1)(random_);
}

bool MessageMutator::once_in(uint32_t times) { return below(times) == 0; }

void MessageMutator::change(Message& message) {
  std::vector<Message*> all;
  collect(message, all);
  // Any of them as likely as another, or hardly anything would ever get deep.
  change_in(*all[below(all.size())], 0);
}

void MessageMutator::change_in(Message& message, int depth) {
  const auto& descriptor = *message.GetDescriptor();
  if (descriptor.field_count() == 0) return;
  const Field& field =
      *descriptor.field(static_cast<int>(below(static_cast<uint64_t>(descriptor.field_count()))));
  if (field.is_repeated())
    change_list(message, field, depth);
  else
    change_one(message, field, depth);
}

void MessageMutator::change_one(Message& message, const Field& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() != Field::CPPTYPE_MESSAGE) {
    if (once_in(8))
      reflection.ClearField(&message, &field);
    else
      set(message, field, -1);
    return;
  }
  const bool there = reflection.HasField(message, &field);
  if (there && once_in(16)) return reflection.ClearField(&message, &field);
  Message& inner = *reflection.MutableMessage(&message, &field);
  // An empty one is worth a try as well.
  if (depth < kMaxDepth && (there || !once_in(4))) change_in(inner, depth + 1);
}

void MessageMutator::change_list(Message& message, const Field& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  const int size = reflection.FieldSize(message, &field);
  if (size == 0 || once_in(4)) {
    constexpr uint64_t kMany = 300;
    const uint64_t more = once_in(64) ? below(kMany) : 1;
    for (uint64_t i = 0; i < more; ++i) add(message, field, depth);
    return;
  }
  const int element = static_cast<int>(below(static_cast<uint64_t>(size)));
  if (once_in(6)) {
    reflection.SwapElements(&message, &field, element, size - 1);
    if (once_in(2)) reflection.RemoveLast(&message, &field);
  } else if (field.cpp_type() == Field::CPPTYPE_MESSAGE) {
    if (depth < kMaxDepth)
      change_in(*reflection.MutableRepeatedMessage(&message, &field, element), depth + 1);
  } else {
    set(message, field, element);
  }
}

void MessageMutator::add(Message& message, const Field& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case Field::CPPTYPE_MESSAGE: {
      const int size = reflection.FieldSize(message, &field);
      Message& made = *reflection.AddMessage(&message, &field);
      if (size > 0 && once_in(2))
        made.CopyFrom(reflection.GetRepeatedMessage(message, &field, size - 1));
      if (depth < kMaxDepth) change_in(made, depth + 1);
      return;
    }
    case Field::CPPTYPE_INT32:
      return reflection.AddInt32(&message, &field, integer<int32_t>(0));
    case Field::CPPTYPE_INT64:
      return reflection.AddInt64(&message, &field, integer<int64_t>(0));
    case Field::CPPTYPE_UINT32:
      return reflection.AddUInt32(&message, &field, integer<uint32_t>(0));
    case Field::CPPTYPE_UINT64:
      return reflection.AddUInt64(&message, &field, integer<uint64_t>(0));
    case Field::CPPTYPE_ENUM:
      return reflection.AddEnumValue(&message, &field, static_cast<int>(below(8)));
    case Field::CPPTYPE_BOOL:
      return reflection.AddBool(&message, &field, once_in(2));
    case Field::CPPTYPE_DOUBLE:
      return reflection.AddDouble(&message, &field, integer<int32_t>(0));
    case Field::CPPTYPE_FLOAT:
      return reflection.AddFloat(&message, &field, static_cast<float>(integer<int32_t>(0)));
    case Field::CPPTYPE_STRING:
      return reflection.AddString(&message, &field, text({}, field.type() == Field::TYPE_STRING));
  }
}

/// `element` is below 0 for a field of one value.
void MessageMutator::set(Message& message, const Field& field, int element) {
  const Reflection& reflection = *message.GetReflection();
  const auto put = [&](auto get, auto get_of, auto set_one, auto set_of, auto made) {
    if (element < 0)
      (reflection.*set_one)(&message, &field, made((reflection.*get)(message, &field)));
    else
      (reflection.*set_of)(&message, &field, element,
                           made((reflection.*get_of)(message, &field, element)));
  };
  const auto number = [this](auto now) { return integer(now); };
  switch (field.cpp_type()) {
    case Field::CPPTYPE_MESSAGE:
      return;
    case Field::CPPTYPE_INT32:
      return put(&Reflection::GetInt32, &Reflection::GetRepeatedInt32, &Reflection::SetInt32,
                 &Reflection::SetRepeatedInt32, number);
    case Field::CPPTYPE_INT64:
      return put(&Reflection::GetInt64, &Reflection::GetRepeatedInt64, &Reflection::SetInt64,
                 &Reflection::SetRepeatedInt64, number);
    case Field::CPPTYPE_UINT32:
      return put(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32, &Reflection::SetUInt32,
                 &Reflection::SetRepeatedUInt32, number);
    case Field::CPPTYPE_UINT64:
      return put(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64, &Reflection::SetUInt64,
                 &Reflection::SetRepeatedUInt64, number);
    case Field::CPPTYPE_ENUM:
      return put(&Reflection::GetEnumValue, &Reflection::GetRepeatedEnumValue,
                 &Reflection::SetEnumValue, &Reflection::SetRepeatedEnumValue, [this](int now) {
                   return once_in(8) ? integer(now) : static_cast<int>(below(8));
                 });
    case Field::CPPTYPE_BOOL:
      return put(&Reflection::GetBool, &Reflection::GetRepeatedBool, &Reflection::SetBool,
                 &Reflection::SetRepeatedBool, [](bool now) { return !now; });
    case Field::CPPTYPE_DOUBLE:
      return put(&Reflection::GetDouble, &Reflection::GetRepeatedDouble, &Reflection::SetDouble,
                 &Reflection::SetRepeatedDouble,
                 [this](double) { return static_cast<double>(integer<int64_t>(0)); });
    case Field::CPPTYPE_FLOAT:
      return put(&Reflection::GetFloat, &Reflection::GetRepeatedFloat, &Reflection::SetFloat,
                 &Reflection::SetRepeatedFloat,
                 [this](float) { return static_cast<float>(integer<int64_t>(0)); });
    case Field::CPPTYPE_STRING: {
      const bool utf8 = field.type() == Field::TYPE_STRING;
      if (element < 0)
        reflection.SetString(&message, &field, text(reflection.GetString(message, &field), utf8));
      else
        reflection.SetRepeatedString(
            &message, &field, element,
            text(reflection.GetRepeatedString(message, &field, element), utf8));
      return;
    }
  }
}

template <class Integer>
Integer MessageMutator::integer(Integer now) {
  constexpr std::array<int64_t, 12> kLikely = {0,    1,    2,     3,     10,     100,
                                               1000, 1024, 65535, 65536, 100000, 1 << 30};
  using Limits = std::numeric_limits<Integer>;
  switch (below(6)) {
    case 0:
      return once_in(2) ? Limits::max() : Limits::min();
    case 1:
      return static_cast<Integer>(-kLikely[below(kLikely.size())]);
    case 2:  // a neighbour, by way of the unsigned: it may be the end of the range
      return static_cast<Integer>(static_cast<uint64_t>(now) + (once_in(2) ? 1 : ~uint64_t{0}));
    case 3:
      return static_cast<Integer>(below(std::numeric_limits<uint64_t>::max()));
    default:
      return static_cast<Integer>(kLikely[below(kLikely.size())]);
  }
}

std::string MessageMutator::text(std::string now, bool utf8) {
  if (!words_.empty() && once_in(2)) {
    const std::string& word = words_[below(words_.size())];
    switch (below(8)) {
      case 0:
        now += word;
        break;
      case 1:
        now = word + now;
        break;
      case 2:
        now = word + "/" + word;
        break;
      default:
        now = word;
        break;
    }
  } else if (once_in(64)) {
    now.assign(below(kMostText), once_in(2) ? 'x' : '/');
  } else {
    constexpr size_t kRoom = 32;
    const size_t size = now.size();
    now.resize(std::min(size + kRoom, kMostText + kRoom));
    now.resize(change_bytes_(reinterpret_cast<uint8_t*>(now.data()), std::min(size, kMostText),
                             now.size()));
  }
  if (now.size() > kMostText) now.resize(kMostText);
  if (utf8 && !is_utf8(now))
    for (char& byte : now) byte = static_cast<char>(static_cast<uint8_t>(byte) & 0x7fU);
  return now;
}

}  // namespace fluyt::cri::testing
