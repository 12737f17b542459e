#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/id_range.h"

namespace fluyt::image::archive {

struct UntarOptions {
  std::string folder;  // below the root, where the tar's names begin: it must be there
  enum class Owner {
    kNobodyAsked,  // whoever we are
    kRoot,         // 0:0
    kKept,         // as the tar says
  } owner = Owner::kNobodyAsked;
  enum class SetId { kKept, kDropped } set_id = SetId::kKept;  // setuid and setgid bits of files
  /// Where set, ids are written as they are outside; one that has none is kInvalidArgument. What is
  /// made is root's inside, folders on the way too: nobody else could make anything on file systems
  /// whose ids are mapped. Each call is to be one thread's then.
  sys::IdMaps ids = {};
  /// Where set, asked for each entry, with the directory that it is made in: its error is the
  /// entry's.
  std::function<Result<>(sys::FdRef parent, const std::string& name)> may_make = {};
};

/// A plain tar, as its bytes arrive, into the folder of a root that somebody else may change
/// meanwhile, and whose tar may be somebody else's too: names that climb are refused, links on the
/// way lead where they do within the root, and what has a name already goes before the new thing is
/// made there, never written through; a mount is not replaced (kInvalidArgument). Folders that are
/// there stay as they are. Files, folders, both kinds of links and FIFOs, with mode and (but of
/// folders) time; long runs of zeros become holes; attributes are passed over, a device is
/// kInvalidArgument. An error names the entry; what came before it stays.
class Untar {
 public:
  static Result<std::unique_ptr<Untar>> create(sys::Fd root, UntarOptions options);
  virtual ~Untar() = default;
  virtual Result<> push(std::string_view bytes) = 0;
  /// kDataLoss when the bytes end in the middle of an entry.
  virtual Result<> finish() = 0;
};

}  // namespace fluyt::image::archive
