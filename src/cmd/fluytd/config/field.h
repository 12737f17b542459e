#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/log_levels.h"
#include "cmd/fluytd/config/reading.h"
#include "cmd/fluytd/config/settings.h"

/// How the values of keys are read and written: a codec a kind of value, and with an accessor of
/// the settings a field.
namespace fluyt::daemon {

template <class T>
struct Codec {
  std::function<std::optional<T>(const Reading&)> read;  // nothing: it has said what is wrong
  std::function<Value(const T&)> write;
};

struct Field {
  std::function<void(const Reading&, Settings&)> read;
  std::function<Value(const Settings&)> write;
  std::function<void(const Settings& from, Settings& to)> copy;
};

/// `at` takes settings, const or not, and returns a reference to the member.
template <class T, class At>
Field field(At at, Codec<T> codec) {
  return {.read =
              [at, read = std::move(codec.read)](const Reading& reading, Settings& settings) {
                if (auto value = read(reading)) at(settings) = std::move(*value);
              },
          .write = [at, write = std::move(codec.write)](
                       const Settings& settings) { return write(at(settings)); },
          .copy = [at](const Settings& from, Settings& to) { at(to) = at(from); }};
}

// Plain values (codecs.cc).
Codec<std::string> text();
Codec<std::string> absolute_path();
Codec<std::string> optional_path();  // or "", for none
Codec<std::string> listen_address();
Codec<std::string> metrics_address();   // or "", for none
Codec<std::string> tracing_endpoint();  // or "", for none
Codec<std::vector<std::string>> paths();
Codec<std::vector<std::string>> words();
Codec<std::vector<std::string>> image_patterns();
Codec<bool> flag();
Codec<size_t> count(int64_t least, int64_t most);
Codec<int> count_or_all(int64_t most);
Codec<int64_t> seconds(int64_t most);  // kept in milliseconds
Codec<uint16_t> port();
Codec<LogLevel> log_level();
Codec<LogFormat> log_format();
Codec<LogTarget> log_target();
Codec<image::KeepBlobs> keep_blobs();
Codec<std::optional<image::LayerForm>> layer_form();
Codec<image::RootDriver> root_driver();
Codec<engine::CgroupDriver> cgroup_driver();

// Tables (entries.cc).
Codec<std::map<std::string, image::Credentials>> credentials();
Codec<image::policy::DigestPins> digest_pins();
Codec<std::vector<engine::RuntimeHandler>> runtime_handlers();

}  // namespace fluyt::daemon
