#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"

namespace boost::asio::ssl {
class context;
}

namespace fluyt::streaming {

struct TlsFiles {
  std::string certificate;  // PEM, the chain after it
  std::string key;          // PEM
  std::string client_ca;    // PEM; empty: clients show no certificate
};

/// The certificate in force: read again when one of the files has changed. New files that do not
/// load leave the old ones in force, and are told in the log once. One thread.
class Tls {
 public:
  /// Errors name the file.
  static Result<std::unique_ptr<Tls>> load(TlsFiles files, Logger& logger);
  Tls(TlsFiles files, Logger& logger) : files_(std::move(files)), logger_(logger) {}
  /// For one connection, which keeps it.
  std::shared_ptr<boost::asio::ssl::context> context();

 private:
  void reload();
  const TlsFiles files_;
  Logger& logger_;
  std::shared_ptr<boost::asio::ssl::context> context_;
  std::string seen_;  // what the files looked like when they were read
  int64_t looked_at_ns_ = 0;
};

}  // namespace fluyt::streaming
