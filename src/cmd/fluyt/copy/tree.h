#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

/// The near side of `fluyt cp`: trees here as a tar, and a container's tar as a tree here.
namespace fluyt::cli {

using ByteSink = std::function<Result<>(std::string_view)>;

enum class Links { kFollow, kKeep };  // of a path's last name
/// What is at `path` as a plain tar in which it is called `name`; with an empty name what lies in
/// the directory `path`. Devices and sockets are left out.
Result<> send_tree(const std::string& path, const std::string& name, Links last,
                   const ByteSink& sink);

/// What a container's tar becomes. The tar is its making: it reaches nothing but what is below
/// `folder`, no file gets setuid or setgid, and no device is made.
class TreeReceiver {
 public:
  enum class Owner { kCaller, kKept };
  static Result<std::unique_ptr<TreeReceiver>> create(const std::string& folder, Owner owner);
  virtual ~TreeReceiver() = default;
  virtual Result<> push(std::string_view bytes) = 0;
  virtual Result<> finish() = 0;
};

}  // namespace fluyt::cli
