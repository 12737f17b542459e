#pragma once

#include <string>

#include "base/result.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/criu_message.h"
#include "sys/fd.h"

namespace fluyt::runtime::checkpoint {

/// The archive and CRIU's working folder, opened: CRIU reaches them by our descriptors' numbers.
struct Folders {
  sys::Fd images;
  sys::Fd work;  // invalid: the images' folder
  std::string images_path;
  std::string work_path;
  std::string log(const std::string& name) const;
};
enum class FolderUse { kMake, kExpect };
Result<Folders> open_folders(const Settings& settings, FolderUse use);

/// What a dump and a restore tell CRIU alike.
CriuOptions options_of(const Settings& settings, const Folders& folders);

}  // namespace fluyt::runtime::checkpoint
