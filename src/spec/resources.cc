#include "base/strings.h"
#include "spec/container_spec.h"

namespace fluyt::spec {
namespace {

constexpr std::string_view kField = "linux.resources.";

Error wrong(std::string_view field, int64_t value, std::string_view expected) {
  return {Code::kInvalidArgument, cat(kField, field, ": ", value, ": expected ", expected)};
}

Result<> check_amounts(const Resources& asked) {
  const std::pair<const char*, int64_t> amounts[] = {
      {"cpu_period", asked.cpu_period},
      {"cpu_shares", asked.cpu_shares},
      {"memory_limit_in_bytes", asked.memory_limit_bytes}};
  for (const auto& [field, value] : amounts) {
    if (value < 0) {
      return wrong(field, value, "0 or more");
    }
  }
  if (asked.cpu_quota < -1) {
    return wrong("cpu_quota", asked.cpu_quota, "microseconds, or -1 for no limit");
  }
  if (asked.memory_swap_limit_bytes < -1) {
    return wrong("memory_swap_limit_in_bytes", asked.memory_swap_limit_bytes,
                 "bytes of memory and swap, or -1 for no limit");
  }
  return {};
}

/// Lists such as "0-3,7": they are written into a kernel file as they are.
Result<> check_cpu_list(std::string_view field, std::string_view list) {
  if (list.find_first_not_of("0123456789,-") != std::string_view::npos) {
    return Error(Code::kInvalidArgument,
                 cat(kField, field, ": ", quote(list), ": expected a list such as 0-3,7"));
  }
  return {};
}

bool is_page_size(std::string_view text) {
  if (text.size() < 3 || text.size() > 16 || !text.ends_with('B') ||
      std::string_view("KMG").find(text[text.size() - 2]) == std::string_view::npos) {
    return false;
  }
  const std::string_view digits = text.substr(0, text.size() - 2);
  return digits.front() != '0' && digits.find_first_not_of("0123456789") == std::string_view::npos;
}

Result<std::optional<oci::CpuResources>> cpu_of(const Resources& asked) {
  FLUYT_TRY(check_cpu_list("cpuset_cpus", asked.cpuset_cpus));
  FLUYT_TRY(check_cpu_list("cpuset_mems", asked.cpuset_mems));
  oci::CpuResources cpu;
  if (asked.cpu_shares != 0) {
    cpu.shares = static_cast<uint64_t>(asked.cpu_shares);
  }
  if (asked.cpu_quota != 0) {
    cpu.quota = asked.cpu_quota;
  }
  if (asked.cpu_period != 0) {
    cpu.period = static_cast<uint64_t>(asked.cpu_period);
  }
  cpu.cpus = asked.cpuset_cpus;
  cpu.mems = asked.cpuset_mems;
  if (cpu == oci::CpuResources{}) {
    return std::optional<oci::CpuResources>();
  }
  return std::optional(cpu);
}

std::optional<oci::MemoryResources> memory_of(const Resources& asked, const Host& host) {
  oci::MemoryResources memory;
  if (asked.memory_limit_bytes != 0) {
    memory.limit = asked.memory_limit_bytes;
  }
  if (host.swap_limits) {
    if (asked.memory_swap_limit_bytes != 0) {
      memory.swap = asked.memory_swap_limit_bytes;
    } else {
      memory.swap = memory.limit;  // as much as the memory alone: none of it may be swapped out
    }
  }
  if (memory == oci::MemoryResources{}) {
    return std::nullopt;
  }
  return memory;
}

Result<std::vector<oci::HugepageLimit>> hugepages_of(const Resources& asked, const Host& host) {
  std::vector<oci::HugepageLimit> limits;
  for (const auto& [size, bytes] : asked.hugepage_limits) {
    if (!is_page_size(size)) {
      return Error(Code::kInvalidArgument, cat(kField, "hugepage_limits: page_size ", quote(size),
                                               ": expected one such as 2MB"));
    }
    if (host.hugetlb) {
      limits.push_back({.page_size = size, .limit = bytes});
    } else if (bytes != 0) {  // no controller: nobody has pages, which is what 0 asks for
      return Error(Code::kFailedPrecondition,
                   cat(kField, "hugepage_limits: ", size, ": the host has no hugetlb controller"));
    }
  }
  return limits;
}

Result<> check_unified(const Resources& asked, const Host& host) {
  if (!asked.unified.empty() && !host.cgroup_v2) {
    return Error(Code::kFailedPrecondition,
                 cat(kField, "unified: ", quote(asked.unified.begin()->first),
                     ": the host has no cgroup v2 controllers"));
  }
  for (const auto& [key, value] : asked.unified) {
    const bool file = !key.empty() && key.size() <= 255 && key.front() != '.' &&
                      key.find('/') == std::string::npos && !has_control_characters(key) &&
                      is_utf8(key);
    if (!file || !is_utf8(value) || value.find('\0') != std::string::npos) {
      return Error(Code::kInvalidArgument,
                   cat(kField, "unified: ", quote(key), " = ", quote(value),
                       ": expected the name of a cgroup file and its value"));
    }
  }
  return {};
}

}  // namespace

Result<oci::Resources> resources_of(const Resources& asked, const Host& host) {
  FLUYT_TRY(check_amounts(asked));
  FLUYT_TRY(check_unified(asked, host));
  oci::Resources out;
  out.cpu = FLUYT_TRY(cpu_of(asked));
  out.memory = memory_of(asked, host);
  out.hugepage_limits = FLUYT_TRY(hugepages_of(asked, host));
  if (asked.pids_limit > 0) {
    out.pids_limit = asked.pids_limit;
  } else if (asked.pids_limit < 0) {
    out.pids_limit = -1;
  }
  out.unified = asked.unified;
  return out;
}

}  // namespace fluyt::spec
