#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// For tests: makes tars byte by byte, wrong ones too.
namespace fluyt::image {

struct TarItem {
  char type = '0';
  std::string name;
  std::string data;
  std::string link;
  uint32_t mode = 0644;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime = 1'000'000'000;
  uint32_t major = 0;
  uint32_t minor = 0;
};

class TarBuild {
 public:
  TarBuild& add(const TarItem& item) {
    bytes_ += header(item);
    return body(item.data);
  }
  TarBuild& dir(const std::string& name, uint32_t mode = 0755, uint32_t uid = 0, uint32_t gid = 0) {
    return add({.type = '5', .name = name, .mode = mode, .uid = uid, .gid = gid});
  }
  TarBuild& file(const std::string& name, const std::string& data = "x", uint32_t mode = 0644) {
    return add({.name = name, .data = data, .mode = mode});
  }
  TarBuild& symlink(const std::string& name, const std::string& target) {
    return add({.type = '2', .name = name, .link = target, .mode = 0777});
  }
  TarBuild& hard_link(const std::string& name, const std::string& target) {
    return add({.type = '1', .name = name, .link = target});
  }
  /// PAX records for the entry that follows.
  TarBuild& pax(const std::vector<std::pair<std::string, std::string>>& records, char type = 'x') {
    std::string all;
    for (const auto& [key, value] : records) all += record(key, value);
    return add({.type = type, .name = "pax", .data = all});
  }
  TarBuild& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  /// The archive with its two blocks of zeros.
  std::string end() const { return bytes_ + std::string(1024, '\0'); }
  /// Without them.
  const std::string& bytes() const { return bytes_; }

  static std::string header(const TarItem& item) { return header(item, item.data.size()); }
  static std::string header(const TarItem& item, uint64_t size) {
    std::string block(512, '\0');
    const auto put = [&](size_t at, std::string_view text) {
      block.replace(at, text.size(), text);
    };
    put(0, item.name.substr(0, 100));
    put(100, octal(item.mode, 7));
    put(108, octal(item.uid, 7));
    put(116, octal(item.gid, 7));
    put(124, octal(size, 11));
    put(136, octal(static_cast<uint64_t>(item.mtime), 11));
    block[156] = item.type;
    put(157, item.link.substr(0, 100));
    put(257, std::string_view("ustar\00000", 8));
    put(329, octal(item.major, 7));
    put(337, octal(item.minor, 7));
    seal(block);
    return block;
  }
  static void seal(std::string& block) {
    block.replace(148, 8, 8, ' ');
    uint64_t sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    block.replace(148, 8, octal(sum, 6) + std::string("\0 ", 2));
  }
  static std::string octal(uint64_t value, int digits) {
    std::string out(static_cast<size_t>(digits), '0');
    for (size_t i = out.size(); i-- > 0 && value != 0; value >>= 3U)
      out[i] = static_cast<char>('0' + (value & 7U));
    return out;
  }
  static std::string record(const std::string& key, const std::string& value) {
    const size_t fixed = key.size() + value.size() + 3;
    size_t length = fixed + 1;
    while (std::to_string(length).size() + fixed != length) ++length;
    return std::to_string(length) + " " + key + "=" + value + "\n";
  }

 private:
  TarBuild& body(const std::string& data) {
    bytes_ += data;
    bytes_.append((512 - data.size() % 512) % 512, '\0');
    return *this;
  }
  std::string bytes_;
};

}  // namespace fluyt::image
