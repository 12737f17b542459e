#include "image/catalog/catalog.h"

#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>

#include "base/strings.h"
#include "base/time.h"
#include "image/catalog/database.h"
#include "image/catalog/mirror.h"
#include "image/catalog/schema.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

// Runs `sql` once an item, with what `bind` gives it.
template <class Items, class Bind>
Result<> each(Database& database, const char* sql, const Items& items, Bind bind) {
  if (items.empty()) return {};
  Statement statement = FLUYT_TRY(database.prepare(sql));
  for (const auto& item : items) {
    bind(statement, item);
    FLUYT_TRY(statement.run());
  }
  return {};
}

void bind_approval(Statement& s, const ApprovalRow& row) {
  s.bind(row.image_id).bind(row.name).bind(row.target.text()).bind(row.rules);
}

Result<> drop(Database& database, const CatalogChange& change) {
  const auto text = [](Statement& s, const std::string& key) { s.bind(key); };
  const auto digest = [](Statement& s, const oci::Digest& key) { s.bind(key.text()); };
  FLUYT_TRY(each(database, "DELETE FROM name WHERE name=?", change.drop_names, text));
  FLUYT_TRY(each(database, "DELETE FROM image WHERE id=?", change.drop_images, text));
  // The file's own rows go by their foreign key; see migrate() for those that have none.
  FLUYT_TRY(each(database, "DELETE FROM approval WHERE image_id=?", change.drop_images, text));
  FLUYT_TRY(each(database, "DELETE FROM root WHERE container_id=?", change.drop_roots, text));
  FLUYT_TRY(each(database, "DELETE FROM layer WHERE diff_id=?", change.drop_layers, digest));
  FLUYT_TRY(each(database, "DELETE FROM blob WHERE digest=?", change.drop_blobs, digest));
  return each(database, "DELETE FROM approval WHERE image_id=? AND name=? AND target=? AND rules=?",
              change.drop_approvals, bind_approval);
}

Result<> put_blobs(Database& database, const CatalogChange& change) {
  return each(database,
              "INSERT INTO blob VALUES(?,?) ON CONFLICT(digest) DO UPDATE SET bytes=excluded.bytes",
              change.put_blobs,
              [](Statement& s, const BlobRow& row) { s.bind(row.digest.text()).bind(row.bytes); });
}

Result<> put_layers(Database& database, const CatalogChange& change) {
  FLUYT_TRY(
      each(database,
           "INSERT INTO layer VALUES(?,?,?,?,?,?) ON CONFLICT(diff_id) DO UPDATE SET "
           "disk_bytes=excluded.disk_bytes, inodes=excluded.inodes, durable=excluded.durable, "
           "boot_id=excluded.boot_id, mount_id=excluded.mount_id",
           change.put_layers, [](Statement& s, const LayerRow& row) {
             s.bind(row.diff_id.text()).bind(row.disk_bytes).bind(row.inodes).bind(row.durable);
             s.bind(row.boot_id).bind(row.mount_id);
           }));
  return each(database, "UPDATE layer SET durable=1 WHERE diff_id=?", change.durable_layers,
              [](Statement& s, const oci::Digest& key) { s.bind(key.text()); });
}

Result<> put_image(Database& database, const ImageRow& row) {
  Statement image = FLUYT_TRY(database.prepare(
      "INSERT INTO image VALUES(?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET "
      "manifest_digest=excluded.manifest_digest, size=excluded.size, pinned=excluded.pinned, "
      "added_ns=excluded.added_ns"));
  image.bind(row.id).bind(row.manifest_digest.text()).bind(row.size).bind(row.pinned);
  FLUYT_TRY(image.bind(row.added_ns).run());
  const std::vector<std::string> id{row.id};
  const auto by_id = [](Statement& s, const std::string& key) { s.bind(key); };
  FLUYT_TRY(each(database, "DELETE FROM image_layer WHERE image_id=?", id, by_id));
  FLUYT_TRY(each(database, "DELETE FROM image_blob WHERE image_id=?", id, by_id));
  int64_t position = 0;
  FLUYT_TRY(each(database, "INSERT INTO image_layer VALUES(?,?,?,?,?)", row.layers,
                 [&](Statement& s, const ImageLayer& layer) {
                   s.bind(row.id).bind(position++).bind(layer.diff_id.text());
                   s.bind(layer.blob_digest.text()).bind(layer.blob_bytes);
                 }));
  position = 0;
  return each(database, "INSERT INTO image_blob VALUES(?,?,?)", row.blobs,
              [&](Statement& s, const oci::Digest& blob) {
                s.bind(row.id).bind(position++).bind(blob.text());
              });
}

Result<> put_root(Database& database, const RootRow& row) {
  Statement root = FLUYT_TRY(
      database.prepare("INSERT OR REPLACE INTO root(container_id, image_id) VALUES(?,?)"));
  FLUYT_TRY(root.bind(row.container_id).bind(row.image_id).run());
  int64_t position = 0;
  return each(database, "INSERT OR REPLACE INTO root_layer VALUES(?,?,?)", row.layers,
              [&](Statement& s, const oci::Digest& layer) {
                s.bind(row.container_id).bind(position++).bind(layer.text());
              });
}

// The row that another one speaks of. The foreign keys promise it; a damaged file may break that.
template <class Row>
Result<std::reference_wrapper<Row>> row_of(std::map<std::string, Row>& rows,
                                           const std::string& key) {
  const auto found = rows.find(key);
  if (found == rows.end()) {
    return Error(Code::kDataLoss, cat("a row speaks of ", quote(key), ", which is not there"));
  }
  return std::ref(found->second);
}

Result<> load_layers(Database& database, CatalogState& state) {
  Statement rows = FLUYT_TRY(database.prepare(
      "SELECT diff_id, disk_bytes, inodes, durable, boot_id, mount_id FROM layer"));
  while (FLUYT_TRY(rows.step())) {
    const oci::Digest diff_id = FLUYT_TRY(oci::Digest::parse(rows.text(0)));
    state.layers.emplace(
        diff_id, LayerRow{diff_id, static_cast<uint64_t>(rows.number(1)),
                          static_cast<uint64_t>(rows.number(2)), rows.number(3) != 0, rows.text(4),
                          static_cast<uint64_t>(rows.number(5))});
  }
  return {};
}

Result<> load_blobs(Database& database, CatalogState& state) {
  Statement rows = FLUYT_TRY(database.prepare("SELECT digest, bytes FROM blob"));
  while (FLUYT_TRY(rows.step())) {
    const oci::Digest digest = FLUYT_TRY(oci::Digest::parse(rows.text(0)));
    state.blobs.emplace(digest, BlobRow{digest, static_cast<uint64_t>(rows.number(1))});
  }
  return {};
}

Result<> load_images(Database& database, CatalogState& state) {
  Statement images =
      FLUYT_TRY(database.prepare("SELECT id, manifest_digest, size, pinned, added_ns FROM image"));
  while (FLUYT_TRY(images.step())) {
    auto digest = FLUYT_TRY(oci::Digest::parse(images.text(1)));
    state.images.emplace(images.text(0), ImageRow{images.text(0),
                                                  std::move(digest),
                                                  static_cast<uint64_t>(images.number(2)),
                                                  {},
                                                  {},
                                                  images.number(3) != 0,
                                                  images.number(4)});
  }
  Statement layers =
      FLUYT_TRY(database.prepare("SELECT image_id, diff_id, blob_digest, blob_bytes FROM "
                                 "image_layer ORDER BY image_id, position"));
  while (FLUYT_TRY(layers.step())) {
    ImageRow& image = FLUYT_TRY(row_of(state.images, layers.text(0))).get();
    auto diff_id = FLUYT_TRY(oci::Digest::parse(layers.text(1)));
    auto blob_digest = FLUYT_TRY(oci::Digest::parse(layers.text(2)));
    image.layers.push_back(
        {std::move(diff_id), std::move(blob_digest), static_cast<uint64_t>(layers.number(3))});
  }
  Statement blobs = FLUYT_TRY(
      database.prepare("SELECT image_id, digest FROM image_blob ORDER BY image_id, position"));
  while (FLUYT_TRY(blobs.step())) {
    ImageRow& image = FLUYT_TRY(row_of(state.images, blobs.text(0))).get();
    image.blobs.push_back(FLUYT_TRY(oci::Digest::parse(blobs.text(1))));
  }
  Statement names = FLUYT_TRY(database.prepare("SELECT name, image_id FROM name"));
  while (FLUYT_TRY(names.step())) state.names.emplace(names.text(0), names.text(1));
  return {};
}

Result<> load_roots(Database& database, CatalogState& state) {
  Statement roots = FLUYT_TRY(database.prepare("SELECT container_id, image_id FROM root"));
  while (FLUYT_TRY(roots.step())) {
    state.roots.emplace(roots.text(0), RootRow{roots.text(0), roots.text(1), {}});
  }
  Statement layers = FLUYT_TRY(database.prepare(
      "SELECT container_id, diff_id FROM root_layer ORDER BY container_id, position"));
  while (FLUYT_TRY(layers.step())) {
    RootRow& root = FLUYT_TRY(row_of(state.roots, layers.text(0))).get();
    root.layers.push_back(FLUYT_TRY(oci::Digest::parse(layers.text(1))));
  }
  return {};
}

Result<> load_approvals(Database& database, CatalogState& state) {
  Statement rows =
      FLUYT_TRY(database.prepare("SELECT image_id, name, target, rules FROM approval"));
  while (FLUYT_TRY(rows.step())) {
    auto target = FLUYT_TRY(oci::Digest::parse(rows.text(2)));
    state.approvals.insert({rows.text(0), rows.text(1), std::move(target), rows.text(3)});
  }
  return {};
}

}  // namespace

bool CatalogChange::empty() const {
  return only_roots() && drop_roots.empty() && put_roots.empty();
}

bool CatalogChange::only_roots() const {
  return drop_names.empty() && drop_images.empty() && drop_layers.empty() && drop_blobs.empty() &&
         drop_approvals.empty() && put_blobs.empty() && put_layers.empty() &&
         durable_layers.empty() && put_images.empty() && put_names.empty() && put_approvals.empty();
}

bool CatalogChange::drops() const {
  return !drop_names.empty() || !drop_images.empty() || !drop_roots.empty() ||
         !drop_layers.empty() || !drop_blobs.empty() || !drop_approvals.empty();
}

void apply(const CatalogChange& change, CatalogState& state) {
  for (const auto& name : change.drop_names) state.names.erase(name);
  for (const auto& id : change.drop_images) {
    state.images.erase(id);
    std::erase_if(state.names, [&](const auto& entry) { return entry.second == id; });
    std::erase_if(state.approvals, [&](const ApprovalRow& row) { return row.image_id == id; });
  }
  for (const auto& id : change.drop_roots) state.roots.erase(id);
  for (const auto& diff_id : change.drop_layers) state.layers.erase(diff_id);
  for (const auto& digest : change.drop_blobs) state.blobs.erase(digest);
  for (const auto& row : change.drop_approvals) state.approvals.erase(row);
  for (const auto& row : change.put_blobs) state.blobs.insert_or_assign(row.digest, row);
  for (const auto& row : change.put_layers) state.layers.insert_or_assign(row.diff_id, row);
  for (const auto& diff_id : change.durable_layers) {
    if (const auto found = state.layers.find(diff_id); found != state.layers.end()) {
      found->second.durable = true;
    }
  }
  for (const auto& row : change.put_images) state.images.insert_or_assign(row.id, row);
  for (const auto& [name, id] : change.put_names) state.names.insert_or_assign(name, id);
  for (const auto& row : change.put_roots) state.roots.insert_or_assign(row.container_id, row);
  state.approvals.insert(change.put_approvals.begin(), change.put_approvals.end());
}

Catalog::Catalog(std::unique_ptr<Database> database, const std::string& path)
    : database_(std::move(database)), reserve_(path + ".reserve") {}
Catalog::~Catalog() = default;

Result<std::unique_ptr<Catalog>> Catalog::open(const std::string& path) {
  auto database = std::make_unique<Database>(FLUYT_TRY(Database::open(path, kCatalogVersion)));
  FLUYT_TRY(migrate(*database));
  std::unique_ptr<Catalog> out(new Catalog(std::move(database), path));
  FLUYT_TRY_CONTEXT(out->load(), quote(path));
  return out;
}

Result<> Catalog::load() {
  CatalogState state;
  FLUYT_TRY(load_layers(*database_, state));
  FLUYT_TRY(load_blobs(*database_, state));
  FLUYT_TRY(load_images(*database_, state));
  FLUYT_TRY(load_roots(*database_, state));
  FLUYT_TRY(load_approvals(*database_, state));
  Statement count = FLUYT_TRY(database_->prepare("SELECT value FROM generation"));
  if (FLUYT_TRY(count.step())) generation_ = count.number(0);
  *state_.lock() = std::move(state);
  return {};
}

// With `writing_` held. An image may go between a look at the state and a commit that names it.
Result<> Catalog::check_names(const CatalogChange& change) const {
  if (change.put_names.empty() && change.put_approvals.empty()) return {};
  const auto will_be = [&](const CatalogState& state, const std::string& id) {
    const auto is_it = [&](const ImageRow& row) { return row.id == id; };
    if (std::any_of(change.put_images.begin(), change.put_images.end(), is_it)) return true;
    const auto& dropped = change.drop_images;
    return state.images.contains(id) &&
           std::find(dropped.begin(), dropped.end(), id) == dropped.end();
  };
  return read([&](const CatalogState& state) -> Result<> {
    for (const auto& [name, id] : change.put_names) {
      if (!will_be(state, id))
        return Error(Code::kNotFound, cat("name ", quote(name), ": there is no image ", id));
    }
    for (const ApprovalRow& row : change.put_approvals) {
      if (!will_be(state, row.image_id))
        return Error(Code::kNotFound,
                     cat("approval as ", quote(row.name), ": there is no image ", row.image_id));
    }
    return {};
  });
}

// With `writing_` held.
Result<> Catalog::write(const CatalogChange& change) {
  const bool waits = !change.only_roots();
  FLUYT_TRY(database_->wait_for_disk(waits));
  Transaction transaction = FLUYT_TRY(Transaction::begin(*database_));
  FLUYT_TRY(drop(*database_, change));
  FLUYT_TRY(put_blobs(*database_, change));
  FLUYT_TRY(put_layers(*database_, change));
  for (const ImageRow& row : change.put_images) FLUYT_TRY(put_image(*database_, row));
  FLUYT_TRY(each(
      *database_,
      "INSERT INTO name VALUES(?,?) ON CONFLICT(name) DO UPDATE SET image_id=excluded.image_id",
      change.put_names,
      [](Statement& s, const auto& entry) { s.bind(entry.first).bind(entry.second); }));
  for (const RootRow& row : change.put_roots) FLUYT_TRY(put_root(*database_, row));
  FLUYT_TRY(each(*database_, "INSERT OR IGNORE INTO approval VALUES(?,?,?,?)", change.put_approvals,
                 bind_approval));
  if (waits) {
    Statement count = FLUYT_TRY(database_->prepare("UPDATE generation SET value=?"));
    FLUYT_TRY(count.bind(generation_ + 1).run());
  }
  FLUYT_TRY(transaction.commit());
  if (waits) ++generation_;
  return {};
}

Result<> Catalog::commit(const CatalogChange& change) {
  return commit(change, change.drops() || !change.durable_layers.empty());
}

Result<> Catalog::commit(const CatalogChange& change, bool may_use_reserve) {
  if (change.empty()) return {};
  const std::lock_guard<std::mutex> one_at_a_time(writing_);
  FLUYT_TRY(check_names(change));
  Result<> written = write(change);
  const bool full = !written.ok() && written.error().code() == Code::kResourceExhausted;
  if (full && may_use_reserve && reserve_.give_up()) written = write(change);
  if (!written.ok()) return written;
  if (mirror_ == nullptr) {
    apply(change, *state_.lock());
    return {};
  }
  const Touched touched = [&] {
    auto state = state_.lock();
    const Touched out = touched_by(change, *state);
    apply(change, *state);
    return out;
  }();
  mirror(touched);
  return {};
}

// The commit is done whatever becomes of its mirror: the next start brings that up to date.
void Catalog::note(const Result<>& mirrored) const {
  if (!mirrored.ok()) logger_->warn(cat("the catalogue's mirror: ", mirrored.error().message()));
}

void Catalog::mirror(const Touched& touched) {
  for (const std::string& id : touched.images) {
    const auto image = read([&](const CatalogState& state) -> std::optional<MirroredImage> {
      const auto found = state.images.find(id);
      if (found == state.images.end()) return std::nullopt;
      return mirrored_image(found->second, state);
    });
    note(image.has_value() ? mirror_->put(*image, generation_) : mirror_->remove_image(id));
  }
  for (const std::string& id : touched.roots) {
    const auto root = read([&](const CatalogState& state) -> std::optional<MirroredRoot> {
      const auto found = state.roots.find(id);
      if (found == state.roots.end()) return std::nullopt;
      return mirrored_root(found->second, state);
    });
    note(root.has_value() ? mirror_->put(*root, generation_) : mirror_->remove_root(id));
  }
}

// Of roots the newer of the two is not known: their commits are not counted. A row too many is one
// without a folder, which whoever opens the store drops.
Result<> Catalog::take_back_roots(const MirrorContent& content) {
  CatalogChange change;
  read([&](const CatalogState& state) {
    for (const auto& [id, root] : content.roots) {
      if (!state.roots.contains(id)) change.put_roots.push_back(root.row);
    }
    return 0;
  });
  return commit(change, true);
}

// A start after a crash between a commit and its mirroring, or the first with a mirror.
void Catalog::bring_mirror_up_to_date(const MirrorContent& content) {
  const CatalogState state = read([](const CatalogState& s) { return s; });
  for (const auto& [id, row] : state.images) {
    const MirroredImage now = mirrored_image(row, state);
    const auto found = content.images.find(id);
    if (found == content.images.end() || !(found->second == now)) {
      note(mirror_->put(now, generation_));
    }
  }
  for (const auto& [id, row] : state.roots) {
    const MirroredRoot now = mirrored_root(row, state);
    const auto found = content.roots.find(id);
    if (found == content.roots.end() || !(found->second == now)) {
      note(mirror_->put(now, generation_));
    }
  }
  for (const auto& [id, image] : content.images) {
    if (!state.images.contains(id)) note(mirror_->remove_image(id));
  }
}

// As SQLite finds it, indexes and all; load() finds what it takes for sound and we do not.
Result<> Catalog::check() const {
  Statement statement = FLUYT_TRY(database_->prepare("PRAGMA integrity_check(1)"));
  const bool has_row = FLUYT_TRY(statement.step());
  if (has_row && statement.text(0) == "ok") return {};
  return Error(Code::kDataLoss, cat("integrity check: ", quote(statement.text(0))));
}

namespace {

// Whether what went wrong with a database is in its bytes, and not in the disk or our rights.
bool is_damage(const Error& error) {
  switch (error.code()) {
    case Code::kResourceExhausted:
    case Code::kPermissionDenied:
    case Code::kUnavailable:
    case Code::kFailedPrecondition:  // of a newer version
      return false;
    default:
      return true;
  }
}

Result<> move_aside(const std::string& path) {
  const std::string aside = cat(path, ".damaged-", now_unix_ns() / 1'000'000'000);
  for (const char* ending : {"", "-wal", "-shm"}) {
    const std::string from = path + ending;
    const std::string to = aside + ending;
    if (::rename(from.c_str(), to.c_str()) != 0 && errno != ENOENT) {
      return Error::from_errno(errno, cat("rename(", quote(from), ", ", quote(to), ")"));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Catalog>> Catalog::open_mirrored(const std::string& path, Logger& logger) {
  auto mirror = std::make_unique<Mirror>(
      FLUYT_TRY(Mirror::open(path.substr(0, path.rfind('/')) + "/mirror")));
  const bool had_mirror = !mirror->is_new();
  MirrorContent content = FLUYT_TRY(mirror->read());
  for (const std::string& file : content.unreadable) {
    logger.warn(cat("the catalogue's mirror: ", file));
  }
  std::string damage;
  auto opened = open(path);
  if (opened.ok()) {
    if (auto checked = (*opened)->check(); !checked.ok()) damage = checked.error().message();
    if (damage.empty() && (*opened)->generation_ < content.generation) {
      damage = cat("it has ", (*opened)->generation_, " commits, its mirror knows of ",
                   content.generation);
    }
  } else if (is_damage(opened.error())) {
    damage = opened.error().message();
  }
  if (!damage.empty() && !had_mirror) {
    if (!opened.ok()) return std::move(opened).error();
    return Error(Code::kDataLoss, cat(quote(path), ": ", damage));
  }
  if (!damage.empty()) {
    logger.error(cat("catalogue ", quote(path), " is moved aside: ", damage));
    if (opened.ok()) opened->reset();
    FLUYT_TRY(move_aside(path));
    opened = open(path);
    if (!opened.ok()) return std::move(opened).error();
    (*opened)->generation_ = content.generation;
    FLUYT_TRY_CONTEXT((*opened)->commit(change_from(content)), "the catalogue's mirror");
    logger.error(cat("catalogue ", quote(path), " was made again: ", content.images.size(),
                     " images and ", content.roots.size(), " roots"));
  }
  if (!opened.ok()) return std::move(opened).error();
  std::unique_ptr<Catalog> catalog = std::move(*opened);
  catalog->mirror_ = std::move(mirror);
  catalog->logger_ = &logger;
  FLUYT_TRY_CONTEXT(catalog->take_back_roots(content), "the catalogue's mirror");
  catalog->bring_mirror_up_to_date(content);
  return catalog;
}

}  // namespace fluyt::image
