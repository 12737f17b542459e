#include "cmd/fluyt/text/escape.h"

#include "base/strings.h"

namespace fluyt::cli {

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
// The end of "ESC [ 1 ; 31 m" is looked for within this many bytes.
constexpr size_t kMaxColour = 32;

// Bytes of the character at the start: 1 for a byte that is no UTF-8 (then `valid` is false).
size_t character_at(std::string_view text, bool& valid) {
  for (size_t size = 1; size <= 4 && size <= text.size(); ++size) {
    if (is_utf8(text.substr(0, size))) {
      valid = true;
      return size;
    }
  }
  valid = false;
  return 1;
}

// Characters that change what is shown around them: C0, DEL, C1, and the overrides and isolates of
// writing direction (U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069).
bool is_active(std::string_view character) {
  const auto byte = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return byte < 0x20 || byte == 0x7F;
  const auto second = static_cast<unsigned char>(character[1]);
  if (character.size() == 2) return byte == 0xC2 && second < 0xA0;
  if (character.size() != 3 || byte != 0xE2) return false;
  const auto third = static_cast<unsigned char>(character[2]);
  if (second == 0x80) return third == 0x8E || third == 0x8F || (third >= 0xAA && third <= 0xAE);
  return second == 0x81 && third >= 0xA6 && third <= 0xA9;
}

void append_escaped(std::string& out, std::string_view bytes) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += "\\x";
      out += kHexDigits[byte >> 4U];
      out += kHexDigits[byte & 0xFU];
    }
  }
}

// The length of a colour sequence at the start of `text`, 0 when there is none.
size_t colour_at(std::string_view text) {
  if (!text.starts_with("\x1b[")) return 0;
  for (size_t i = 2; i < text.size() && i < kMaxColour; ++i) {
    if (text[i] == 'm') return i + 1;
    const bool parameter = (text[i] >= '0' && text[i] <= '9') || text[i] == ';' || text[i] == ':';
    if (!parameter) return 0;
  }
  return 0;
}

enum class Keep { kNothing, kColoursAndTabs };

std::string escape(std::string_view text, Keep keep) {
  std::string out;
  while (!text.empty()) {
    if (keep == Keep::kColoursAndTabs) {
      const size_t kept = text[0] == '\t' ? 1 : colour_at(text);
      out += text.substr(0, kept);
      text.remove_prefix(kept);
      if (kept != 0) continue;
    }
    bool valid = false;
    const size_t size = character_at(text, valid);
    if (valid && !is_active(text.substr(0, size))) {
      out += text.substr(0, size);
    } else {
      append_escaped(out, text.substr(0, size));
    }
    text.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) { return escape(text, Keep::kNothing); }

std::string printable_log(std::string_view text) { return escape(text, Keep::kColoursAndTabs); }

size_t columns_of(std::string_view text) {
  size_t columns = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80U) ++columns;
  }
  return columns;
}

std::string fit(std::string_view text, size_t columns) {
  if (columns_of(text) <= columns) return std::string(text);
  if (columns == 0) return {};
  std::string out;
  size_t used = 0;
  while (used + 1 < columns) {
    bool valid = false;
    const size_t size = character_at(text, valid);
    out += text.substr(0, size);
    text.remove_prefix(size);
    ++used;
  }
  return out + "…";
}

}  // namespace fluyt::cli
