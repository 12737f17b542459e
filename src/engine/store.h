#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/model.h"

namespace fluyt::engine {

/// A record that could not be read, moved out of the way with its bytes.
struct BrokenRecord {
  std::string kind;  // "sandbox" or "container"
  std::string id;
  std::string reason;
  std::string sandbox_id = {};  // of a container that is here for its sandbox's record alone
};

/// The engine's database: one row an object, SQLite in WAL mode with synchronous=NORMAL (a crash of
/// ours loses nothing; a power cut ends the containers anyway). Written before the world is
/// changed; read only at start. Thread-safe; a write takes some 50 µs.
class Store {
 public:
  static Result<std::unique_ptr<Store>> open(const std::string& path);
  virtual ~Store() = default;

  virtual Result<> put(const Sandbox& sandbox) = 0;
  virtual Result<> put(const Container& container) = 0;
  virtual Result<> erase_sandbox(const std::string& id) = 0;
  virtual Result<> erase_container(const std::string& id) = 0;

  struct Loaded {
    std::vector<Sandbox> sandboxes;
    std::vector<Container> containers;
    std::vector<BrokenRecord> broken;  // set aside now or by an earlier start
  };
  /// Forgets a record that was set aside, and a good one of the same id.
  virtual Result<> erase_broken(const BrokenRecord& record) = 0;
  /// Everything. A record that cannot be read goes to the table `broken` with the reason; an error
  /// is of the whole database, as sqlite tells it.
  virtual Result<Loaded> load() = 0;
};

}  // namespace fluyt::engine
