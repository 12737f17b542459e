#include "cmd/fluyt/text/image_tree.h"

#include <algorithm>

#include "base/strings.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

std::string padded(std::string text, size_t columns) {
  if (columns_of(text) < columns) text.append(columns - columns_of(text), ' ');
  return text;
}

std::string list_of(const char* what, const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) shown.push_back(printable(name));
  return names.empty() ? "" : cat(what, join(shown, ", "));
}

}  // namespace

std::string draw_tree(const TreeImage& image) {
  std::string out = cat(printable(image.name), "  ", printable(short_id(image.id)), "  ",
                        human_size(image.disk_bytes), " on disk: ", human_size(image.shared_bytes),
                        " shared, ", human_size(image.unique_bytes), " of its own\n");
  std::vector<std::string> sizes;
  std::vector<std::string> blobs;
  size_t size_columns = 0;
  size_t blob_columns = 0;
  for (const TreeLayer& layer : image.layers) {
    sizes.push_back(human_size(layer.disk_bytes));
    blobs.push_back(layer.blob_kept ? cat("+ blob ", human_size(layer.blob_bytes)) : "");
    size_columns = std::max(size_columns, sizes.back().size());
    blob_columns = std::max(blob_columns, blobs.back().size());
  }
  for (size_t i = 0; i < image.layers.size(); ++i) {
    const TreeLayer& layer = image.layers[i];
    const bool last = i + 1 == image.layers.size();
    std::string line = cat(last ? "└─ " : "├─ ", printable(short_id(layer.diff_id)), "  ",
                           std::string(size_columns - sizes[i].size(), ' '), sizes[i]);
    if (blob_columns != 0) line += cat("  ", padded(blobs[i], blob_columns));
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
    const char* stem = last ? "      " : "│     ";
    for (const std::string& who :
         {list_of("also in ", layer.images), list_of("under ", layer.containers)}) {
      if (!who.empty()) out += cat(stem, who, "\n");
    }
  }
  return out;
}

}  // namespace fluyt::cli
