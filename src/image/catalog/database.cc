#include "image/catalog/database.h"

#include <sqlite3.h>

#include <cerrno>

#include "base/strings.h"

namespace fluyt::image {

namespace {

Error error_of(sqlite3* database, int code, std::string_view what) {
  Code mapped = Code::kInternal;
  switch (code & 0xff) {
    case SQLITE_IOERR:  // what a log that finds no room says
      if (database != nullptr && sqlite3_system_errno(database) == ENOSPC)
        mapped = Code::kResourceExhausted;
      break;
    case SQLITE_FULL:
      mapped = Code::kResourceExhausted;
      break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      mapped = Code::kDataLoss;
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      mapped = Code::kUnavailable;
      break;
    case SQLITE_READONLY:
    case SQLITE_PERM:
      mapped = Code::kPermissionDenied;
      break;
    default:
      break;
  }
  const char* text = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  return Error(mapped, cat("SQLite: ", what, ": ", text, " (", code, ")"));
}

}  // namespace

void Statement::Closer::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
void Database::Closer::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

Statement& Statement::bind(std::string_view text) {
  const int code = sqlite3_bind_text64(statement_.get(), ++bound_, text.data(), text.size(),
                                       SQLITE_TRANSIENT, SQLITE_UTF8);
  if (code != SQLITE_OK) bind_error_ = code;
  return *this;
}

Statement& Statement::bind(int64_t number) {
  const int code = sqlite3_bind_int64(statement_.get(), ++bound_, number);
  if (code != SQLITE_OK) bind_error_ = code;
  return *this;
}

Result<bool> Statement::step() {
  sqlite3* database = sqlite3_db_handle(statement_.get());
  if (bind_error_ != SQLITE_OK) return error_of(database, bind_error_, "bind");
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return error_of(database, code, sqlite3_sql(statement_.get()));
}

Result<> Statement::run() {
  auto stepped = step();
  sqlite3_reset(statement_.get());  // repeats the error of step()
  bound_ = 0;
  if (!stepped.ok()) return std::move(stepped).error();
  return {};
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (data == nullptr) return {};
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

Result<Database> Database::open(const std::string& path, int newest) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(
      path.c_str(), &raw,
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
      nullptr);
  Database out(raw);
  if (code != SQLITE_OK) return error_of(raw, code, cat("open ", quote(path)));
  // One process by itself: no shared-memory file. It has to be said before the file is first read.
  FLUYT_TRY_CONTEXT(out.execute("PRAGMA locking_mode=EXCLUSIVE"), quote(path));
  {
    Statement version = FLUYT_TRY_CONTEXT(out.prepare("PRAGMA user_version"), quote(path));
    FLUYT_TRY_CONTEXT(version.step(), quote(path));
    out.version_ = static_cast<int>(version.number(0));
  }
  if (out.version_ > newest) {
    return Error(Code::kFailedPrecondition,
                 cat(quote(path), ": is of version ", out.version_, ", this program knows up to ",
                     newest, "; it was left untouched"));
  }
  FLUYT_TRY_CONTEXT(out.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                "PRAGMA foreign_keys=ON;"),
                    quote(path));
  return out;
}

Result<> Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error_of(database_.get(), code, sql);
  return {};
}

Result<> Database::wait_for_disk(bool wait) {
  if (wait == waits_) return {};
  FLUYT_TRY(execute(wait ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
  waits_ = wait;
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code =
      sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
  if (code != SQLITE_OK) return error_of(database_.get(), code, sql);
  return Statement(raw);
}

Result<Transaction> Transaction::begin(Database& database) {
  FLUYT_TRY(database.execute("BEGIN IMMEDIATE"));
  return Transaction(database);
}

Transaction::~Transaction() {
  if (database_ == nullptr) return;
  database_->execute("ROLLBACK")
      .ignore("the transaction goes away with its connection at the latest");
}

Result<> Transaction::commit() {
  FLUYT_TRY(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace fluyt::image
