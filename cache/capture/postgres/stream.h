// CaptureStream reads the application's committed changes from PostgreSQL's log, over the replication protocol, and has
// a Sink fence what they make wrong. One replica at a time does it: who holds an advisory lock in the source database.
// The others wait for it, and meanwhile follow the watermark that it publishes: how far it has come in the log, and
// until when everything that was committed has its fences. The latter runs out where nobody captures, whatever the
// reason, and every replica takes what is captured from the database then; it comes back when a leader has caught up.
//
// What it makes and owns: a publication of the catalog's captured tables, and a replication slot. The slot keeps the
// log from where a sink has last acknowledged, so whatever dies in between, nothing is lost; the next leader goes on
// from there.
//
// When nothing can be known any more, it says so instead of going on in silence. A slot that is gone, that the server
// has invalidated, or that is further behind than `lag_limit_bytes` is an Alarm to the sink, a watermark of zero, a new
// slot, and an Alarm again before its first change. So is a slot or a publication that was not what the catalog in
// force needs. A crash anywhere in this leaves the row in shadowline.capture unsettled, and the next leader begins it
// again.
//
// What it never does: publish a table without a replica identity (PostgreSQL would then refuse the application's
// UPDATEs), or take a slot that is not pgoutput's in this database. It is then kRefused, with the remedy, and tries
// again.
//
// Ownership: borrows everything in Deps; each must outlive it.
// Threads:   one thread of its own. SetCatalog and state() may be called from any; Start and Stop by one.
// Limits:    `outstanding_max` transactions at the sink; then it stops reading, and PostgreSQL holds the rest.
#ifndef SHADOWLINE_CACHE_CAPTURE_POSTGRES_STREAM_H_
#define SHADOWLINE_CACHE_CAPTURE_POSTGRES_STREAM_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "cache/capture/postgres/worker.h"
#include "cache/capture/sink.h"
#include "cache/capture/watermark.h"
#include "cache/catalog/catalog.h"
#include "cache/certify/feed.h"

namespace shadowline::cache {

enum class CaptureState {
  kOff,           // The catalog captures nothing.
  kDisconnected,  // A database is away; trying again.
  kWaiting,       // Another replica leads.
  kStreaming,
  kLagging,   // Streaming, more than `lag_warning_bytes` behind.
  kSlotLost,  // Changes were missed; until it streams again nothing is invalidated by capture.
  kRefused,   // Something has to be done by a person first. Nothing is invalidated by capture.
};

absl::string_view CaptureStateName(CaptureState state);

class CaptureStream {
 public:
  struct Options {
    // Connection strings of libpq's. The source's user has REPLICATION; it owns the tables, or the publication exists.
    std::string source;
    std::string state;
    std::string slot = "shadowline";
    std::string publication = "shadowline";
    // As the control's, for tenant_query.
    std::string search_path = "public";
    std::string role;
    // False: only follows, and never leads.
    bool lead = true;
    // How long what is captured may be served from the cache after the last moment of which it is known that every
    // change before it has its fences. Some times `check`.
    absl::Duration patience = absl::Seconds(10);
    uint64_t lag_warning_bytes = 64 << 20;
    uint64_t lag_limit_bytes = uint64_t{4} << 30;
    size_t outstanding_max = 256;
    size_t tags_max = 10'000;  // Of one transaction; beyond, whole families are dropped.
    // A leader that is silent for so long has lost its connections, and with them the lead.
    absl::Duration lapse = absl::Seconds(10);
    // How often a leader looks at its slot, and a candidate at the lock.
    absl::Duration check = absl::Seconds(1);
    // How often the watermark is published, and followed.
    absl::Duration publish = absl::Milliseconds(100);
    // Between attempts; doubles.
    absl::Duration pause_min = absl::Milliseconds(50);
    absl::Duration pause_max = absl::Seconds(2);
  };
  struct Deps {
    const base::Clock* clock = nullptr;
    Sink* sink = nullptr;
    Watermark* watermark = nullptr;
    base::Metrics* metrics = nullptr;
    // Told of every change of the state, on the stream's thread; `why` is for people. May be empty.
    std::function<void(CaptureState state, const std::string& why)> on_state;
    FeedWriter* feed = nullptr;  // Told of everything that is captured. Null: nobody is.
  };

  CaptureStream(Options options, Deps deps);
  CaptureStream(const CaptureStream&) = delete;
  CaptureStream& operator=(const CaptureStream&) = delete;
  ~CaptureStream();

  void Start();
  // Ends the thread; what the sink has not acknowledged by then comes again, here or elsewhere. Idempotent.
  void Stop();

  // From now on this catalog's map holds. Without one, or with one that captures nothing, the slot is dropped: it would
  // keep the log for ever.
  void SetCatalog(std::shared_ptr<const CompiledCatalog> catalog);

  CaptureState state() const;

 private:
  class Session;
  class Inbox;

  absl::Status Serve(bool* worked);
  void SetState(CaptureState state, const std::string& why);

  const Options options_;
  const Deps deps_;
  base::Gauge* const leading_;
  base::Gauge* const lag_bytes_;
  base::Counter* const transactions_;
  base::Counter* const alarms_;
  base::Counter* const failures_;
  base::Histogram* const seconds_;

  mutable base::Mutex mutex_;
  std::shared_ptr<const CompiledCatalog> catalog_ ABSL_GUARDED_BY(mutex_);
  CaptureState state_ ABSL_GUARDED_BY(mutex_) = CaptureState::kOff;
  // What the sink says, and that the catalog is another: both wake the thread. Outlives this where the sink still has
  // calls.
  const std::shared_ptr<Inbox> inbox_;
  // The thread's own.
  uint64_t sessions_ = 0;
  std::string distrust_;  // Why the slot's changes cannot be used; empty: they can.
  Worker worker_;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_POSTGRES_STREAM_H_
