#include "image/policy/gpg.h"

#include "base/base64.h"
#include "base/strings.h"
#include "image/policy/payload.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::image::policy {

namespace {

constexpr int64_t kGpgMs = 20'000;
constexpr size_t kMaxOutput = 256UL << 10U;

// What gpgv says on its status descriptor (doc/DETAILS of GnuPG), for one signature.
struct Status {
  int signatures = 0;
  int good = 0;
  int valid = 0;
  std::string trouble;

  static Status read(std::string_view text) {
    Status out;
    for (const std::string_view line : split(text, '\n')) {
      const auto words = split_words(line);
      if (words.size() < 2 || words[0] != "[GNUPG:]") continue;
      const std::string_view what = words[1];
      if (what == "NEWSIG") ++out.signatures;
      if (what == "GOODSIG") ++out.good;
      if (what == "VALIDSIG") ++out.valid;
      for (const std::string_view bad : {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG",
                                         "NODATA", "UNEXPECTED", "FAILURE"}) {
        if (what == bad && out.trouble.empty()) out.trouble = std::string(what);
      }
    }
    return out;
  }
  bool is_one_good() const { return signatures == 1 && good == 1 && valid == 1 && trouble.empty(); }
};

}  // namespace

Result<std::string> dearmor(std::string_view key) {
  const auto wrong = [](std::string_view what) {
    return Error(Code::kInvalidArgument, cat("OpenPGP key: ", what));
  };
  const size_t begin = key.find("-----BEGIN PGP PUBLIC KEY BLOCK-----");
  if (begin == std::string_view::npos) {
    // A packet has its highest bit set, text has not.
    if (key.empty() || (static_cast<unsigned char>(key[0]) & 0x80U) == 0) {
      return wrong("expected a keyring, or -----BEGIN PGP PUBLIC KEY BLOCK-----");
    }
    return std::string(key);
  }
  std::string out;
  std::string encoded;
  bool in_headers = false;
  bool inside = false;
  for (std::string_view line : split(key.substr(begin), '\n')) {
    line = trim(line);
    if (line.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----")) {
      inside = in_headers = true;
    } else if (inside && in_headers) {
      if (line.empty()) in_headers = false;
    } else if (inside && line.starts_with("-----END")) {
      auto bytes = base64_decode(encoded);
      if (!bytes) return wrong("its armor is not base64");
      out += *bytes;
      encoded.clear();
      inside = false;
    } else if (inside && !line.starts_with('=')) {  // "=…" is a checksum of the armor alone
      encoded += line;
    }
  }
  if (inside || out.empty()) return wrong("its armor does not end");
  return out;
}

Result<std::string> open_signed_message(const std::string& program,
                                        const std::vector<std::string>& keyrings,
                                        std::string_view message, Deadline deadline) {
  const sys::TempDir folder = FLUYT_TRY(sys::TempDir::create());
  const auto put = [&](const std::string& name, std::string_view bytes) -> Result<std::string> {
    std::string path = cat(folder.path(), "/", name);
    FLUYT_TRY(sys::write_file_atomic(sys::kCwd, path, bytes, 0600));
    return path;
  };
  std::vector<std::string> args{program, "--quiet", "--homedir", folder.path(), "--status-fd", "1"};
  for (size_t i = 0; i < keyrings.size(); ++i) {
    args.emplace_back("--keyring");
    args.push_back(FLUYT_TRY(put(cat("keys-", i), keyrings[i])));
  }
  const std::string content = folder.path() + "/content";
  args.insert(args.end(), {"--output", content});
  args.push_back(FLUYT_TRY(put("signature", message)));
  const sys::Captured done =
      FLUYT_TRY_CONTEXT(sys::run({.args = std::move(args), .env = {"LC_ALL=C"}}, "", kMaxOutput,
                                 Deadline::sooner_of(deadline, Deadline::after_ms(kGpgMs))),
                        "signedBy");
  const Status status = Status::read(done.out);
  if (done.timed_out || done.status.shell_code() != 0 || !status.is_one_good()) {
    const std::string_view said = trim(done.err);
    return Error(
        Code::kPermissionDenied,
        cat("gpgv: ",
            done.timed_out ? "did not end in time"
                           : "no good signature of these "
                             "keys",
            status.trouble.empty() ? "" : " (", status.trouble, status.trouble.empty() ? "" : ")",
            said.empty() ? "" : ": ", said.empty() ? "" : quote(said)));
  }
  return sys::read_file(content, kMaxPayloadBytes);
}

}  // namespace fluyt::image::policy
