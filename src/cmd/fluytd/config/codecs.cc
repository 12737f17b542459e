#include <limits>

#include "base/strings.h"
#include "cmd/fluytd/config/field.h"
#include "cmd/fluytd/metrics/server.h"
#include "engine/cgroup_parent.h"
#include "oci/reference.h"

namespace fluyt::daemon {
namespace {

template <class T>
Value plain(T data) {
  return {.data = std::move(data), .place = {}};
}

Value write_text(const std::string& text) { return plain(text); }

Value write_texts(const std::vector<std::string>& texts) {
  Value::List list;
  for (const std::string& text : texts) list.push_back(plain(text));
  return plain(std::move(list));
}

/// A list of texts that `accepts` likes; the first that it does not is what is named.
std::optional<std::vector<std::string>> read_texts(
    const Reading& reading, std::string_view expected,
    const std::function<std::string(const std::string&)>& why_not) {
  const Value::List* list = reading.value().list();
  if (list == nullptr) return reading.expected(cat("a list of ", expected));
  std::vector<std::string> out;
  bool good = true;
  for (size_t i = 0; i < list->size(); ++i) {
    const Reading item = reading.item(i);
    const std::string* text = item.value().text();
    const std::string fault = text == nullptr ? cat("expected ", expected) : why_not(*text);
    if (!fault.empty()) {
      item.wrong(fault);
      good = false;
      continue;
    }
    out.push_back(*text);
  }
  if (!good) return std::nullopt;
  return out;
}

std::optional<int64_t> read_number(const Reading& reading, int64_t least, int64_t most,
                                   std::string_view what) {
  const auto* number = std::get_if<int64_t>(&reading.value().data);
  if (number == nullptr || *number < least || *number > most) return reading.expected(what);
  return *number;
}

/// A word that `parse` knows.
template <class T>
Codec<T> one_of(std::function<Result<T>(std::string_view)> parse,
                std::function<std::string_view(const T&)> name) {
  return {.read = [parse = std::move(parse)](const Reading& reading) -> std::optional<T> {
            const std::string* word = reading.value().text();
            if (word == nullptr) return reading.expected("a string");
            auto parsed = parse(*word);
            if (parsed.ok()) return *parsed;
            // The parser's sentence begins with the word, which is shown already.
            const std::string& fact = parsed.error().message();
            const size_t begin = fact.find(": ");
            return reading.wrong(begin == std::string::npos ? fact : fact.substr(begin + 2));
          },
          .write =
              [name = std::move(name)](const T& value) { return plain(std::string(name(value))); }};
}

std::optional<std::string> read_absolute(const Reading& reading) {
  const std::string* path = reading.value().text();
  if (path == nullptr || !path->starts_with('/')) return reading.expected("an absolute path");
  return *path;
}

std::string_view keep_name(image::KeepBlobs keep) {
  switch (keep) {
    case image::KeepBlobs::kNever:
      return "never";
    case image::KeepBlobs::kPushable:
      return "pushable";
    case image::KeepBlobs::kAlways:
      break;
  }
  return "always";
}

Result<image::KeepBlobs> parse_keep(std::string_view name) {
  for (const auto keep :
       {image::KeepBlobs::kNever, image::KeepBlobs::kPushable, image::KeepBlobs::kAlways}) {
    if (keep_name(keep) == name) return keep;
  }
  return Error(Code::kInvalidArgument,
               cat(quote(name), R"(: expected "never", "pushable" or "always")"));
}

}  // namespace

Codec<std::string> text() {
  return {.read = [](const Reading& reading) -> std::optional<std::string> {
            const std::string* text = reading.value().text();
            if (text == nullptr) return reading.expected("a string");
            return *text;
          },
          .write = write_text};
}

Codec<std::string> absolute_path() { return {.read = read_absolute, .write = write_text}; }

Codec<std::string> optional_path() {
  return {.read = [](const Reading& reading) -> std::optional<std::string> {
            const std::string* path = reading.value().text();
            if (path != nullptr && path->empty()) return *path;
            return read_absolute(reading);
          },
          .write = write_text};
}

Codec<std::string> listen_address() {
  return {.read = [](const Reading& reading) -> std::optional<std::string> {
            const std::string* address = reading.value().text();
            if (address == nullptr || !address->starts_with("unix:/")) {
              return reading.expected("unix:/ABSOLUTE/PATH");
            }
            return *address;
          },
          .write = write_text};
}

Codec<std::string> metrics_address() {
  return {.read = [](const Reading& reading) -> std::optional<std::string> {
            const std::string* address = reading.value().text();
            if (address == nullptr) return reading.expected("a string");
            if (!address->empty() && !parse_metrics_address(*address).ok()) {
              return reading.expected("unix:/ABSOLUTE/PATH, IPV4:PORT or [IPV6]:PORT");
            }
            return *address;
          },
          .write = write_text};
}

Codec<std::string> tracing_endpoint() {
  return {.read = [](const Reading& reading) -> std::optional<std::string> {
            const std::string* endpoint = reading.value().text();
            if (endpoint == nullptr || (!endpoint->empty() && !is_endpoint(*endpoint))) {
              return reading.expected("http://HOST:PORT or https://HOST:PORT");
            }
            return *endpoint;
          },
          .write = write_text};
}

Codec<std::vector<std::string>> paths() {
  return {.read =
              [](const Reading& reading) {
                return read_texts(reading, "absolute paths", [](const std::string& path) {
                  return std::string(path.starts_with('/') ? "" : "expected an absolute path");
                });
              },
          .write = write_texts};
}

Codec<std::vector<std::string>> words() {
  return {.read =
              [](const Reading& reading) {
                return read_texts(reading, "strings",
                                  [](const std::string& /*any*/) { return std::string(); });
              },
          .write = write_texts};
}

Codec<std::vector<std::string>> image_patterns() {
  return {.read =
              [](const Reading& reading) {
                return read_texts(reading, "image names", [](const std::string& name) {
                  if (name.ends_with('*') && name.find('*') + 1 == name.size())
                    return std::string();
                  const auto reference = oci::Reference::parse(name);
                  if (reference.ok()) return std::string();
                  return cat("expected an image's name, or the start of one with a '*' behind: ",
                             reference.error().message());
                });
              },
          .write = write_texts};
}

Codec<bool> flag() {
  return {.read = [](const Reading& reading) -> std::optional<bool> {
            const bool* value = std::get_if<bool>(&reading.value().data);
            if (value == nullptr) return reading.expected("true or false");
            return *value;
          },
          .write = [](const bool& value) { return plain(value); }};
}

Codec<size_t> count(int64_t least, int64_t most) {
  return {.read = [least, most](const Reading& reading) -> std::optional<size_t> {
            const auto number =
                read_number(reading, least, most, cat("a number from ", least, " to ", most));
            if (!number) return std::nullopt;
            return static_cast<size_t>(*number);
          },
          .write = [](const size_t& value) { return plain(static_cast<int64_t>(value)); }};
}

Codec<int> count_or_all(int64_t most) {
  return {.read = [most](const Reading& reading) -> std::optional<int> {
            const auto number =
                read_number(reading, -1, most, cat("a number from 0 to ", most, ", or -1 for all"));
            if (!number) return std::nullopt;
            return static_cast<int>(*number);
          },
          .write = [](const int& value) { return plain(static_cast<int64_t>(value)); }};
}

Codec<int64_t> seconds(int64_t most) {
  return {.read = [most](const Reading& reading) -> std::optional<int64_t> {
            const auto number =
                read_number(reading, 1, most, cat("a number of seconds from 1 to ", most));
            if (!number) return std::nullopt;
            return *number * 1000;
          },
          .write = [](const int64_t& ms) { return plain(ms / 1000); }};
}

Codec<uint16_t> port() {
  return {.read = [](const Reading& reading) -> std::optional<uint16_t> {
            const auto number = read_number(reading, 0, std::numeric_limits<uint16_t>::max(),
                                            "a port from 1 to 65535, or 0 for a free one");
            if (!number) return std::nullopt;
            return static_cast<uint16_t>(*number);
          },
          .write = [](const uint16_t& value) { return plain(static_cast<int64_t>(value)); }};
}

Codec<LogLevel> log_level() {
  return one_of<LogLevel>(parse_log_level,
                          [](const LogLevel& level) { return log_level_name(level); });
}

Codec<LogFormat> log_format() {
  return one_of<LogFormat>(parse_log_format,
                           [](const LogFormat& format) { return name_of(format); });
}

Codec<LogTarget> log_target() {
  return one_of<LogTarget>(parse_log_target,
                           [](const LogTarget& target) { return name_of(target); });
}

Codec<image::KeepBlobs> keep_blobs() {
  return one_of<image::KeepBlobs>(parse_keep,
                                  [](const image::KeepBlobs& keep) { return keep_name(keep); });
}

Codec<std::optional<image::LayerForm>> layer_form() {
  using Form = std::optional<image::LayerForm>;
  return one_of<Form>(
      [](std::string_view name) -> Result<Form> {
        if (name == "auto") return Form();
        if (auto form = image::parse_layer_form(name); form.ok()) return Form(*form);
        return Error(Code::kInvalidArgument,
                     cat(quote(name), ": expected \"auto\", \"directory\" or \"erofs\""));
      },
      [](const Form& form) { return form ? image::form_name(*form) : std::string_view("auto"); });
}

Codec<engine::CgroupDriver> cgroup_driver() {
  return one_of<engine::CgroupDriver>(
      engine::parse_cgroup_driver,
      [](const engine::CgroupDriver& driver) { return engine::name_of(driver); });
}

Codec<image::RootDriver> root_driver() {
  return one_of<image::RootDriver>(image::parse_root_driver, [](const image::RootDriver& driver) {
    return image::driver_name(driver);
  });
}

}  // namespace fluyt::daemon
