#pragma once

#include <string>

#include "base/result.h"
#include "cmd/runtime/store.h"
#include "oci/runtime_spec.h"
#include "runtime/container.h"

namespace fluyt::commands {

/// A bundle as it was read: its folder and its config.json, as text and as what it says.
struct Loaded {
  std::string bundle;
  std::string text;
  oci::Spec spec;
};
/// `config` is the file, seen from the bundle.
Result<Loaded> load_bundle(const std::string& path, const std::string& config);

/// What is remembered of a container that was just made of it, but for the boot id.
Record record_of(const std::string& id, const Loaded& loaded, const runtime::Made& made);

}  // namespace fluyt::commands
