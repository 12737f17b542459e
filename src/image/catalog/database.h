#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace fluyt::image {

/// A prepared statement: bound from left to right, then stepped. Of one thread at a time.
class Statement {
 public:
  Statement& bind(std::string_view text);
  Statement& bind(int64_t number);
  Statement& bind(uint64_t number) { return bind(static_cast<int64_t>(number)); }
  Statement& bind(bool flag) { return bind(static_cast<int64_t>(flag ? 1 : 0)); }
  /// True when there is a row to read, false at the end.
  Result<bool> step();
  /// Runs a statement that gives no rows, and makes it ready to be bound again.
  Result<> run();
  std::string text(int column) const;
  int64_t number(int column) const;

 private:
  friend class Database;
  struct Closer {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  std::unique_ptr<sqlite3_stmt, Closer> statement_;
  int bound_ = 0;
  int bind_error_ = 0;
};

/// One SQLite file (WAL), used by one process and one thread at a time.
class Database {
 public:
  /// Opens or makes the file. A file whose user_version is above `newest` is refused before
  /// anything is written (kFailedPrecondition); one that is no database is kDataLoss.
  static Result<Database> open(const std::string& path, int newest);
  int version() const { return version_; }

  Result<> execute(const std::string& sql);
  Result<Statement> prepare(std::string_view sql);
  /// Whether a commit waits for the disk (synchronous=FULL), as all do at first. One that does not
  /// is lost by a power cut unless one after it has waited: the log is written in order. Not within
  /// a transaction.
  Result<> wait_for_disk(bool wait);

 private:
  struct Closer {
    void operator()(sqlite3* database) const;
  };
  explicit Database(sqlite3* database) : database_(database) {}
  std::unique_ptr<sqlite3, Closer> database_;
  int version_ = 0;
  bool waits_ = true;
};

/// BEGIN IMMEDIATE until commit(); rolled back when it goes without.
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(other.database_) {
    other.database_ = nullptr;
  }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<> commit();

 private:
  explicit Transaction(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace fluyt::image
