#include "oci/digest.h"
namespace fluyt::oci {}
