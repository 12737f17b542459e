#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guest/mm/mm.h"
#include "guest/vfs/credentials.h"
#include "guest/vfs/tree.h"

/// execve(2)'s half that makes a new address space: ELF, its interpreter, `#!`, the first stack.
/// Files are hostile: every number in them is checked against the file and the address space.
namespace fluyt::guest {

struct LoadRequest {
  Platform& platform;
  Tree& tree;
  Caller& caller;
  WalkFrom from;
  std::string path;  // as the program gave it: AT_EXECFN
  FilePtr file;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;
  const Credentials& credentials;  // the new ones
  bool secure = false;
  uint64_t stack_bytes = uint64_t{8} << 20;  // RLIMIT_STACK, within what we give
};

struct Loaded {
  std::shared_ptr<Mm> mm;
  ThreadImage image;
  FilePtr executable;  // of a script: its interpreter
  std::vector<std::string> arguments;
};

ErrnoOr<Loaded> load_program(LoadRequest request);

/// Whether it begins with "#!". Its mode and capabilities make nobody another user then: those of
/// the interpreter would count (execve(2)), and we do not follow them.
ErrnoOr<bool> is_script(Caller& caller, File& file);

/// Opens what execve may run: a regular file with an execute bit that `from` may use.
ErrnoOr<FilePtr> open_executable(Tree& tree, const WalkFrom& from, const std::string& path);

}  // namespace fluyt::guest
