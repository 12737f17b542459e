#include "cmd/fluyt/text/detach_keys.h"

#include "base/strings.h"

namespace fluyt::cli {

namespace {

Result<char> parse_key(std::string_view text) {
  constexpr std::string_view kControl = "ctrl-";
  if (text.size() == 1 && text[0] > ' ' && text[0] < '\x7f') return text[0];
  if (text.size() == kControl.size() + 1 && text.starts_with(kControl)) {
    const char key = text.back();
    if (key >= 'a' && key <= 'z') return static_cast<char>(key - 'a' + 1);
    if (key == '@' || (key >= '[' && key <= '_')) return static_cast<char>(key - '@');
  }
  return Error(
      Code::kInvalidArgument,
      cat(quote(text, 64), ": expected a character, or ctrl- with one of a-z @ [ \\ ] ^ _"));
}

}  // namespace

Result<DetachKeys> DetachKeys::parse(std::string_view text) {
  DetachKeys out;
  if (text.empty()) return out;
  for (const std::string_view key : split(text, ',')) out.keys_ += FLUYT_TRY(parse_key(key));
  return out;
}

DetachKeys::Passed DetachKeys::pass(std::string_view typed) {
  Passed out;
  if (keys_.empty()) {
    out.typed = typed;
    return out;
  }
  for (const char key : typed) {
    // What was held back is the longest end of what was typed that begins the keys.
    while (pressed_ > 0 && key != keys_[pressed_]) {
      size_t shorter = pressed_ - 1;
      while (shorter > 0 && !std::string_view(keys_)
                                 .substr(0, pressed_)
                                 .ends_with(std::string_view(keys_).substr(0, shorter)))
        --shorter;
      out.typed += keys_.substr(0, pressed_ - shorter);
      pressed_ = shorter;
    }
    if (key != keys_[pressed_]) {
      out.typed += key;
      continue;
    }
    if (++pressed_ < keys_.size()) continue;
    out.detached = true;
    return out;
  }
  return out;
}

}  // namespace fluyt::cli
