#include "cmd/runtime/packed/packed.h"

#include <concepts>
#include <cstring>
#include <utility>
#include <vector>

namespace fluyt::commands {

namespace {

// The number counts up when a field changes its meaning; the sizes change with the fields.
constexpr std::string_view kMagic = "runf packed 2\n";
constexpr uint64_t kSizes = (sizeof(oci::Process) << 40U) + (sizeof(oci::Linux) << 24U) +
                            (sizeof(oci::Seccomp) << 12U) + sizeof(Packed);

class Packer {
 public:
  explicit Packer(std::string& out) : out_(out) {}
  template <class... Ts>
  void operator()(const Ts&... values) {
    (put(values), ...);
  }
  template <class T>
  void put(const T& value);

 private:
  std::string& out_;
};

class Unpacker {
 public:
  explicit Unpacker(std::string_view text) : left_(text) {}
  template <class... Ts>
  void operator()(Ts&... values) {
    (get(values), ...);
  }
  template <class T>
  void get(T& value);
  bool whole() const { return !failed_ && left_.empty(); }

 private:
  std::string_view take(size_t size) {
    if (size > left_.size()) failed_ = true;
    if (failed_) return {};
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }
  std::string_view left_;
  bool failed_ = false;
};

template <class T, class Struct>
concept Is = std::same_as<std::remove_const_t<T>, Struct>;

// The fields of each struct, once for both directions.
void walk(auto& each, Is<oci::ConsoleSize> auto& v) { each(v.height, v.width); }
void walk(auto& each, Is<oci::User> auto& v) { each(v.uid, v.gid, v.umask, v.additional_gids); }
void walk(auto& each, Is<oci::Rlimit> auto& v) { each(v.type, v.soft, v.hard); }
void walk(auto& each, Is<oci::Capabilities> auto& v) {
  each(v.bounding, v.effective, v.inheritable, v.permitted, v.ambient);
}
void walk(auto& each, Is<oci::Scheduler> auto& v) {
  each(v.policy, v.nice, v.priority, v.flags, v.runtime, v.deadline, v.period);
}
void walk(auto& each, Is<oci::IoPriority> auto& v) { each(v.io_class, v.priority); }
void walk(auto& each, Is<oci::ExecCpuAffinity> auto& v) { each(v.initial, v.final); }
void walk(auto& each, Is<oci::Process> auto& v) {
  each(v.terminal, v.console_size, v.user, v.args, v.env, v.cwd, v.capabilities, v.rlimits,
       v.no_new_privileges, v.apparmor_profile, v.selinux_label, v.oom_score_adj, v.scheduler,
       v.io_priority, v.exec_cpu_affinity);
}
void walk(auto& each, Is<oci::Namespace> auto& v) { each(v.type, v.path); }
void walk(auto& each, Is<oci::IntelRdt> auto& v) {
  each(v.clos_id, v.l3_cache_schema, v.mem_bw_schema, v.schemata, v.enable_monitoring);
}
void walk(auto& each, Is<oci::MemoryPolicy> auto& v) { each(v.mode, v.nodes, v.flags); }
void walk(auto& each, Is<oci::Personality> auto& v) { each(v.domain, v.flags); }
void walk(auto& each, Is<oci::SeccompArg> auto& v) { each(v.index, v.value, v.value_two, v.op); }
void walk(auto& each, Is<oci::SeccompSyscalls> auto& v) {
  each(v.names, v.action, v.errno_ret, v.args);
}
void walk(auto& each, Is<oci::Seccomp> auto& v) {
  each(v.default_action, v.default_errno_ret, v.architectures, v.flags, v.listener_path,
       v.listener_metadata, v.syscalls);
}
void walk(auto& each, Is<oci::Linux> auto& v) {
  each(v.namespaces, v.intel_rdt, v.memory_policy, v.seccomp, v.personality);
}
void walk(auto& each, Is<runtime::SystemdUnit> auto& v) { each(v.name, v.slice, v.user); }
void walk(auto& each, Is<runtime::CgroupRecord> auto& v) { each(v.unified, v.legacy, v.unit); }
void walk(auto& each, Is<Packed> auto& v) {
  each(v.id, v.pid, v.start_time, v.boot_id, v.bundle, v.annotations, v.no_new_keyring, v.cgroup,
       v.process, v.linux_);
}

template <class T>
inline constexpr bool kIsNumber = std::integral<T> || std::is_enum_v<T>;
template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;
template <class T>
inline constexpr bool kIsPair = false;
template <class A, class B>
inline constexpr bool kIsPair<std::pair<A, B>> = true;

template <class T>
void Packer::put(const T& value) {
  if constexpr (kIsNumber<T>) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  } else if constexpr (std::same_as<T, std::string>) {
    put(static_cast<uint32_t>(value.size()));
    out_ += value;
  } else if constexpr (kIsList<T>) {
    put(static_cast<uint32_t>(value.size()));
    for (const auto& one : value) put(one);
  } else if constexpr (kIsOptional<T>) {
    put(value.has_value());
    if (value) put(*value);
  } else if constexpr (kIsPair<T>) {
    (*this)(value.first, value.second);
  } else {
    walk(*this, value);
  }
}

template <class T>
void Unpacker::get(T& value) {
  if constexpr (std::same_as<T, bool>) {
    char byte = 0;
    get(byte);
    value = byte != 0;
  } else if constexpr (kIsNumber<T>) {
    const std::string_view bytes = take(sizeof value);
    if (!failed_) memcpy(&value, bytes.data(), sizeof value);
  } else if constexpr (std::same_as<T, std::string>) {
    uint32_t size = 0;
    get(size);
    value = take(size);
  } else if constexpr (kIsList<T>) {
    uint32_t count = 0;
    get(count);
    if (count > left_.size()) failed_ = true;  // each takes a byte at least
    if (!failed_) value.reserve(count);
    for (uint32_t i = 0; i < count && !failed_; ++i) get(value.emplace_back());
  } else if constexpr (kIsOptional<T>) {
    bool there = false;
    get(there);
    if (there) get(value.emplace());
  } else if constexpr (kIsPair<T>) {
    (*this)(value.first, value.second);
  } else {
    walk(*this, value);
  }
}

}  // namespace

std::string pack(const Packed& packed, std::string_view stamp) {
  std::string text(kMagic);
  Packer packer(text);
  packer(kSizes, std::string(stamp), packed);
  return text;
}

std::optional<Packed> unpack(std::string_view text, std::string_view stamp) {
  if (!text.starts_with(kMagic)) return std::nullopt;
  Unpacker unpacker(text.substr(kMagic.size()));
  uint64_t sizes = 0;
  std::string found;
  unpacker(sizes, found);
  if (sizes != kSizes || found != stamp) return std::nullopt;
  std::optional<Packed> packed(std::in_place);
  unpacker(*packed);
  if (!unpacker.whole()) return std::nullopt;
  return packed;
}

}  // namespace fluyt::commands
