#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

/// CRIU's requests and answers as bytes: protobuf's wire format for the few fields that we use, so
/// that a static program needs no protobuf library. Field numbers are those of CRIU's rpc.proto.
/// Pure.
namespace fluyt::runtime::checkpoint {

enum class RequestType : uint32_t {
  kDump = 1,
  kRestore = 2,
  kPreDump = 4,
  kNotify = 6,
  kFeatureCheck = 9,
  kVersion = 10,
};

/// How CRIU treats cgroups: criu_cg_mode.
enum class CgroupMode : uint32_t { kIgnore = 0, kSoft = 3, kFull = 4, kStrict = 5 };

/// criu_opts. What is not set is not sent.
struct CriuOptions {
  int images_fd = -1;
  int work_fd = -1;  // -1: the images' folder
  std::string log_file;
  int pid = 0;       // to dump
  std::string root;  // to restore into
  bool leave_running = false;
  bool ext_unix_sk = false;
  bool tcp_established = false;
  bool tcp_skip_in_flight = false;
  bool shell_job = false;
  bool file_locks = false;
  bool link_remap = false;
  bool auto_dedup = false;
  bool lazy_pages = false;
  bool track_memory = false;
  bool orphan_pts_master = false;
  bool restore_sibling = false;
  bool evasive_devices = false;
  bool empty_network = false;
  CgroupMode cgroup_mode = CgroupMode::kIgnore;
  std::string parent_image;
  std::string freeze_cgroup;
  std::string page_server_address;
  int page_server_port = 0;
  std::string lsm_profile;
  std::string lsm_mount_context;
  std::vector<std::pair<std::string, std::string>> external_mounts;  // key and value
  std::vector<std::string> external;
  std::vector<std::pair<std::string, int>> inherited;             // key and descriptor
  std::vector<std::pair<std::string, std::string>> joins;         // "ipc" and the namespace's file
  std::vector<std::pair<std::string, std::string>> cgroup_roots;  // controller and path
};

/// A DUMP, PRE_DUMP or RESTORE.
std::string encode_request(RequestType type, const CriuOptions& options);
/// VERSION, and FEATURE_CHECK of memory tracking and lazy pages; the connection stays open for
/// more.
std::string encode_question(RequestType type);
/// The answer to a notification.
std::string encode_notified(bool success);

/// criu_resp.
struct Response {
  uint32_t type = 0;
  bool success = false;
  int error_number = 0;
  std::string error_message;
  int restored_pid = 0;
  std::string script;  // of a notification: "pre-resume"
  int script_pid = 0;
  int major = 0;
  int minor = 0;
  int sublevel = 0;
  bool memory_tracking = false;
  bool lazy_pages = false;
};
/// Bytes that are no such message are kDataLoss.
Result<Response> parse_response(std::string_view bytes);

}  // namespace fluyt::runtime::checkpoint
