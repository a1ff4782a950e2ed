// BatchReader answers many reads at once, over a Reader: equal ones once, all of them in one turn of the executor, so
// that their commands leave for Redis in one write, and what they load is gathered (cache/origin/gathering_control.h).
//
// Reads are equal when their endpoint, tenant, consistency, at_least and parameters are, the parameters in canonical
// form: defaults filled in, sets sorted. Equal reads are one read to everything behind this: one lookup, one draw for
// sampling (by the first one's request id), one verdict. Each gets a copy of the answer.
//
// Ownership: borrows the Reader and the metrics.
// Threads:   belongs to its Reader's executor.
// Errors:    of the batch: kInvalidArgument (no read, or too many), kResourceExhausted (not admitted).
//            Of one read: those of Reader::Read; kResourceExhausted also where the answers together
//            are too large.
// Limits:    kReadsMost; `answer_max_bytes` for all answers together, those that come too late to fit are dropped.
#ifndef SHADOWLINE_SERVER_READ_BATCH_READER_H_
#define SHADOWLINE_SERVER_READ_BATCH_READER_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "base/metrics.h"
#include "server/read/reader.h"
#include "shadowline/v1/read.pb.h"

namespace shadowline::server {

class BatchReader {
 public:
  static constexpr int kReadsMost = 256;

  struct Options {
    size_t answer_max_bytes = 8 << 20;
  };

  BatchReader(Options options, Reader* reader, base::Metrics* metrics);

  // `admit` is asked once, within the call, whether so many different reads may begin. `done` may be called within the
  // call, too; both messages must live until it is.
  void Read(const shadowline::v1::BatchReadRequest& request, shadowline::v1::BatchReadResponse* response,
            absl::Duration timeout, absl::FunctionRef<bool(size_t)> admit, Reader::Done done);

 private:
  struct Batch;

  void Answered(Batch* batch, size_t place, const absl::Status& status);

  const Options options_;
  Reader* const reader_;
  base::Counter* const calls_;
  base::Counter* const reads_;
  base::Counter* const merged_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_BATCH_READER_H_
