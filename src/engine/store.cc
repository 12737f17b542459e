#include "engine/store.h"

#include <sqlite3.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>

#include "base/strings.h"
#include "base/time.h"
#include "engine/record.h"
#include "sys/disk_reserve.h"

namespace fluyt::engine {
namespace {

constexpr const char* kSchema = R"sql(
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS sandbox (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS container (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS broken (kind TEXT, id TEXT, record BLOB, reason TEXT, set_aside_at TEXT,
                                   PRIMARY KEY (kind, id)) WITHOUT ROWID;
)sql";

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

Error sqlite_error(sqlite3* database, std::string_view what) {
  const int code = sqlite3_errcode(database);
  const int extended = sqlite3_extended_errcode(database);
  // A write-ahead log that finds no room says that it cannot be written.
  const bool full = code == SQLITE_FULL ||
                    (code == SQLITE_IOERR && sqlite3_system_errno(database) == ENOSPC) ||
                    extended == SQLITE_IOERR_SHMSIZE;
  return Error(full ? Code::kResourceExhausted : Code::kInternal,
               cat("sqlite: ", what, ": ", sqlite3_errmsg(database)));
}

std::string column(sqlite3_stmt* statement, int index) {
  const void* bytes = sqlite3_column_blob(statement, index);
  const int size = sqlite3_column_bytes(statement, index);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes), static_cast<size_t>(size)};
}

class SqliteStore final : public Store {
 public:
  SqliteStore(Database database, sys::DiskReserve reserve)
      : database_(std::move(database)), reserve_(std::move(reserve)) {}

  Result<> put(const Sandbox& sandbox) override {
    return write("INSERT INTO sandbox VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET record = ?2",
                 {sandbox.id, to_record(sandbox)});
  }
  Result<> put(const Container& container) override {
    return write("INSERT INTO container VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET record = ?2",
                 {container.id, to_record(container)});
  }
  Result<> erase_sandbox(const std::string& id) override {
    return write("DELETE FROM sandbox WHERE id = ?1", {id});
  }
  Result<> erase_container(const std::string& id) override {
    return write("DELETE FROM container WHERE id = ?1", {id});
  }
  Result<> erase_broken(const BrokenRecord& record) override {
    FLUYT_TRY(erase(record.kind, record.id));
    return write("DELETE FROM broken WHERE kind = ?1 AND id = ?2", {record.kind, record.id});
  }

  Result<Loaded> load() override {
    Loaded loaded;
    for (const auto& [id, record] : FLUYT_TRY(rows("SELECT id, record FROM sandbox"))) {
      auto parsed = parse_sandbox_record(record);
      if (parsed.ok() && parsed->id == id) {
        loaded.sandboxes.push_back(std::move(parsed).value());
      } else {
        set_aside(loaded, "sandbox", id, record, parsed);
      }
    }
    for (const auto& [id, record] : FLUYT_TRY(rows("SELECT id, record FROM container"))) {
      auto parsed = parse_container_record(record);
      if (parsed.ok() && parsed->id == id) {
        loaded.containers.push_back(std::move(parsed).value());
      } else {
        set_aside(loaded, "container", id, record, parsed);
      }
    }
    for (const auto& [name, reason] :
         FLUYT_TRY(rows("SELECT kind || ' ' || id, reason FROM broken"))) {
      const size_t space = name.find(' ');
      BrokenRecord record{name.substr(0, space), name.substr(space + 1), reason};
      // One that came here and could not be taken from there, and now could not come again.
      const bool known = std::ranges::any_of(loaded.broken, [&](const BrokenRecord& other) {
        return other.kind == record.kind && other.id == record.id;
      });
      if (!known) loaded.broken.push_back(std::move(record));
    }
    return loaded;
  }

 private:
  // On a disk that takes no writes it stays where it is, known as broken all the same.
  template <class T>
  void set_aside(Loaded& loaded, const std::string& kind, const std::string& id,
                 const std::string& record, const Result<T>& parsed) {
    const std::string reason =
        parsed.ok() ? cat("holds the id ", quote(parsed->id)) : parsed.error().message();
    const bool moved = write("INSERT OR REPLACE INTO broken VALUES (?1, ?2, ?3, ?4, ?5)",
                             {kind, id, record, reason, format_rfc3339_nano(now_unix_ns())})
                           .ok();
    if (moved) {
      (void)erase(kind, id);  // what fails is done at the next start
    } else {
      loaded.broken.push_back({kind, id, reason});
    }
  }
  Result<> erase(const std::string& kind, const std::string& id) {
    return kind == "sandbox" ? erase_sandbox(id) : erase_container(id);
  }

  Result<Statement> prepare(const char* sql) {
    sqlite3_stmt* raw = nullptr;
    if (sqlite3_prepare_v2(database_.get(), sql, -1, &raw, nullptr) != SQLITE_OK) {
      return sqlite_error(database_.get(), sql);
    }
    return Statement(raw);
  }

  Result<> write(const char* sql, const std::vector<std::string>& values) {
    const std::scoped_lock lock(mutex_);
    Result<> written = write_once(sql, values);
    if (written.ok() || written.error().code() != Code::kResourceExhausted) return written;
    // The disk is full. What was kept for this is given up: it is enough to stop and remove all.
    if (!reserve_.give_up()) return written;
    return write_once(sql, values);
  }

  // Prepared once each: the texts are literals, each its own address.
  Result<sqlite3_stmt*> prepared(const char* sql) {
    Statement& kept = prepared_[sql];
    if (!kept) kept = FLUYT_TRY(prepare(sql));
    return kept.get();
  }

  Result<> write_once(const char* sql, const std::vector<std::string>& values) {
    sqlite3_stmt* statement = FLUYT_TRY(prepared(sql));
    Result<> done = run(statement, values);
    sqlite3_reset(statement);  // repeats the error that there may have been
    sqlite3_clear_bindings(statement);
    return done;
  }

  Result<> run(sqlite3_stmt* statement, const std::vector<std::string>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto index = static_cast<int>(i + 1);
      // Text where it is text, so that people can query it; bytes else.
      const auto size = static_cast<sqlite3_uint64>(values[i].size());
      const bool text = is_utf8(values[i]) && values[i].find('\0') == std::string::npos;
      const int bound =
          text ? sqlite3_bind_text64(statement, index, values[i].data(), size, SQLITE_STATIC,
                                     SQLITE_UTF8)
               : sqlite3_bind_blob64(statement, index, values[i].data(), size, SQLITE_STATIC);
      if (bound != SQLITE_OK) return sqlite_error(database_.get(), "bind");
    }
    if (sqlite3_step(statement) != SQLITE_DONE)
      return sqlite_error(database_.get(), sqlite3_sql(statement));
    return {};
  }

  Result<std::vector<std::pair<std::string, std::string>>> rows(const char* sql) {
    const std::scoped_lock lock(mutex_);
    const Statement statement = FLUYT_TRY(prepare(sql));
    std::vector<std::pair<std::string, std::string>> found;
    int step = sqlite3_step(statement.get());
    for (; step == SQLITE_ROW; step = sqlite3_step(statement.get())) {
      found.emplace_back(column(statement.get(), 0), column(statement.get(), 1));
    }
    if (step != SQLITE_DONE) return sqlite_error(database_.get(), sql);
    return found;
  }

  std::mutex mutex_;
  Database database_;
  std::map<const char*, Statement> prepared_;  // they end before the database does
  const sys::DiskReserve reserve_;
};

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::string& path) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int opened = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  Database database(raw);
  if (opened != SQLITE_OK) return sqlite_error(raw, cat("open ", path));
  sqlite3_busy_timeout(raw, 2000);
  if (sqlite3_exec(raw, kSchema, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return sqlite_error(raw, cat("open ", path));
  }
  return std::unique_ptr<Store>(
      std::make_unique<SqliteStore>(std::move(database), sys::DiskReserve(path + ".reserve")));
}

}  // namespace fluyt::engine
