#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "image/catalog/catalog.h"
#include "image/library.h"
#include "oci/digest.h"

namespace fluyt::image {

/// What a folder takes.
struct Extent {
  uint64_t bytes = 0;
  uint64_t inodes = 0;
};

/// What stands on the store's disk.
struct StoreContent {
  std::map<oci::Digest, Extent> layers;
  std::map<std::string, Extent> damaged_layers;  // folders whose record cannot be read, by name
  std::map<oci::Digest, uint64_t> blobs;         // bytes
  std::map<oci::Digest, Extent> fixups;          // by chain id
  std::map<std::string, Extent> roots;           // by container
  std::map<std::string, Extent> unfinished;      // paths of staging and of half-written blobs
  std::map<std::string, Extent> trash;           // paths
  struct Aside {
    oci::Digest id;  // diff id or chain id
    Extent extent;
  };
  std::map<std::string, Aside> aside;     // paths
  std::map<std::string, Extent> catalog;  // paths
  std::map<std::string, Extent> unknown;  // paths
};

/// What work under way needs.
struct StoreUse {
  std::vector<std::string> works;                          // whose unfinished things may be on disk
  std::map<oci::Digest, std::vector<std::string>> layers;  // pinned, and by whom
  std::map<oci::Digest, std::vector<std::string>> blobs;
};

/// A root's layers below the first that was given up, which has no row any more. A fix-up above
/// that one has links to its files, and is to be made anew with it.
std::vector<oci::Digest> kept_chain(const RootRow& root, const CatalogState& state);

/// What a collection does with each thing, and why: no I/O. `is_container` may be empty.
GcReport plan_gc(const StoreContent& content, const CatalogState& state, const StoreUse& use,
                 const std::function<bool(const std::string&)>& is_container);

}  // namespace fluyt::image
