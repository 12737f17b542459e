#include "engine/layout.h"

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr size_t kMaxBytes = 4096;

std::string path_of(const std::string& folder) { return cat(folder, "/", kLayoutFile); }

}  // namespace

Result<> check_layout(const std::string& folder) {
  const auto text = sys::read_file(path_of(folder), kMaxBytes);
  if (!text.ok()) {
    if (text.error().code() == Code::kNotFound) return {};
    return text.error();
  }
  const auto value = nlohmann::json::parse(*text, nullptr, false);
  const auto version = value.is_object() ? value.find("version") : value.end();
  if (!value.is_object() || version == value.end() || !version->is_number_integer()) {
    return Error(Code::kDataLoss, cat(path_of(folder), ": ", quote(*text),
                                      ": expected {\"version\": NUMBER, ...}; the folder was left "
                                      "untouched"));
  }
  const auto number = version->get<int64_t>();
  if (number <= kLayoutVersion) return {};
  const auto writer = value.find("written_by");
  const bool named = writer != value.end() && writer->is_string();
  return Error(
      Code::kFailedPrecondition,
      cat(path_of(folder), ": the folder has layout ", number,
          named ? cat(", written by fluyt ", quote(writer->get<std::string>(), 64)) : std::string(),
          "; fluyt " FLUYT_VERSION " knows up to ", kLayoutVersion,
          ". It was left untouched: start the newer fluytd again, or drain the node and "
          "remove the folder"));
}

Result<> mark_layout(const std::string& folder) {
  const nlohmann::json value = {{"version", kLayoutVersion}, {"written_by", FLUYT_VERSION}};
  const std::string text = value.dump() + "\n";
  const auto now = sys::read_file(path_of(folder), kMaxBytes);
  if (now.ok() && *now == text) return {};
  return sys::write_file_atomic(sys::kCwd, path_of(folder), text, 0644);
}

}  // namespace fluyt::engine
