#include "image/policy/verify.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/policy/gpg.h"
#include "image/policy/payload.h"
#include "image/policy/public_key.h"
#include "image/policy/verifier_programs.h"
#include "sys/file.h"

namespace fluyt::image::policy {

namespace {

constexpr size_t kMaxKeyBytes = 1UL << 20U;
constexpr size_t kMaxNamespace = 63;

Error refused(std::string text) { return {Code::kPermissionDenied, std::move(text)}; }

// A Kubernetes namespace is a DNS label; anything else is no file name of ours.
bool is_namespace(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNamespace && name.front() != '-' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

Result<std::string> policy_file_for(const VerifyOptions& options, const std::string& name) {
  if (options.policy_folder.empty() || name.empty()) return options.policy_file;
  if (!is_namespace(name)) {
    return Error(Code::kInvalidArgument, cat("namespace ", quote(name), ": expected a DNS label"));
  }
  std::string own = cat(options.policy_folder, "/", name, ".json");
  return sys::exists(own) ? own : options.policy_file;
}

// The manifests whose signature is good for this image: what the name points at, and what was
// chosen in it. Each holds the other fast: the index by the digests it lists, the manifest by being
// it.
std::vector<oci::Digest> candidates(const Question& question) {
  std::vector<oci::Digest> out{question.target.digest};
  if (question.chosen && *question.chosen != question.target.digest)
    out.push_back(*question.chosen);
  return out;
}

// The requirement with its keys in it.
Result<Requirement> with_keys(Requirement requirement) {
  for (const std::string& file : requirement.key_files) {
    requirement.key_data.push_back(FLUYT_TRY(sys::read_file(file, kMaxKeyBytes)));
  }
  requirement.key_files.clear();
  return requirement;
}

bool wants_signatures(const Requirement& requirement) {
  return requirement.kind == Requirement::Kind::kSignedBy ||
         requirement.kind == Requirement::Kind::kSigstoreSigned;
}

std::string where(const Rules& rules, size_t index) {
  return cat("image policy ", rules.file, ": ", rules.place, "[", index, "] (",
             name_of(rules.requirements[index].kind), ")");
}

// Pieces with their lengths before them, so that no two lists run together to one text.
void append(std::string& out, std::string_view piece) { out += cat(piece.size(), ":", piece); }

void append(std::string& out, const Requirement& requirement) {
  const SignedIdentity& identity = requirement.identity;
  append(out, name_of(requirement.kind));
  append(out, cat(static_cast<int>(identity.kind)));
  for (const std::string* part : {&identity.name, &identity.prefix, &identity.signed_prefix}) {
    append(out, *part);
  }
  append(out, cat(requirement.key_data.size()));
  for (const std::string& key : requirement.key_data) append(out, key);
}

// A program is told from what stood in its place before by what the file system says of it.
Result<> append_program(std::string& out, const std::string& folder, const std::string& name) {
  const std::string path = cat(folder, "/", name);
  append(out, path);
  const auto file = sys::open(path, O_PATH);
  if (!file.ok() && file.error().code() == Code::kNotFound) return {};  // running it will say so
  if (!file.ok()) return file.error();
  const struct stat info = FLUYT_TRY(sys::stat_of(*file));
  append(out, cat(info.st_size, " ", info.st_ino, " ", info.st_mtim.tv_sec, " ",
                  info.st_mtim.tv_nsec, " ", info.st_ctim.tv_sec, " ", info.st_ctim.tv_nsec));
  return {};
}

// What a payload that was signed by a right key still has to say. "" is: all is well.
Result<std::string> objection_to(std::string_view payload_text, PayloadType type,
                                 const oci::Digest& manifest, const Requirement& requirement,
                                 const Question& question) {
  const auto payload = parse_payload(payload_text, type);
  if (!payload.ok()) return payload.error().message();
  if (payload->digest != manifest) {
    return cat("a signature is for ", payload->digest.text(), ", not ", manifest.text());
  }
  if (!identity_matches(requirement.identity, question.reference, payload->name)) {
    return cat("a signature is for the name ", quote(payload->name), ", which does not fit ",
               quote(question.reference.text()));
  }
  return std::string();
}

// A server that does not let us have signatures says nothing about the image: only a rule refuses.
template <class T>
Result<T> fetched(Result<T> result) {
  if (result.ok() || result.error().code() != Code::kPermissionDenied) return result;
  return std::move(result).error().with_code(Code::kUnavailable);
}

Result<> check_sigstore(const Requirement& requirement, const Question& question,
                        Signatures& signatures) {
  std::vector<PublicKey> keys;
  for (const std::string& text : requirement.key_data) {
    keys.push_back(FLUYT_TRY(PublicKey::parse(text)));
  }
  size_t seen = 0;
  std::string objection;
  std::optional<Error> trouble;
  std::string unread;
  for (const oci::Digest& manifest : candidates(question)) {
    auto had = FLUYT_TRY(fetched(signatures.sigstore(manifest)));
    if (had.trouble.has_value() && !trouble.has_value()) trouble = std::move(had.trouble);
    if (unread.empty()) unread = std::move(had.unread);
    for (const SigstoreSignature& one : had.found) {
      ++seen;
      const bool ours = std::any_of(keys.begin(), keys.end(), [&](const PublicKey& key) {
        return key.verifies(one.payload, one.signature);
      });
      if (!ours) continue;
      std::string why = FLUYT_TRY(
          objection_to(one.payload, PayloadType::kCosign, manifest, requirement, question));
      if (why.empty()) return {};
      objection = std::move(why);
    }
  }
  // What was not seen may have proven it.
  if (trouble.has_value()) return fetched(Result<>(std::move(*trouble)));
  if (!objection.empty()) return refused(std::move(objection));
  if (seen == 0 && !unread.empty()) {
    return refused(cat("a sigstore bundle (", quote(unread), ") is attached to ",
                       question.target.digest.text(),
                       ", which is not read: sign with cosign sign --new-bundle-format=false "
                       "--use-signing-config=false"));
  }
  if (seen == 0) return refused(cat("no signature is attached to ", question.target.digest.text()));
  return refused(
      cat(seen, seen == 1 ? " signature, not" : " signatures, none", " by the key given"));
}

Result<> check_simple(const VerifyOptions& options, const Requirement& requirement,
                      const Question& question, Signatures& signatures, Deadline deadline) {
  std::vector<std::string> keyrings;
  for (const std::string& text : requirement.key_data) {
    keyrings.push_back(FLUYT_TRY(dearmor(text)));
  }
  std::string objection;
  for (const oci::Digest& manifest : candidates(question)) {
    const auto found = FLUYT_TRY(fetched(signatures.simple(manifest)));
    for (const std::string& message : found) {
      const auto payload = open_signed_message(options.gpgv_program, keyrings, message, deadline);
      if (!payload.ok()) {
        objection = payload.error().message();
        continue;
      }
      std::string why =
          FLUYT_TRY(objection_to(*payload, PayloadType::kAtomic, manifest, requirement, question));
      if (why.empty()) return {};
      objection = std::move(why);
    }
  }
  if (!objection.empty()) return refused(std::move(objection));
  return refused(cat("no signature was found for ", question.target.digest.text()));
}

Result<> check_requirement(const VerifyOptions& options, const Requirement& requirement,
                           const Question& question, Signatures& signatures, Deadline deadline) {
  switch (requirement.kind) {
    case Requirement::Kind::kAccept:
      return {};
    case Requirement::Kind::kReject:
      return refused("this rule refuses everything");
    case Requirement::Kind::kSignedBy:
      return check_simple(options, requirement, question, signatures, deadline);
    case Requirement::Kind::kSigstoreSigned:
      return check_sigstore(requirement, question, signatures);
  }
  return refused("unknown");
}

Result<> check_pins(const DigestPins& pins, const Question& question) {
  std::string name = question.reference.name();
  while (true) {
    if (const auto found = pins.find(name); found != pins.end()) {
      const auto& allowed = found->second;
      if (std::find(allowed.begin(), allowed.end(), question.target.digest) != allowed.end()) {
        return {};
      }
      return refused(cat("pinned_digests[", quote(name), "]: ", question.target.digest.text(),
                         ": expected one of the ", allowed.size(), " digests listed"));
    }
    const size_t slash = name.rfind('/');
    if (slash == std::string::npos) return {};
    name.resize(slash);
  }
}

}  // namespace

Result<> add_pin(DigestPins& pins, const std::string& name,
                 const std::vector<std::string>& digests) {
  std::vector<oci::Digest> parsed;
  for (const std::string& digest : digests) parsed.push_back(FLUYT_TRY(oci::Digest::parse(digest)));
  if (name.empty() || name.ends_with('/') || name.find(' ') != std::string::npos ||
      has_control_characters(name)) {
    return Error(Code::kInvalidArgument, cat(quote(name), ": expected host[:port][/repository]"));
  }
  pins[name] = std::move(parsed);
  return {};
}

Result<Rules> read_rules(const VerifyOptions& options, const oci::Reference& reference,
                         const std::string& kubernetes_namespace) {
  Rules out;
  std::string content;
  out.file = FLUYT_TRY(policy_file_for(options, kubernetes_namespace));
  if (!out.file.empty()) {
    const Policy policy = FLUYT_TRY_CONTEXT(
        parse_policy(FLUYT_TRY(sys::read_file(out.file, kMaxPolicyBytes)), out.file),
        "image policy");
    const Scope scope = scope_for(policy, reference);
    out.place = scope.place;
    out.requirements = *scope.requirements;
  }
  append(content, cat(out.requirements.size()));
  for (size_t i = 0; i < out.requirements.size(); ++i) {
    Requirement& requirement = out.requirements[i];
    requirement = FLUYT_TRY_CONTEXT(with_keys(requirement), where(out, i));
    out.wants_proof = out.wants_proof || wants_signatures(requirement);
    append(content, requirement);
  }
  if (!options.programs.folder.empty()) {
    out.programs = FLUYT_TRY_CONTEXT(list_programs(options.programs), "image policy");
    out.wants_proof = out.wants_proof || !out.programs.empty();
    for (const std::string& name : out.programs) {
      FLUYT_TRY_CONTEXT(append_program(content, options.programs.folder, name), "image policy");
    }
  }
  out.digest = FLUYT_TRY(digest_of("sha256", content)).text();
  return out;
}

Result<> check_at_once(const VerifyOptions& options, const Rules& rules, const Question& question) {
  FLUYT_TRY_CONTEXT(check_pins(options.pins, question), "image policy");
  for (size_t i = 0; i < rules.requirements.size(); ++i) {
    if (rules.requirements[i].kind != Requirement::Kind::kReject) continue;
    return Error(Code::kPermissionDenied, cat(where(rules, i), ": this rule refuses everything"));
  }
  return {};
}

Result<> check_rules(const VerifyOptions& options, const Rules& rules, const Question& question,
                     registry::Session& session, Deadline deadline) {
  const Lookaside lookaside = FLUYT_TRY(read_lookaside_folder(options.lookaside_folder));
  RegistrySignatures signatures(session, question.reference, lookaside);
  for (size_t i = 0; i < rules.requirements.size(); ++i) {
    FLUYT_TRY_CONTEXT(
        check_requirement(options, rules.requirements[i], question, signatures, deadline),
        where(rules, i));
  }
  FLUYT_TRY_CONTEXT(ask_programs(options.programs, rules.programs, question.reference.text(),
                                 question.target, deadline),
                    "image policy");
  return {};
}

Result<> check_image(const VerifyOptions& options, const Question& question,
                     registry::Session& session, Deadline deadline) {
  if (options.is_empty()) return {};
  const Rules rules =
      FLUYT_TRY(read_rules(options, question.reference, question.kubernetes_namespace));
  FLUYT_TRY(check_at_once(options, rules, question));
  return check_rules(options, rules, question, session, deadline);
}

}  // namespace fluyt::image::policy
