#include "image/layer/writer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "image/layer/manifest.h"
#include "image/layer/staging.h"
#include "image/layer/unpack.h"
#include "image/layer/worker.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr int kPipeBytes = 1 << 20;
constexpr size_t kBatchBytes = 128UL << 10U;  // a transfer library gives 16 KiB at a time
constexpr int64_t kReapMs = 5000;

std::string algorithm_of(const std::optional<oci::Digest>& digest) {
  return digest ? std::string(digest->algorithm()) : "sha256";
}

Result<> verify(const LayerInfo& info, const LayerExpectation& expectation, uint64_t written) {
  if (info.blob_bytes != written) {
    return Error(Code::kInternal,
                 cat("the unpacker read ", info.blob_bytes, " bytes of ", written));
  }
  if (expectation.blob_bytes && written != *expectation.blob_bytes) {
    return Error(Code::kDataLoss, cat("the blob has ", written, " bytes, the manifest says ",
                                      *expectation.blob_bytes));
  }
  if (expectation.blob_digest && info.blob_digest != *expectation.blob_digest) {
    return Error(Code::kDataLoss, cat("the blob's digest is ", info.blob_digest.text(),
                                      ", the manifest says ", expectation.blob_digest->text()));
  }
  if (expectation.diff_id && info.diff_id != *expectation.diff_id) {
    return Error(Code::kDataLoss, cat("the layer's diff id is ", info.diff_id.text(),
                                      ", the image's config says ", expectation.diff_id->text()));
  }
  return {};
}

}  // namespace

struct LayerWriter::State {
  const LayerStore& store;
  const LayerExpectation expectation;
  const std::atomic<bool>* cancelled;
  Staging staging;
  sys::Fd input;
  sys::Fd report;
  sys::Process worker;
  std::string batch;  // taken but not yet written
  uint64_t written = 0;

  ~State() {
    if (!worker.valid()) return;
    // The worker is not asked but ended: it may be in the middle of a write. What it staged goes
    // with `staging`, once it makes no more of it, and nobody waits for that: a layer of many files
    // takes as long to remove as it took to make.
    worker.kill(SIGKILL).ignore("it is waited for all the same");
    worker.wait(Deadline::after_ms(kReapMs)).ignore("a process stuck in the kernel is left to it");
  }

  // The report, whole; then the worker is reaped.
  Result<LayerInfo> read_report() {
    const std::string text = FLUYT_TRY(image::read_report(report, cancelled));
    const auto status = FLUYT_TRY(worker.wait(Deadline::after_ms(kReapMs)));
    if (!status) return Error(Code::kInternal, "the unpacker closed its report but did not end");
    worker = sys::Process();
    if (status->signal != 0) {
      return Error(Code::kInternal, cat("the unpacker was ended by signal ", status->signal));
    }
    if (text.empty()) {
      return Error(Code::kInternal,
                   cat("the unpacker ended with status ", status->code, " and no report"));
    }
    return parse_report(text);
  }

  // The worker stopped reading: it has found an error, and its report says which.
  Error why_it_stopped() {
    input.reset();
    auto outcome = read_report();
    if (!outcome.ok()) return std::move(outcome).error();
    return Error(Code::kInternal, "the unpacker ended before its input did");
  }

  Result<> send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t put = ::write(input.raw(), bytes.data(), bytes.size());
      if (put >= 0) {
        written += static_cast<uint64_t>(put);
        bytes.remove_prefix(static_cast<size_t>(put));
      } else if (errno == EPIPE) {
        return why_it_stopped();
      } else if (errno == EAGAIN) {
        FLUYT_TRY(wait_for_worker(input, POLLOUT, cancelled));
      } else if (errno != EINTR) {
        return Error::from_errno(errno, "write(unpacker)");
      }
    }
    return {};
  }

  Result<> send_batch() {
    FLUYT_TRY(send(batch));
    batch.clear();
    return {};
  }

  Result<> check_size(uint64_t more) const {
    if (!worker.valid()) return Error(Code::kFailedPrecondition, "the layer has ended already");
    if (!expectation.blob_bytes || written + batch.size() + more <= *expectation.blob_bytes)
      return {};
    return Error(Code::kDataLoss, cat("more bytes came than the ", *expectation.blob_bytes,
                                      " that the manifest says"));
  }
};

LayerWriter::LayerWriter(std::unique_ptr<State> state) : state_(std::move(state)) {}
LayerWriter::LayerWriter(LayerWriter&&) noexcept = default;
LayerWriter::~LayerWriter() = default;

Result<LayerWriter> LayerWriter::create(const LayerStore& store, LayerExpectation expectation,
                                        const std::atomic<bool>* cancelled) {
  const uint64_t room = FLUYT_TRY(store.available_bytes());
  if (expectation.blob_bytes && *expectation.blob_bytes > room) {
    return Error(Code::kResourceExhausted,
                 cat("the layer's ", *expectation.blob_bytes, " bytes do not fit: ", room,
                     " are to be had on the disk"));
  }
  Staging staging = FLUYT_TRY(Staging::create(store.root_, store.trash_.get()));
  sys::Pipe input = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  // A larger pipe spares switches between us and the worker; where it is refused the default will
  // do.
  fcntl(input.write.raw(), F_SETPIPE_SZ, kPipeBytes);
  const LayerForm form = store.form();
  sys::SpawnOptions options;
  options.args = {store.unpack_program(),
                  "--blob-algorithm",
                  algorithm_of(expectation.blob_digest),
                  "--diff-algorithm",
                  algorithm_of(expectation.diff_id),
                  "--max-blob-bytes",
                  std::to_string(expectation.blob_bytes.value_or(UINT64_MAX)),
                  "--max-unpacked-bytes",
                  std::to_string(room),
                  "--keep-free-bytes",
                  std::to_string(store.options().reserve_bytes),
                  "--form",
                  std::string(form_name(form)),
                  "--manifest",
                  form == LayerForm::kDirectory ? "yes" : "no",
                  "--gives-way",
                  store.options().precedence ? "yes" : "no"};
  options.in = input.read;
  options.pass = {{staging.tree(), kTreeFd}, {report.write, kReportFd}};
  const std::string_view beside = form == LayerForm::kErofs ? kImageName : kManifestName;
  const sys::Fd file = FLUYT_TRY(sys::open(staging.folder(), std::string(beside),
                                           O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  options.pass.push_back({file, kFileFd});
  if (const auto& precedence = store.options().precedence)
    options.pass.push_back({precedence->page(), kPrecedenceFd});
  sys::Process worker = FLUYT_TRY_CONTEXT(sys::spawn(options), "start the unpacker");
  FLUYT_TRY(sys::set_nonblocking(input.write, true));
  return LayerWriter(std::unique_ptr<State>(new State{store, std::move(expectation), cancelled,
                                                      std::move(staging), std::move(input.write),
                                                      std::move(report.read), std::move(worker)}));
}

Result<> LayerWriter::write(std::string_view bytes) {
  FLUYT_TRY(state_->check_size(bytes.size()));
  if (state_->batch.empty() && bytes.size() >= kBatchBytes) return state_->send(bytes);
  state_->batch += bytes;
  return state_->batch.size() < kBatchBytes ? Result<>() : state_->send_batch();
}

Result<LayerInfo> LayerWriter::finish() {
  State& state = *state_;
  FLUYT_TRY(state.check_size(0));
  FLUYT_TRY(state.send_batch());
  state.input.reset();
  LayerInfo info = FLUYT_TRY(state.read_report());
  FLUYT_TRY(verify(info, state.expectation, state.written));
  info.media_type = state.expectation.media_type;
  FLUYT_TRY(sys::write_file_atomic(state.staging.folder(), "layer.json", to_json(info), 0600));
  const std::string path = cat("layers/", info.diff_id.hex());
  if (FLUYT_TRY(state.staging.move_to(path))) return info;
  // Another pull was first. Its layer is the same, since both have the diff id, unless its record
  // is damaged: then ours takes its place, and who stands on that tree keeps it.
  auto existing = state.store.find(info.diff_id);
  if (existing.ok() && *existing) return std::move(**existing);
  FLUYT_TRY(state.store.set_aside(info.diff_id, std::string(trim(FLUYT_TRY(sys::boot_id())))));
  if (FLUYT_TRY(state.staging.move_to(path))) return info;
  return Error(Code::kAborted,
               cat("layer ", info.diff_id.text(), " is being put there by others, too"));
}

}  // namespace fluyt::image
