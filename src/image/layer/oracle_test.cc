// The same archives, unpacked by libarchive and by us, must give the same trees.

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>

#include <functional>

#include "image/layer/layer_test.h"
#include "sys/process.h"

namespace fluyt::image {
namespace {

struct ArchiveFreer {
  void operator()(archive* a) const { archive_free(a); }
};
using Archive = std::unique_ptr<archive, ArchiveFreer>;
struct EntryFreer {
  void operator()(archive_entry* e) const { archive_entry_free(e); }
};
using Entry = std::unique_ptr<archive_entry, EntryFreer>;

ssize_t append(archive* /*unused*/, void* to, const void* bytes, size_t size) {
  static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), size);
  return static_cast<ssize_t>(size);
}

class Oracle : public LayerFormTest {
 protected:
  struct Form {
    int format;
    int filter;
    bool extended;  // names, numbers and attributes beyond ustar
  };

  static void add(archive* to, const std::string& path, mode_t mode, const std::string& data,
                  const std::function<void(archive_entry*)>& also = {}) {
    const Entry entry(archive_entry_new());
    archive_entry_set_pathname(entry.get(), path.c_str());
    archive_entry_set_mode(entry.get(), mode);
    archive_entry_set_mtime(entry.get(), 1'234'567'890, 0);
    archive_entry_set_size(entry.get(), static_cast<int64_t>(data.size()));
    if (also) also(entry.get());
    // It warns of names that are not UTF-8, and writes them.
    ASSERT_GE(archive_write_header(to, entry.get()), ARCHIVE_WARN) << archive_error_string(to);
    const ssize_t size = static_cast<ssize_t>(data.size());
    if (size != 0) {
      ASSERT_EQ(archive_write_data(to, data.data(), data.size()), size);
    }
  }

  static std::string make(const Form& form) {
    std::string bytes;
    const Archive a(archive_write_new());
    archive_write_set_format(a.get(), form.format);
    archive_write_add_filter(a.get(), form.filter);
    archive_write_set_bytes_in_last_block(a.get(), 1);  // no zeros behind the compressed stream
    archive_write_open(a.get(), &bytes, nullptr, append, nullptr);
    add(a.get(), "dir", S_IFDIR | 0750, "", [](archive_entry* e) {
      archive_entry_set_uid(e, 12);
      archive_entry_set_gid(e, 34);
    });
    add(a.get(), "dir/sgid", S_IFDIR | 02775, "",
        [](archive_entry* e) { archive_entry_set_gid(e, 77); });
    add(a.get(), "dir/sgid/file", S_IFREG | 0644, std::string(70'000, 'q'));
    add(a.get(), "dir/setuid", S_IFREG | 06755, "elf",
        [](archive_entry* e) { archive_entry_set_uid(e, 3); });
    add(a.get(), "dir/empty", S_IFREG | 0, "");
    add(a.get(), "dir/link", S_IFLNK | 0777, "",
        [](archive_entry* e) { archive_entry_set_symlink(e, "../nowhere"); });
    add(a.get(), "hard", S_IFREG | 0644, "",
        [](archive_entry* e) { archive_entry_set_hardlink(e, "dir/setuid"); });
    add(a.get(), "sticky", S_IFDIR | 01777, "");
    if (form.format == ARCHIVE_FORMAT_TAR_USTAR || form.extended) {
      add(a.get(), "tty", S_IFCHR | 0620, "", [](archive_entry* e) {
        archive_entry_set_rdevmajor(e, 4);
        archive_entry_set_rdevminor(e, 64);
      });
      add(a.get(), "fifo", S_IFIFO | 0640, "");
      add(a.get(), "prefix/" + std::string(90, 'p') + "/" + std::string(90, 'n'), S_IFREG | 0600,
          "long");
    }
    if (form.extended) add_extended(a.get(), form);
    archive_write_close(a.get());
    return bytes;
  }

  static void add_extended(archive* to, const Form& form) {
    add(to,
        std::string(200, 'a') + "/" + std::string(250, 'b') + "/\xff\xfe" + std::string(200, 'c'),
        S_IFREG | 0600, "longer");
    add(to, "longlink", S_IFLNK | 0777, "",
        [](archive_entry* e) { archive_entry_set_symlink(e, std::string(300, 'l').c_str()); });
    add(to, "bigids", S_IFREG | 0600, "", [](archive_entry* e) {
      archive_entry_set_uid(e, 3'000'000'000);
      archive_entry_set_gid(e, 4'000'000'000);
    });
    if (form.format != ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE) return;
    add(to, "nanoseconds", S_IFREG | 0600, "",
        [](archive_entry* e) { archive_entry_set_mtime(e, 1'700'000'000, 123'456'789); });
    add(to, "ancient", S_IFREG | 0600, "",
        [](archive_entry* e) { archive_entry_set_mtime(e, -1000, 0); });
    add(to, "attributes", S_IFREG | 0600, "a", [](archive_entry* e) {
      archive_entry_xattr_add_entry(e, "user.text", "value", 5);
      archive_entry_xattr_add_entry(e, "user.bytes", "\0\1\n=", 4);
    });
  }

  static void unpack_by_libarchive(const std::string& bytes, const std::string& to) {
    const Archive in(archive_read_new());
    archive_read_support_format_tar(in.get());
    archive_read_support_filter_all(in.get());
    ASSERT_EQ(archive_read_open_memory(in.get(), bytes.data(), bytes.size()), ARCHIVE_OK);
    const Archive disk(archive_write_disk_new());
    archive_write_disk_set_options(disk.get(), ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM |
                                                   ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR |
                                                   ARCHIVE_EXTRACT_UNLINK);
    archive_entry* entry = nullptr;
    while (archive_read_next_header(in.get(), &entry) == ARCHIVE_OK) {
      archive_entry_set_pathname(entry, (to + "/" + archive_entry_pathname(entry)).c_str());
      if (archive_entry_hardlink(entry) != nullptr) {
        archive_entry_set_hardlink(entry, (to + "/" + archive_entry_hardlink(entry)).c_str());
      }
      ASSERT_EQ(archive_read_extract2(in.get(), entry, disk.get()), ARCHIVE_OK)
          << archive_error_string(in.get());
    }
  }

  static void collect(const std::string& root, const std::string& path,
                      std::map<std::string, Look>& out) {
    const std::vector<std::string> names = sys::list_dir(root + path).value();
    for (const std::string& name : names) {
      const std::string child = path + "/" + name;
      out[child] = look_at(root + child);
      if (S_ISDIR(out[child].mode)) collect(root, child, out);
    }
  }

  static void expect_same(const std::string& ours, const std::string& theirs,
                          const std::vector<std::string>& implied) {
    std::map<std::string, Look> a;
    std::map<std::string, Look> b;
    collect(ours, "", a);
    collect(theirs, "", b);
    for (const auto& [path, look] : b) EXPECT_TRUE(a.contains(path)) << path << " is missing";
    for (const auto& [path, look] : a) {
      if (!b.contains(path)) {
        ADD_FAILURE() << path << " is too much";
        continue;
      }
      const Look& other = b[path];
      EXPECT_EQ(look.mode, other.mode) << path;
      EXPECT_EQ(look.uid, other.uid) << path;
      EXPECT_EQ(look.gid, other.gid) << path;
      EXPECT_EQ(look.size, other.size) << path;
      EXPECT_EQ(look.links, other.links) << path;
      EXPECT_EQ(look.device, other.device) << path;
      EXPECT_TRUE(look.content == other.content) << path;
      EXPECT_EQ(look.xattrs, other.xattrs) << path;
      if (std::find(implied.begin(), implied.end(), path.substr(1)) != implied.end()) continue;
      EXPECT_EQ(look.mtime.tv_sec, other.mtime.tv_sec) << path;
      EXPECT_EQ(look.mtime.tv_nsec, other.mtime.tv_nsec) << path;
    }
  }
};

FLUYT_FOR_BOTH_FORMS(Oracle);

TEST_P(Oracle, LibarchivesFormats) {
  umask(0022);
  for (const Form& form : {Form{ARCHIVE_FORMAT_TAR, ARCHIVE_FILTER_NONE, false},
                           Form{ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FILTER_GZIP, false},
                           Form{ARCHIVE_FORMAT_TAR_GNUTAR, ARCHIVE_FILTER_ZSTD, true},
                           Form{ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FILTER_NONE, true},
                           Form{ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE, ARCHIVE_FILTER_GZIP, true}}) {
    SCOPED_TRACE(cat("format ", form.format, " filter ", form.filter));
    const std::string bytes = make(form);
    const sys::TempDir theirs = sys::TempDir::create(dir_.path()).value();
    unpack_by_libarchive(bytes, theirs.path());
    const LayerInfo info = unpack_ok(bytes);
    expect_same(tree_of(info), theirs.path(), info.implied_dirs);
    ASSERT_TRUE(store_->remove(info.diff_id).ok());
  }
}

TEST_P(Oracle, GnuTarsSparseFormats) {
  const std::string source = dir_.path() + "/source";
  ASSERT_TRUE(sys::make_dirs(source, 0755).ok());
  const sys::Fd file = sys::open(source + "/sparse", O_WRONLY | O_CREAT, 0644).value();
  for (int i = 0; i < 60; ++i) {  // more pieces than the first header of the old format holds
    ASSERT_EQ(pwrite(file.raw(), "piece", 5, i * 1'000'000), 5);
  }
  ASSERT_EQ(ftruncate(file.raw(), 100'000'000), 0);
  const std::vector<std::vector<std::string>> forms = {{"--format=gnu"},
                                                       {"--format=posix", "--sparse-version=0.0"},
                                                       {"--format=posix", "--sparse-version=0.1"},
                                                       {"--format=posix", "--sparse-version=1.0"}};
  for (const auto& form : forms) {
    SCOPED_TRACE(form.back());
    sys::SpawnOptions options;
    options.args = {"/bin/tar", "-C", source, "-S", "-cf", "-", "--numeric-owner"};
    options.args.insert(options.args.end(), form.begin(), form.end());
    options.args.emplace_back("sparse");
    const auto made = sys::run(options, "", 10'000'000, Deadline::after_ms(20'000)).value();
    ASSERT_EQ(made.status.code, 0) << made.err;
    const LayerInfo info = unpack_ok(made.out);
    EXPECT_TRUE(look(info, "sparse").content == look_at(source + "/sparse").content);
    EXPECT_LT(info.disk_bytes, 1'000'000U);
    ASSERT_TRUE(store_->remove(info.diff_id).ok());
  }
}

}  // namespace
}  // namespace fluyt::image
