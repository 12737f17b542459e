#include "image/catalog/schema.h"

#include <array>

#include "base/strings.h"
#include "image/catalog/database.h"

namespace fluyt::image {

namespace {

// Lists keep their order by `position`. Layers of a root are no foreign keys: after a power cut a
// layer may be discarded while the root waits for its removal.
constexpr const char* kVersion1 = R"(
CREATE TABLE layer(
  diff_id TEXT PRIMARY KEY, disk_bytes INTEGER NOT NULL, inodes INTEGER NOT NULL,
  durable INTEGER NOT NULL, boot_id TEXT NOT NULL, mount_id INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE image(
  id TEXT PRIMARY KEY, manifest_digest TEXT NOT NULL, size INTEGER NOT NULL,
  pinned INTEGER NOT NULL, added_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE image_layer(
  image_id TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  diff_id TEXT NOT NULL REFERENCES layer(diff_id), blob_digest TEXT NOT NULL,
  blob_bytes INTEGER NOT NULL, PRIMARY KEY(image_id, position)) WITHOUT ROWID;
CREATE INDEX image_layer_by_diff_id ON image_layer(diff_id);
CREATE TABLE image_blob(
  image_id TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE, position INTEGER NOT NULL,
  digest TEXT NOT NULL, PRIMARY KEY(image_id, position)) WITHOUT ROWID;
CREATE TABLE name(
  name TEXT PRIMARY KEY,
  image_id TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX name_by_image ON name(image_id);
CREATE TABLE root(container_id TEXT PRIMARY KEY, image_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE root_layer(
  container_id TEXT NOT NULL REFERENCES root(container_id) ON DELETE CASCADE,
  position INTEGER NOT NULL, diff_id TEXT NOT NULL,
  PRIMARY KEY(container_id, position)) WITHOUT ROWID;
)";

// What is kept by its digest, and its size. Of a store of version 1 the rows are made when it is
// opened: the files are there.
constexpr const char* kVersion2 = R"(
CREATE TABLE blob(digest TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
)";

// Counts commits, so that a file that lost some (its log was removed) is told from its mirror.
constexpr const char* kVersion3 = R"(
CREATE TABLE generation(value INTEGER NOT NULL);
INSERT INTO generation VALUES(0);
)";

// What an older program can pass over has no version: that program still takes the file, and drops
// these rows with their image all the same.
constexpr const char* kAdditions = R"(
CREATE TABLE IF NOT EXISTS approval(
  image_id TEXT NOT NULL REFERENCES image(id) ON DELETE CASCADE, name TEXT NOT NULL,
  target TEXT NOT NULL, rules TEXT NOT NULL,
  PRIMARY KEY(image_id, name, target, rules)) WITHOUT ROWID;
)";

// Where a full disk has no room for the table: of this run alone, and found by its name before any
// in the file (https://sqlite.org/lang_naming.html). A foreign key cannot reach from one file to
// another; whoever drops an image drops its rows.
constexpr const char* kAdditionsInMemory = R"(
PRAGMA temp_store=MEMORY;
CREATE TEMP TABLE approval(
  image_id TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, rules TEXT NOT NULL,
  PRIMARY KEY(image_id, name, target, rules)) WITHOUT ROWID;
)";

constexpr std::array<const char*, kCatalogVersion> kSteps = {kVersion1, kVersion2, kVersion3};

// Not to remember them for long is no reason to keep a store closed.
Result<> add_additions(Database& database) {
  auto added = database.execute(kAdditions);
  if (added.ok() || added.error().code() != Code::kResourceExhausted) return added;
  return database.execute(kAdditionsInMemory);
}

}  // namespace

Result<> migrate(Database& database) {
  if (database.version() == kCatalogVersion) return add_additions(database);
  Transaction transaction = FLUYT_TRY(Transaction::begin(database));
  for (int version = database.version(); version < kCatalogVersion; ++version) {
    FLUYT_TRY(database.execute(kSteps.at(static_cast<size_t>(version))));
  }
  FLUYT_TRY(database.execute(kAdditions));
  FLUYT_TRY(database.execute(cat("PRAGMA user_version=", kCatalogVersion)));
  return transaction.commit();
}

}  // namespace fluyt::image
