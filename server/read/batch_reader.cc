#include "server/read/batch_reader.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;

void SetError(const absl::Status& status, v1::BatchReadResult* result) {
  result->mutable_error()->set_code(status.raw_code());
  result->mutable_error()->set_message(std::string(status.message()));
}

}  // namespace

// A batch under way. Messages live until `done` is called.
struct BatchReader::Batch {
  v1::BatchReadResponse* response;
  Reader::Done done;
  std::vector<std::vector<int>> results;  // Of each different read, which results it gives.
  std::shared_ptr<cache::Gathering> gathering;
  size_t left;       // Different reads that are not answered yet.
  size_t bytes = 0;  // Of the answers so far.
};

BatchReader::BatchReader(Options options, Reader* reader, base::Metrics* metrics)
    : options_(options),
      reader_(reader),
      calls_(metrics->AddCounter("shadowline_batch_calls_total", "Batches of reads that were begun.")),
      reads_(
          metrics->AddCounter("shadowline_batch_reads_total", "Reads in these batches, the refused ones among them.")),
      merged_(metrics->AddCounter("shadowline_batch_merged_total",
                                  "Reads that were answered by an equal one of their batch.")) {}

void BatchReader::Read(const v1::BatchReadRequest& request, v1::BatchReadResponse* response, absl::Duration timeout,
                       absl::FunctionRef<bool(size_t)> admit, Reader::Done done) {
  const int count = request.reads_size();
  if (count == 0 || count > kReadsMost) {
    return done(absl::InvalidArgumentError(absl::StrCat("reads: ", count, "; expected 1 to ", kReadsMost)));
  }
  auto batch = std::make_shared<Batch>();
  batch->response = response;
  std::vector<std::unique_ptr<Reader::Prepared>> different;
  absl::flat_hash_map<std::string, size_t> places;
  size_t merged = 0;
  for (int i = 0; i < count; ++i) {
    v1::BatchReadResult* const result = response->add_results();
    absl::StatusOr<std::unique_ptr<Reader::Prepared>> read = reader_->Prepare(request.reads(i));
    if (!read.ok()) {
      SetError(read.status(), result);
      continue;
    }
    const auto [place, first] = places.try_emplace((*read)->Question(), different.size());
    if (first) {
      different.push_back(*std::move(read));
      batch->results.emplace_back();
    } else {
      ++merged;
    }
    batch->results[place->second].push_back(i);
  }
  if (!admit(different.size())) {
    return done(absl::ResourceExhaustedError("this replica has too many reads in flight; retry with backoff"));
  }
  calls_->Add();
  reads_->Add(count);
  merged_->Add(static_cast<double>(merged));
  if (different.empty()) return done(absl::OkStatus());

  batch->done = std::move(done);
  batch->left = different.size();
  batch->gathering = std::make_shared<cache::Gathering>(different.size());
  for (size_t place = 0; place < different.size(); ++place) {
    different[place]->gathering = batch->gathering;
    different[place]->place = place;
    v1::ReadResponse* const answer = response->mutable_results(batch->results[place].front())->mutable_answer();
    reader_->Start(std::move(different[place]), answer, timeout,
                   [this, batch, place](const absl::Status& status) { Answered(batch.get(), place, status); });
  }
}

void BatchReader::Answered(Batch* batch, size_t place, const absl::Status& status) {
  batch->gathering->Settle(place);
  const std::vector<int>& results = batch->results[place];
  const auto result = [batch](int index) { return batch->response->mutable_results(index); };
  const size_t bytes = status.ok() ? result(results.front())->ByteSizeLong() : 0;
  for (const int index : results) {
    if (!status.ok()) {
      SetError(status, result(index));
    } else if (bytes > options_.answer_max_bytes - batch->bytes) {
      SetError(absl::ResourceExhaustedError(absl::StrCat("the answers of this batch have more than ",
                                                         options_.answer_max_bytes,
                                                         " bytes together; ask for fewer reads at once")),
               result(index));
    } else {
      batch->bytes += bytes;
      if (index != results.front()) *result(index)->mutable_answer() = result(results.front())->answer();
    }
  }
  if (--batch->left == 0) std::exchange(batch->done, nullptr)(absl::OkStatus());
}

}  // namespace shadowline::server
