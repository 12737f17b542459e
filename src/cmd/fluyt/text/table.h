#pragma once

#include <string>
#include <vector>

namespace fluyt::cli {

/// Aligned columns under capital headings. Cells are made printable here.
class Table {
 public:
  explicit Table(std::vector<std::string> headings) : rows_{std::move(headings)} {}
  /// As many cells as there are headings.
  void add(std::vector<std::string> cells);
  /// Lines that end in newlines; no spaces at their ends.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace fluyt::cli
