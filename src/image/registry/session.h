#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "image/auth/credentials.h"
#include "image/registry/hosts.h"
#include "image/registry/http.h"
#include "image/registry/options.h"
#include "image/registry/retry.h"
#include "image/registry/token.h"
#include "image/registry/www_authenticate.h"
#include "oci/digest.h"
#include "oci/image.h"

namespace fluyt::image::registry {

/// A manifest or index as a registry sent it, its digest computed from the bytes.
struct RawManifest {
  oci::Digest digest;
  std::string media_type;  // of Content-Type, without parameters
  std::string bytes;
};

/// What a tag points at now, by a HEAD request.
struct ManifestHead {
  std::optional<oci::Digest> digest;  // nothing when the registry does not say
  std::string media_type;
};

/// Where a blob came from, for distrust().
using EndpointIndex = size_t;

/// What a session is for: it decides which servers are asked and what is asked of token servers.
enum class Purpose { kPull, kPush };

/// A blob to be pushed.
struct BlobToPush {
  oci::Digest digest;
  uint64_t size = 0;
  /// Fills a part of `into`, at least one byte, from `offset`. Asked in order, and again from an
  /// earlier offset after a lost connection.
  std::function<Result<size_t>(uint64_t offset, std::span<char> into)> read_at;
  /// Another repository of the same registry that may have it: then nothing is sent. Empty: none.
  std::string mount_from;
};
enum class PushedBlob { kExisted, kMounted, kUploaded };

class Session;

/// The registry client of a daemon: what outlives one pull. Thread-safe.
class Registry {
 public:
  Registry(RegistryOptions options, Logger& logger);
  /// One pull's or push's conversation about `repository` ("library/busybox") of `registry`
  /// ("docker.io"). `cancelled` may be null; it is looked at ten times a second.
  Result<std::unique_ptr<Session>> open(const std::string& registry, const std::string& repository,
                                        Credentials credentials, const std::atomic<bool>* cancelled,
                                        Purpose purpose = Purpose::kPull);

 private:
  friend class Session;
  friend class BlobUpload;
  RegistryOptions options_;
  Logger& logger_;
  HttpClient http_;
  HostsFolder hosts_;
  TokenCache tokens_;
};

/// A pull's or push's conversation: the order of its servers, which of them failed, and their
/// authorizations. Thread-safe: layers are fetched side by side.
class Session {
 public:
  Session(Registry& registry, std::string name, std::string repository,
          std::vector<Endpoint> endpoints, Credentials credentials, CredentialTable from_file,
          const std::atomic<bool>* cancelled, Purpose purpose);

  /// HEAD of a tag or digest. kNotFound when no server has it; kUnimplemented when none answers
  /// HEAD: ask get_manifest() then.
  Result<ManifestHead> head_manifest(const std::string& target);
  /// The manifest under a tag or digest; of a digest the bytes are checked (kDataLoss).
  Result<RawManifest> get_manifest(const std::string& target);
  /// The same of what need not be there, such as a tag of signatures: nothing when no server has
  /// it. It is held against none that it has not.
  Result<std::optional<RawManifest>> find_manifest(const std::string& target);

  /// The manifests in this repository that refer to `subject` and are of `artifact_type` (empty: of
  /// any), by the referrers API page by page, or by its tag where there is none.
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest& subject,
                                                 const std::string& artifact_type);
  /// What the older extension of simple signing has for a manifest; nothing when the registry has
  /// no such extension, or nothing there.
  Result<std::optional<std::string>> get_extension_signatures(const oci::Digest& manifest,
                                                              size_t limit);
  /// A file of another server, at most `limit` bytes, shown nothing of ours; nothing when it is not
  /// there.
  Result<std::optional<std::string>> get_elsewhere(const Url& url, size_t limit);
  /// What registries said in Warning headers (distribution-spec), each once.
  std::vector<std::string> warnings() const { return *warnings_.lock(); }

  /// Streams a blob in order into `sink`, from the start, each byte once: after a dropped
  /// connection it goes on where it stopped, perhaps from another server. Exactly `size` bytes or
  /// an error; the digest is for the consumer to check. An error of the sink ends it and is
  /// returned as it is.
  /// `served_by` is the server asked last, for distrust(), set in both cases.
  Result<> fetch_blob(const oci::Digest& digest, uint64_t size,
                      const std::function<Result<>(std::string_view)>& sink,
                      EndpointIndex* served_by = nullptr);
  /// The same for a foreign layer: when no registry has it, its `urls` are tried in turn, shown
  /// nothing of ours; only https, unless the registry itself is reached by http.
  Result<> fetch_foreign_blob(const oci::Digest& digest, uint64_t size,
                              const std::vector<std::string>& urls,
                              const std::function<Result<>(std::string_view)>& sink,
                              EndpointIndex* served_by = nullptr);
  /// That server sent wrong bytes: it is not asked again in this session. False when no other is
  /// left.
  bool distrust(EndpointIndex endpoint);
  /// Whether each of its servers has failed so that it is asked as a last resort alone.
  bool is_given_up() const;

  /// Whether the registry has a blob (HEAD). Of a session for pushing.
  Result<bool> has_blob(const oci::Digest& digest);
  /// Sees to it that the registry has the blob: it is there, or it is mounted from another
  /// repository, or it is sent, in one request or in chunks that a lost connection does not make
  /// start again. `progress` is told the bytes that the registry has. What was begun and fails is
  /// cancelled there.
  Result<PushedBlob> push_blob(const BlobToPush& blob,
                               const std::function<void(uint64_t)>& progress = {});
  /// Puts a manifest or index, exactly these bytes, under a tag or its digest, and returns that.
  /// With a `subject`, a registry that does not list referrers gets the tag sha256-<hex> brought up
  /// to date (distribution-spec, "Referrers Tag Schema").
  Result<oci::Digest> push_manifest(const std::string& target, const std::string& media_type,
                                    const std::string& bytes);

 private:
  friend class BlobUpload;
  enum class Need { kPull, kResolve, kPush };
  struct Ask {
    Need need = Need::kPull;
    Method method = Method::kGet;
    std::string path;        // below /v2
    std::string query;       // without '?'
    std::optional<Url> url;  // in place of path and query: where an upload goes on
    std::string accept;
    std::string content_type;
    std::string body;
    std::string from_repository;  // that is to be read too: a second scope
    bool once = false;            // asking again would not mean the same
    bool elsewhere = false;       // `url` is no registry's: it is asked once, and shown nothing
    bool last_word = false;       // sent even when the caller has gone, and not waited for long
    bool may_be_absent = false;   // who has it not is no worse for it
    size_t body_limit = 64UL << 10U;
    BodySink sink;
    std::function<void(HttpRequest&, EndpointIndex)> prepare;  // just before each sending
    std::function<uint64_t()> progress;             // bytes so far, for the count of tries
    std::function<bool(const HttpResponse&)> good;  // empty: status 200
    std::function<bool()> server_is_wrong;          // the sink refused what another may have right
    uint64_t expected_bytes = 0;                    // of the streamed body in all
    std::function<void(const HttpOutcome&)> observe;  // each answer, good or not
  };
  struct Answer {
    HttpResponse response;
    EndpointIndex endpoint = 0;
  };
  /// How far one server is with one question.
  struct Turn {
    int tries = 0;  // without progress in between
    int most_tries = 1;
    bool try_next = true;                     // another server may do better
    std::optional<int64_t> again_at_boot_ns;  // when it may do better itself; nothing: not at all
    bool is_final = false;                    // it has said no, and nobody else is to be asked
    std::string said;
  };
  struct Health {
    int stumbles = 0;  // in a row
    bool distrusted = false;
    bool plain_http = false;  // https has failed here, http is used
    bool answered = false;    // it is there: a lost connection is worth waiting for
    std::map<std::string, Challenge> challenges;  // that were answered, by what was asked for
    bool demoted() const;
  };

  Result<Answer> ask(const Ask& what);
  std::vector<EndpointIndex> order(Need need) const;
  bool is_able(const Capabilities& can, Need need) const;
  bool is_at(EndpointIndex index, const Url& url) const;
  std::vector<EndpointIndex> order_again(const Ask& what, const std::vector<Turn>& turns) const;
  Result<Answer> ask_endpoint(const Ask& what, EndpointIndex index, Turn& turn);
  HttpOutcome send(const Ask& what, EndpointIndex index);
  HttpOutcome send_with_scheme(const Ask& what, EndpointIndex index);
  HttpRequest request_for(const Ask& what, EndpointIndex index) const;
  HttpTimeouts timeouts_for(const Endpoint& endpoint) const;
  std::vector<Challenge> challenges_of(EndpointIndex index, const Ask& what,
                                       const HttpResponse& refusal) const;
  bool learn_challenge(EndpointIndex index, const Ask& what, const HttpResponse& refusal);
  Result<std::optional<std::string>> anonymous_token_for(EndpointIndex index, const Ask& what,
                                                         const HttpResponse& refusal,
                                                         const std::string& refused,
                                                         TokenRefusal& of_server);
  Result<std::string> authorization_for(EndpointIndex index, const Ask& what,
                                        const std::string& refused, TokenRefusal& of_server);
  std::vector<std::string> scopes_for(const Ask& what) const;
  const Credentials* credentials_for(const Endpoint& endpoint) const;
  Result<> add_referrer(const oci::Digest& subject, const oci::Descriptor& referrer);
  Result<RawManifest> ask_manifest(Ask& what, const std::string& target);
  Error whole_error(const Ask& what, const std::vector<Turn>& turns, EndpointIndex of,
                    const Error& error) const;
  Error error_of(const Ask& what, EndpointIndex index, HttpOutcome& outcome) const;
  bool is_worth_another_try(const HttpOutcome& outcome, EndpointIndex index, int tries);
  std::optional<int64_t> wait_ms_before_next(const HttpOutcome& outcome, EndpointIndex index,
                                             int tries);
  bool is_last_word(EndpointIndex index, const HttpOutcome& outcome, const Error& error) const;
  void note_success(EndpointIndex index);
  void note_failure(const Ask& what, EndpointIndex index, const HttpOutcome& outcome,
                    bool is_passing);
  std::string shown(const Ask& what, EndpointIndex index) const;
  void note_warnings(const HttpResponse& response);
  Result<> check_foreign_url(const Url& url) const;

  Registry& registry_;
  const std::string name_;
  const std::string repository_;
  const std::vector<Endpoint> endpoints_;
  const Credentials credentials_;    // of the caller
  const CredentialTable from_file_;  // the node's, as options.auth_file has them now
  const std::atomic<bool>* cancelled_;
  const Purpose purpose_;
  Guarded<std::vector<Health>> health_;
  Guarded<std::vector<std::string>> warnings_;
};

/// The tag that lists what refers to `subject` where there is no referrers API: sha256-<hex>.
std::string referrers_tag(const oci::Digest& subject);

/// The errors of a registry's JSON, "CODE: message; ...", fit for a message; "" when there are
/// none.
std::string registry_errors(std::string_view body);

}  // namespace fluyt::image::registry
