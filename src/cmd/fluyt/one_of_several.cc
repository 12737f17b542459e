#include "cmd/fluyt/one_of_several.h"

#include "base/strings.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

void tell(const control::OneOfSeveral& one) {
  write_out(Stream::kErr,
            cat("fluyt: ", printable(one.image()), " came by an index of several platforms, ",
                printable(one.index()), ": what goes out is the manifest for ",
                printable(one.platform()), " alone, ", printable(one.manifest()), "\n"));
}

}  // namespace fluyt::cli
