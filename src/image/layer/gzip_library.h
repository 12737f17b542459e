#pragma once

// ISA-L is 2.5 times zlib, on the machines it is made for; elsewhere zlib does the same work.
#if __has_include(<isa-l/igzip_lib.h>) && !defined(FLUYT_USE_ZLIB)
#include <isa-l/igzip_lib.h>
#define FLUYT_HAVE_ISAL 1
#else
#include <zlib.h>
#endif
