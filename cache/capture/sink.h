// Sink is what change capture feeds: it puts up the fences. One for each way that changes come in (stream, outbox).
//
// The promise that a sink makes: when `done` is called with OK, no read of any replica is answered with a value that
// was loaded without that change. Only then does the capture tell PostgreSQL that it needs the change no more, so
// whatever kills a replica in between, the change comes again. A sink therefore sees a change at least once, and
// repeating it is harmless.
//
// Threads: Apply and Alarm are called by the capture's own thread and must not block it; several calls may be under
// way.
//          `done` is called once, from any thread, also within the call. Not OK: the capture lets go of its connection,
//          waits, and begins again where it had been told `done`.
#ifndef SHADOWLINE_CACHE_CAPTURE_SINK_H_
#define SHADOWLINE_CACHE_CAPTURE_SINK_H_

#include <compare>
#include <cstdint>
#include <set>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cache/capture/lsn.h"
#include "cache/key/key.h"

namespace shadowline::cache {

// Everything cached of a family, because it is not known which tags a change touched.
struct FamilyDrop {
  std::string family;
  std::string tenant;  // Empty: of every tenant.
  friend auto operator<=>(const FamilyDrop&, const FamilyDrop&) = default;
};

// What one row, or all rows of a transaction, make wrong.
struct Effects {
  std::set<TenantTag> tags;
  std::set<FamilyDrop> drops;
  bool empty() const { return tags.empty() && drops.empty(); }
};

// One committed transaction of the application that touched what is cached.
struct Transaction {
  // A fill is too old unless its snapshot sees this transaction: it may be decoded before it is visible.
  uint64_t xid = 0;
  Lsn end_lsn = 0;          // Zero where it came through the outbox.
  absl::Time committed_at;  // By the database's clock.
  Effects effects;
};

class Sink {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  virtual ~Sink() = default;

  // Fences the tags, and drops the families, of one transaction.
  virtual void Apply(Transaction transaction, Done done) = 0;

  // Changes were missed, or may have been, and nobody knows which: drops everything cached of `families`, for every
  // tenant (a new epoch). It is asked for once when that is noticed, and once more when changes are captured again,
  // before the first of them: what was filled meanwhile is as doubtful.
  virtual void Alarm(std::set<std::string> families, std::string why, Done done) = 0;
};

}  // namespace shadowline::cache

#endif  // SHADOWLINE_CACHE_CAPTURE_SINK_H_
