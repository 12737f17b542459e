#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fluyt::cli {

struct TreeLayer {
  std::string diff_id;
  uint64_t disk_bytes = 0;
  uint64_t blob_bytes = 0;
  bool blob_kept = false;
  std::vector<std::string> images;      // names of the others that have it
  std::vector<std::string> containers;  // names of those that stand on it
};
struct TreeImage {
  std::string name;
  std::string id;
  uint64_t disk_bytes = 0;
  uint64_t shared_bytes = 0;
  uint64_t unique_bytes = 0;
  std::vector<TreeLayer> layers;  // lowest first
};

/// The image as a tree of lines, the lowest layer at its root's side, and at each layer who else
/// has it. Made printable here.
std::string draw_tree(const TreeImage& image);

}  // namespace fluyt::cli
