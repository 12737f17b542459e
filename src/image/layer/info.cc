#include "image/layer/info.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/strings.h"

namespace fluyt::image {

namespace {

using nlohmann::json;

// Names are bytes, JSON is text: what is not printable ASCII, and '%' itself, becomes %XX.
std::string escape(std::string_view name) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  out.reserve(name.size());
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4U];
      out += kDigits[byte & 0xFU];
    }
  }
  return out;
}

Result<std::string> unescape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const auto byte = parse_number<uint8_t>(text.substr(i + 1, 2), 16);
    if (!byte || i + 2 >= text.size()) {
      return Error(Code::kDataLoss,
                   cat("layer record: name ", quote(text), " is not well escaped"));
    }
    out += static_cast<char>(*byte);
    i += 2;
  }
  return out;
}

Result<LayerInfo> read(const json& from) {
  auto diff_id = FLUYT_TRY(oci::Digest::parse(from.at("diff_id").get<std::string>()));
  auto blob_digest = FLUYT_TRY(oci::Digest::parse(from.at("blob_digest").get<std::string>()));
  LayerInfo info{.diff_id = std::move(diff_id), .blob_digest = std::move(blob_digest)};
  info.media_type = from.at("media_type").get<std::string>();
  info.compression = from.at("compression").get<std::string>();
  info.blob_bytes = from.at("blob_bytes").get<uint64_t>();
  info.unpacked_bytes = from.at("unpacked_bytes").get<uint64_t>();
  info.disk_bytes = from.at("disk_bytes").get<uint64_t>();
  info.inodes = from.at("inodes").get<uint64_t>();
  info.entries = from.at("entries").get<uint64_t>();
  info.skipped = from.at("skipped").get<uint64_t>();
  // Records of before there were images say neither.
  info.form = FLUYT_TRY(parse_layer_form(from.value("form", std::string("directory"))));
  info.metadata_digest = from.value("metadata_digest", std::string());
  info.opaque_root = from.at("opaque_root").get<bool>();
  for (const json& name : from.at("implied_dirs")) {
    info.implied_dirs.push_back(FLUYT_TRY(unescape(name.get<std::string>())));
  }
  for (const json& link : from.at("lower_links")) {
    auto path = FLUYT_TRY(unescape(link.at("path").get<std::string>()));
    auto target = FLUYT_TRY(unescape(link.at("target").get<std::string>()));
    info.lower_links.push_back({std::move(path), std::move(target)});
  }
  return info;
}

}  // namespace

std::string_view form_name(LayerForm form) {
  return form == LayerForm::kErofs ? "erofs" : "directory";
}

Result<LayerForm> parse_layer_form(std::string_view name) {
  for (const LayerForm form : {LayerForm::kDirectory, LayerForm::kErofs}) {
    if (form_name(form) == name) return form;
  }
  return Error(Code::kInvalidArgument,
               cat("layer form ", quote(name), ": expected \"directory\" or \"erofs\""));
}

std::string to_json(const LayerInfo& info) {
  json implied = json::array();
  for (const std::string& name : info.implied_dirs) implied.push_back(escape(name));
  json links = json::array();
  for (const LowerLink& link : info.lower_links) {
    links.push_back({{"path", escape(link.path)}, {"target", escape(link.target)}});
  }
  const json out = {{"version", 1},
                    {"diff_id", info.diff_id.text()},
                    {"blob_digest", info.blob_digest.text()},
                    {"media_type", info.media_type},
                    {"compression", info.compression},
                    {"blob_bytes", info.blob_bytes},
                    {"unpacked_bytes", info.unpacked_bytes},
                    {"disk_bytes", info.disk_bytes},
                    {"inodes", info.inodes},
                    {"entries", info.entries},
                    {"skipped", info.skipped},
                    {"form", form_name(info.form)},
                    {"metadata_digest", info.metadata_digest},
                    {"opaque_root", info.opaque_root},
                    {"implied_dirs", std::move(implied)},
                    {"lower_links", std::move(links)}};
  return out.dump(-1, ' ', true, json::error_handler_t::replace);
}

Result<LayerInfo> parse_layer_info(std::string_view text) {
  try {
    return read(json::parse(text));
  } catch (const json::exception& error) {
    return Error(Code::kDataLoss, cat("layer record: ", error.what()));
  }
}

}  // namespace fluyt::image
