#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/testing/fake_registry.h"

namespace fluyt::image::testing {

namespace {

// The value of a query's parameter, with what a digest or a repository needs decoded.
std::string param_of(std::string_view target, std::string_view name) {
  const size_t question = target.find('?');
  if (question == std::string_view::npos) return {};
  for (const std::string_view pair : split(target.substr(question + 1), '&')) {
    if (!pair.starts_with(name) || pair.substr(name.size(), 1) != "=") continue;
    std::string out;
    std::string_view rest = pair.substr(name.size() + 1);
    while (!rest.empty()) {
      if (rest.starts_with('%') && rest.size() > 2) {
        out += static_cast<char>(parse_number<int>(rest.substr(1, 2), 16).value_or('?'));
        rest.remove_prefix(3);
      } else {
        out += rest.front();
        rest.remove_prefix(1);
      }
    }
    return out;
  }
  return {};
}

}  // namespace

// An upload goes on at /v2/<repository>/blobs/uploads/<number>?_state=<number>; a client that drops
// the query is told that there is no such upload.
FakeRegistry::Reply FakeRegistry::upload_state(int status, const std::string& path,
                                               const std::string& upload) {
  auto state = uploads_.lock();
  const size_t size = state->open[upload].size();
  Reply out{.status = status};
  const std::string base = state->how->absolute_locations ? cat("http://", host()) : "";
  out.headers = {{"Location", cat(base, path, upload, "?_state=", upload)},
                 {"Range", cat("0-", size == 0 ? 0 : size - 1)}};
  if (state->how->chunk_min_bytes > 0) {
    out.headers.emplace_back("OCI-Chunk-Min-Length", std::to_string(state->how->chunk_min_bytes));
  }
  return out;
}

void FakeRegistry::store_blob(const Request& request, const std::string& blobs, std::string bytes,
                              Reply& reply) {
  const std::string digest = param_of(request.target, "digest");
  auto parsed = oci::Digest::parse(digest);
  if (!parsed.ok() || digest_of(parsed->algorithm(), bytes).value() != *parsed) {
    reply = Reply{.status = 400, .body = R"({"errors":[{"code":"DIGEST_INVALID"}]})"};
    return;
  }
  serve(cat(blobs, digest), "application/octet-stream", std::move(bytes));
  reply = Reply{.status = 201, .headers = {{"Docker-Content-Digest", digest}}};
}

std::optional<FakeRegistry::Reply> FakeRegistry::reply_to_upload(const Request& request) {
  const bool on = uploads_.lock()->how.has_value();
  if (!on) return std::nullopt;
  const std::string path = request.target.substr(0, request.target.find('?'));
  if (request.method == "PUT" && path.find("/manifests/") != std::string::npos) {
    serve(path, std::string(request.header("content-type")), request.body);
    const std::string digest = digest_of("sha256", request.body)->text();
    serve(cat(path.substr(0, path.rfind('/') + 1), digest),
          std::string(request.header("content-type")), request.body);
    Reply out{.status = 201, .headers = {{"Docker-Content-Digest", digest}}};
    const size_t subject = request.body.find("\"subject\"");
    if (subject != std::string::npos && uploads_.lock()->how->lists_referrers) {
      out.headers.emplace_back("OCI-Subject", digest);
    }
    return out;
  }
  const size_t at = path.find("/blobs/uploads/");
  if (at == std::string::npos) return std::nullopt;
  const std::string uploads = path.substr(0, at + 15);
  const std::string blobs = path.substr(0, at + 7);
  std::string upload = path.substr(at + 15);
  if (request.method == "POST") {
    const std::string mount = param_of(request.target, "mount");
    const std::string from = param_of(request.target, "from");
    const bool mountable = !mount.empty() && from == uploads_.lock()->how->mountable_from;
    if (const auto there = content(cat("/v2/", from, "/blobs/", mount)); mountable && there) {
      serve(cat(blobs, mount), "application/octet-stream", *there);
      return Reply{.status = 201, .headers = {{"Location", cat(blobs, mount)}}};
    }
    {
      auto state = uploads_.lock();
      upload = std::to_string(++state->made);
      state->open[upload] = "";
    }
    return upload_state(202, uploads, upload);
  }
  const Reply unknown{.status = 404, .body = R"({"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]})"};
  std::string bytes;
  {
    auto state = uploads_.lock();
    const auto found = state->open.find(upload);
    if (found == state->open.end() || param_of(request.target, "_state") != upload) return unknown;
    if (request.method == "DELETE") {
      state->open.erase(found);
      return Reply{.status = 204};
    }
    if (request.method == "PATCH") {
      if (!state->how->in_chunks) return Reply{.status = 405};
      const int nth = ++state->patches;
      if (nth == state->how->forget_patch_nth) {
        state->open.erase(found);
        return unknown;
      }
      const std::string expected =
          cat(found->second.size(), "-", found->second.size() + request.body.size() - 1);
      if (request.header("content-range") != expected) return Reply{.status = 416};
      if (nth == state->how->break_patch_nth) {
        found->second += request.body.substr(0, request.body.size() / 2);
        return Reply{.fault = Reply::Fault::kDropBeforeHead};
      }
      found->second += request.body;
    }
    if (request.method == "PUT") {
      bytes = found->second + request.body;
      state->open.erase(found);
    }
  }
  if (request.method == "PUT") {
    Reply out;
    store_blob(request, blobs, std::move(bytes), out);
    return out;
  }
  return upload_state(request.method == "PATCH" ? 202 : 204, uploads, upload);
}

}  // namespace fluyt::image::testing
