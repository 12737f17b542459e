#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"

/// Reading a cgroup: figures as values, the same on v1 and v2.
namespace fluyt::runtime::cgroup {

struct CpuStats {
  uint64_t usage_ns = 0;
  uint64_t user_ns = 0;
  uint64_t system_ns = 0;
  uint64_t periods = 0;
  uint64_t throttled_periods = 0;
  uint64_t throttled_ns = 0;
  // v1 only, by the number of the CPU.
  std::vector<uint64_t> per_cpu_ns;
  std::vector<uint64_t> per_cpu_user_ns;
  std::vector<uint64_t> per_cpu_system_ns;
};

/// Whose CPUs and memory nodes it is, and how: what is in force. The flags are v1's.
struct CpusetStats {
  std::vector<unsigned> cpus;
  std::vector<unsigned> mems;
  uint64_t cpu_exclusive = 0;
  uint64_t mem_hardwall = 0;
  uint64_t mem_exclusive = 0;
  uint64_t memory_migrate = 0;
  uint64_t memory_spread_page = 0;
  uint64_t memory_spread_slab = 0;
  uint64_t memory_pressure = 0;
  uint64_t sched_load_balance = 0;
  int64_t sched_relax_domain_level = 0;
};

/// One of v1's further counters: kernel memory, TCP buffers, memory and swap together.
struct MemoryCounter {
  std::optional<uint64_t> limit_bytes;  // empty: none
  uint64_t usage_bytes = 0;
  uint64_t max_usage_bytes = 0;
  uint64_t limit_hits = 0;
};

struct MemoryStats {
  uint64_t usage_bytes = 0;
  std::optional<uint64_t> max_usage_bytes;  // v1, and v2 from 5.19
  std::optional<uint64_t> limit_bytes;      // empty: none
  uint64_t working_set_bytes = 0;           // usage less inactive_file
  uint64_t rss_bytes = 0;
  uint64_t cache_bytes = 0;
  std::optional<uint64_t> kernel_bytes;  // page tables, stacks, socket buffers, ...
  uint64_t page_faults = 0;
  uint64_t major_page_faults = 0;
  std::optional<uint64_t> swap_usage_bytes;  // swap alone
  std::optional<uint64_t> swap_limit_bytes;  // swap alone; empty: none
  uint64_t limit_hits = 0;                   // failcnt, or the "max" event
  uint64_t oom_kills = 0;
  std::optional<MemoryCounter> kernel;           // v1
  std::optional<MemoryCounter> kernel_tcp;       // v1
  std::optional<MemoryCounter> memory_and_swap;  // v1 where the kernel accounts swap
  /// Every line of memory.stat that has a number.
  std::vector<std::pair<std::string, uint64_t>> details;
};

struct PidsStats {
  uint64_t current = 0;
  std::optional<uint64_t> limit;  // empty: none
};

struct IoStats {
  int64_t major = 0;
  int64_t minor = 0;
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t reads = 0;
  uint64_t writes = 0;
};

struct HugetlbStats {
  std::string page_size;  // "2MB"
  uint64_t usage_bytes = 0;
  std::optional<uint64_t> max_usage_bytes;  // v1
  uint64_t limit_hits = 0;
};

/// Pressure stall information: percentages over 10, 60 and 300 s, and the sum in microseconds.
struct Pressure {
  struct Line {
    double avg10 = 0;
    double avg60 = 0;
    double avg300 = 0;
    uint64_t total_us = 0;
  };
  Line some;
  Line full;
};

/// Parts whose controller is not there are empty.
struct Stats {
  std::optional<CpuStats> cpu;
  std::optional<CpusetStats> cpuset;
  std::optional<MemoryStats> memory;
  std::optional<PidsStats> pids;
  std::vector<IoStats> io;
  std::vector<HugetlbStats> hugetlb;
  std::optional<Pressure> cpu_pressure;
  std::optional<Pressure> memory_pressure;
  std::optional<Pressure> io_pressure;
};
/// kNotFound when the cgroup is gone.
Result<Stats> stats(const CgroupRecord& record);
/// The parts that a summary of many containers wants (CRI ListContainerStats): cpu, memory, pids
/// and pressure.
Result<Stats> brief_stats(const CgroupRecord& record);
/// How many processes of the cgroup the OOM killer has ended. 0 without a memory controller.
Result<uint64_t> oom_kills(const CgroupRecord& record);

/// Tells of OOM kills by a pollable descriptor: inotify on memory.events (v2), an eventfd
/// registered in cgroup.event_control (v1). One thread.
class OomWatch {
 public:
  /// kFailedPrecondition without a memory controller.
  static Result<OomWatch> create(const CgroupRecord& record);
  /// Readable (EPOLLIN) when something may have happened. Also when the cgroup goes.
  sys::FdRef fd() const { return fd_; }
  /// Empties the descriptor; true when processes were killed since create() or the last call. False
  /// once the cgroup is gone.
  Result<bool> take();

 private:
  OomWatch(sys::Fd fd, CgroupRecord record, uint64_t seen)
      : fd_(std::move(fd)), record_(std::move(record)), seen_(seen) {}
  sys::Fd fd_;
  CgroupRecord record_;
  uint64_t seen_;
};

}  // namespace fluyt::runtime::cgroup
