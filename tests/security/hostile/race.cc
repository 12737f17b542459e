#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <thread>

#include "commands.h"

namespace fluyt::hostile {

namespace {

// Each process's two names lead to the other's file in turn, at every phase of what is raced: the
// pauses are random, and some are none.
void swap(const char* one, const char* two, uint64_t seed, const std::atomic<bool>& over,
          std::atomic<uint64_t>& swaps) {
  std::mt19937_64 random(seed);
  while (!over.load(std::memory_order_relaxed)) {
    if (renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE) == 0) swaps.fetch_add(1);
    if (random() % 4 == 0) usleep(static_cast<useconds_t>(random() % 300));
  }
}

}  // namespace

// race ONE TWO: exchanges the two until standard input ends, then says how often.
int race(Arguments args) {
  if (args.size() != 2) return 2;
  std::atomic<bool> over = false;
  std::atomic<uint64_t> swaps = 0;
  std::thread first(swap, args[0], args[1], 1, std::cref(over), std::ref(swaps));
  std::thread second(swap, args[0], args[1], 2, std::cref(over), std::ref(swaps));
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  over = true;
  first.join();
  second.join();
  std::printf("%llu swaps\n", static_cast<unsigned long long>(swaps.load()));
  return 0;
}

}  // namespace fluyt::hostile
