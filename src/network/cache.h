#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "network/config.h"
#include "network/request.h"

/// What is on disk about one attachment: everything that DEL needs. One file a sandbox.
namespace fluyt::network {

struct Record {
  enum class State {
    kAdding,    // some plugins may have run
    kAttached,  // all did; `result` is the last one's
  } state = State::kAdding;
  NetworkConfig network;
  AttachmentArgs args;
  std::string result;
  bool operator==(const Record&) const = default;
};

std::string encode_record(const Record& record);
Result<Record> decode_record(std::string_view text);

class Cache {
 public:
  static Result<Cache> open(const std::string& folder);
  /// Nothing when there is none; kDataLoss when there is one that cannot be read.
  Result<std::optional<Record>> find(const std::string& sandbox_id) const;
  /// The ids of all sandboxes that there is a record of, whether it can be read or not.
  Result<std::vector<std::string>> list() const;
  Result<> put(const Record& record) const;
  Result<> remove(const std::string& sandbox_id) const;

 private:
  explicit Cache(std::string folder) : folder_(std::move(folder)) {}
  std::string file_of(const std::string& sandbox_id) const;
  std::string folder_;
};

}  // namespace fluyt::network
