// Archives as anybody may hand them to `load`, through all that reads one: the tar, its members and
// links, the layout or list among them, the images these tell of. By its first byte an input is a
// tar ('T'), a worker's report ('R'), or the members of an archive that is made of them (anything
// else), in which digests can be right: of those libFuzzer finds none by itself.

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "image/archive/archive.h"
#include "image/archive/members_unpack.h"
#include "image/archive/tar_writer.h"
#include "image/blob/hasher.h"
#include "image/layer/tar_mutator.h"
#include "sys/file.h"

namespace {

using namespace fluyt;
namespace archive = image::archive;

constexpr uint64_t kLimitBytes = 16UL << 20U;
constexpr size_t kMaxMembers = 10;  // one digit
constexpr size_t kMaxGrown = 1UL << 20U;

void must(bool holds) {
  if (!holds) std::abort();
}

struct Made {
  std::string name;
  std::string content;
  oci::Digest digest;
};

// %dN is the digest of member N, %hN its hexadecimal digits, %sN its size.
std::string expand(std::string_view text, const std::vector<Made>& made, size_t first) {
  std::string out;
  while (!text.empty() && out.size() < kMaxGrown) {
    const bool is_mark = text.size() >= 3 && text[0] == '%' && text[2] >= '0' && text[2] <= '9';
    const size_t number = is_mark ? static_cast<size_t>(text[2] - '0') : 0;
    if (!is_mark || number < first || number >= made.size() ||
        std::string_view("dhs").find(text[1]) == std::string_view::npos) {
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    const Made& member = made[number];
    if (text[1] == 'd') out += member.digest.text();
    if (text[1] == 'h') out += member.digest.hex();
    if (text[1] == 's') out += std::to_string(member.content.size());
    text.remove_prefix(3);
  }
  return out;
}

// Members end with an RS, their names with a US. A name that begins with '>' or '=' is a link or a
// hard link to its content. A member may tell of those that come after it.
std::string build(std::string_view plan) {
  std::vector<std::string_view> plans = split(plan, '\x1e');
  if (plans.size() > kMaxMembers) plans.resize(kMaxMembers);
  std::vector<Made> made(plans.size(), Made{{}, {}, image::digest_of("sha256", "").value()});
  const auto half = [&](size_t i, bool is_name) {
    const size_t cut = std::min(plans[i].find('\x1f'), plans[i].size());
    return is_name ? plans[i].substr(0, cut) : plans[i].substr(std::min(cut + 1, plans[i].size()));
  };
  for (size_t i = plans.size(); i-- > 0;) {
    made[i].content = expand(half(i, false), made, i + 1);
    made[i].digest = image::digest_of("sha256", made[i].content).value();
  }
  std::string out;
  archive::TarWriter tar([&](std::string_view bytes) -> Result<> {
    out += bytes;
    return {};
  });
  for (size_t i = 0; i < made.size(); ++i) {
    const std::string name = expand(half(i, true), made, 0);
    if (name.empty()) continue;
    const bool is_link = name[0] == '>' || name[0] == '=';
    if (is_link) {
      tar.entry(
             {.name = name.substr(1), .type = name[0] == '=' ? '1' : '2', .link = made[i].content})
          .ignore("it is too long, then");
    } else {
      must(tar.file(name, made[i].content).ok());
    }
  }
  must(tar.finish().ok());
  return out;
}

// A descriptor's blob is refused, or has its size.
void look_at(const archive::Archive& whole, const oci::Descriptor& blob) {
  uint64_t bytes = 0;
  const auto streamed = whole.stream(blob, [&](std::string_view some) -> Result<> {
    bytes += some.size();
    return {};
  });
  must(!streamed.ok() || bytes == static_cast<uint64_t>(blob.size));
}

void look_at(const archive::Archive& whole, std::string_view document, int depth) {
  constexpr size_t kMost = 8;
  const auto parsed = oci::parse_manifest_or_index(document, "");
  if (!parsed.ok()) return;
  if (parsed->manifest) {
    look_at(whole, parsed->manifest->config);
    const auto& layers = parsed->manifest->layers;
    for (size_t i = 0; i < std::min(layers.size(), kMost); ++i) look_at(whole, layers[i]);
  }
  if (!parsed->index || depth == 2) return;
  const auto& entries = parsed->index->manifests;
  for (size_t i = 0; i < std::min(entries.size(), kMost); ++i) {
    const auto bytes = whole.read(entries[i]);
    must(!bytes.ok() || bytes->size() <= oci::kMaxManifestBytes);
    if (bytes.ok()) look_at(whole, *bytes, depth + 1);
  }
}

// What the worker tells of: clean names, files that are there with what was noted of them.
void check(const archive::MemberTable& table, const std::string& folder) {
  const auto is_clean = [](const std::string& name) {
    const auto clean = archive::clean_name(name);
    return clean.has_value() && *clean == name && name.find('\0') == std::string::npos;
  };
  for (const auto& [name, member] : table.files) {
    must(is_clean(name) && !name.empty() && !table.links.contains(name));
    const auto bytes = sys::read_file(cat(folder, "/", member.number), kLimitBytes);
    must(bytes.ok() && bytes->size() == member.info.size);
    must(image::digest_of("sha256", *bytes).value() == member.info.digest);
  }
  for (const auto& [name, target] : table.links) must(is_clean(name) && is_clean(target));
  const auto again = archive::parse_members_report(archive::to_report(table));
  must(again.ok() && again->files.size() == table.files.size() && again->links == table.links);
}

void read_tar(std::string_view tar) {
  static const std::string parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  const sys::Fd in = sys::sealed_memfd("archive", tar).value();
  sys::TempDir folder = sys::TempDir::create(parent).value();
  const sys::Fd scratch = sys::open(folder.path(), O_RDONLY | O_DIRECTORY).value();
  auto table = archive::unpack_members(in, scratch, kLimitBytes);
  if (!table.ok()) {
    must(!archive::parse_members_report(archive::to_report(table)).ok());
    return;
  }
  check(*table, folder.path());
  const auto whole =
      archive::Archive::read(archive::members_in(std::move(folder), std::move(*table)).value());
  if (!whole.ok()) return;
  must(!(*whole)->images().empty());
  for (const archive::ArchivedImage& image : (*whole)->images()) {
    must(image::digest_of(image.digest.algorithm(), image.bytes).value() == image.digest);
    look_at(**whole, image.bytes, 0);
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  if (size < 2 || data[0] != 'T') return LLVMFuzzerMutate(data, size, max_size);
  return 1 + image::mutate_tar(data + 1, size - 1, max_size - 1, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.starts_with('R')) {
    archive::parse_members_report(bytes.substr(1)).ignore("only that it comes back");
  } else if (bytes.starts_with('T')) {
    read_tar(bytes.substr(1));
  } else {
    read_tar(build(bytes));
  }
  return 0;
}
