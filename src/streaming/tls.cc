#include "streaming/tls.h"

#include <openssl/ssl.h>
#include <sys/stat.h>

#include <boost/asio/ssl/context.hpp>

#include "base/strings.h"
#include "base/time.h"
#include "sys/file.h"

namespace fluyt::streaming {
namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;

constexpr int64_t kLookEveryNs = 1'000'000'000;

Result<> check(const error_code& failed, const char* option, const std::string& path) {
  if (!failed) return {};
  return Error(Code::kInvalidArgument,
               cat("cri.streaming.", option, ": ", path, ": ", failed.message()));
}

Result<std::shared_ptr<ssl::context>> read_files(const TlsFiles& files) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  error_code failed;
  context->use_certificate_chain_file(files.certificate, failed);
  FLUYT_TRY(check(failed, "tls_cert", files.certificate));
  context->use_private_key_file(files.key, ssl::context::pem, failed);
  FLUYT_TRY(check(failed, "tls_key", files.key));
  if (files.client_ca.empty()) return context;
  context->load_verify_file(files.client_ca, failed);
  FLUYT_TRY(check(failed, "tls_client_ca", files.client_ca));
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, failed);
  FLUYT_TRY(check(failed, "tls_client_ca", files.client_ca));
  // Without it a client that goes on with a session of before is refused (SSL_CTX_set_verify(3)).
  static constexpr unsigned char kSessions[] = "fluytd";
  SSL_CTX_set_session_id_context(context->native_handle(), kSessions, sizeof kSessions - 1);
  return context;
}

/// What changes when somebody puts a file in place of another, or writes into it.
std::string looks_of(const TlsFiles& files) {
  std::string looks;
  for (const std::string& path : {files.certificate, files.key, files.client_ca}) {
    struct stat info{};
    if (path.empty() || ::stat(path.c_str(), &info) != 0) continue;  // links are followed
    looks += cat(info.st_dev, " ", info.st_ino, " ", info.st_size, " ", info.st_mtim.tv_sec, ".",
                 info.st_mtim.tv_nsec, "\n");
  }
  return looks;
}

}  // namespace

Result<std::unique_ptr<Tls>> Tls::load(TlsFiles files, Logger& logger) {
  auto tls = std::make_unique<Tls>(std::move(files), logger);
  tls->seen_ = looks_of(tls->files_);
  tls->looked_at_ns_ = now_boot_ns();
  tls->context_ = FLUYT_TRY(read_files(tls->files_));
  return tls;
}

std::shared_ptr<ssl::context> Tls::context() {
  if (now_boot_ns() - looked_at_ns_ >= kLookEveryNs) {
    looked_at_ns_ = now_boot_ns();
    if (looks_of(files_) != seen_) reload();
  }
  return context_;
}

void Tls::reload() {
  seen_ = looks_of(files_);
  auto context = read_files(files_);
  if (context.ok()) {
    context_ = std::move(*context);
    logger_.info(cat("streaming: ", files_.certificate, " is in force"));
  } else {
    logger_.error(cat(context.error().message(), "; the certificate before it stays in force"));
  }
}

}  // namespace fluyt::streaming
