#include "image/layer/walk_budget.h"

#include "base/strings.h"

namespace fluyt::image {

Result<> WalkBudget::spend(uint64_t directories) {
  spent_ += directories;
  if (spent_ <= allowed_) return {};
  return Error(Code::kResourceExhausted,
               cat("the names and links of its entries lead through more than the ", allowed_,
                   " directories that so many entries may cost"));
}

}  // namespace fluyt::image
