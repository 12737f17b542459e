#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "engine/model.h"

/// A container's checkpoint as one file, in the form that other engines write and checkpointctl
/// reads: spec.dump and config.dump, CRIU's images in checkpoint/, its dump.log, and
/// rootfs-diff.tar with what the container wrote into its root.
namespace fluyt::engine {

/// Where the archive is to be: an absolute path in a folder that exists, with nothing but a file of
/// ours in its place. kInvalidArgument names it else.
Result<> check_location(const std::string& location);

/// config.dump: what the container is, for people and tools.
std::string config_dump(const Container& container, const std::string& name,
                        int64_t checkpointed_at);

/// What the container wrote into `upper`, as the tar `path`. `stop` is asked now and then; its
/// error ends it.
Result<> write_rootfs_diff(const std::string& upper, const std::string& path,
                           const std::function<Result<>()>& stop);

/// Everything in `folder` as the tar `location`, mode 0600, under another name until it is whole
/// and on disk: on an error nothing is left.
Result<> write_archive(const std::string& folder, const std::string& location,
                       const std::function<Result<>()>& stop);

}  // namespace fluyt::engine
