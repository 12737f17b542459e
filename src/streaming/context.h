#pragma once

#include "base/log.h"
#include "engine/engine.h"
#include "streaming/farewell.h"
#include "streaming/loop.h"
#include "streaming/workers.h"

namespace fluyt::streaming {

/// What every relay needs. Lives as long as the server.
struct Context {
  engine::Engine& engine;
  Loop& loop;
  Workers& workers;
  Farewells& farewells;
  Logger& logger;
  int64_t streams_ms;
  /// How long a forwarded connection stays whose client has closed and whose server says nothing.
  int64_t half_closed_ms = 10'000;
};

}  // namespace fluyt::streaming
