// Observer judges reads whose two sides the application read itself and reports: observed endpoints. The verdicts, the
// evidence and the divergences are those of the Verifier; what is different is who looks.
//
// Life of a read
//   1. The Decider drew it and gave the caller a decision. The caller reads both sides and reports them with it. A
//      read whose candidate had no answer is counted as that, and is done.
//   2. It is counted as sampled, and gets a ticket. Equal: matched, or excused. Unequal is not wrong yet: an episode,
//      one for each (key, fill), holds the ticket, and the caller is asked to look again as the freshness rule says.
//      So are the next callers who report the same fill, up to lookers_max; the reads of those after them join the
//      episode, and are nobody's to look after.
//   3. A caller that has looked again reports with the episode it was given, until that settles its read. That the
//      fill is wrong, or is gone, is said of the fill: the whole episode ends so. Anything else is said of that
//      caller's read, and the episode's other lookers go on.
//   4. A read whose caller does not come back within `patience` after its look was due ends as inconclusive: it was
//      found unequal, and nobody knows for how long. So do those that joined, once nobody is left who looks. They are
//      not shed, which says that there was no room to judge.
//
// Somebody else's answer
//   An application's cache can serve what is another tenant's, another viewer's or another question's, for the one
//   moment in which a connection is out of step: nobody would see it again in a second look. It is recognised as the
//   verifier does (recogniser.h), by what all reports of this replica said lately, and confirmed by the first look. A
//   digest does not say how much was said, so that the same little answer of many would be taken for a stranger's: of
//   digests nobody is recognised.
//
// Payloads
//   What is reported as a message is compared as the JSON that the endpoint's descriptor makes of it, and a fill is
//   told from another by that JSON: how the bytes were written means nothing. A candidate that is no such message is
//   wrong at once, as one that is no JSON is; a control is an error.
//
// What travels
//   A token carries its whole case: its looks, and when the last report was made. Any replica goes on with it. All
//   times in it are on one line that the caller's own durations make: from a report's `began_us_ago` and `took_us`,
//   and, from one report to the next, from `waited_us`, which counts from a reply that was already there. What that
//   leaves out (the calls' own ways) makes every span of it too short and never too long: nothing is confirmed too
//   early, whatever the network does, and no two clocks are compared.
//
// What is counted, and where
//   Tickets belong to a process, so that a read is counted where it is reported. A later look that comes to the replica
//   which holds its read settles that. One that comes to another replica is a sampled read there (both sides were read
//   for it, and it is judged), while the first report ends as inconclusive where it was made. Each report is counted as
//   sampled once and gets one verdict, in one process: the ledger balances, always. The price of calls that are spread
//   over replicas is a share of reads without a verdict, and no more than the share that differed at first. A caller
//   that keeps its channel pays nothing. A report that is made again (a retry) is answered as before and counted once,
//   as long as it comes to the same replica within its last settled_max reads. Episodes and divergences have ids that
//   do not depend on the process, so that evidence counts a fill once, however often it is reported.
//
// Ownership: borrows everything in Deps; each must outlive it. The executor must have stopped when it is destroyed.
// Threads:   thread-safe. Observe compares on the calling thread, with no lock held; timers run on the executor.
// Errors:    those of one read of ObserveService.Observe.
// Limits:    Options. A read beyond reads_max is shed, and counted.
#ifndef SHADOWLINE_SERVER_READ_OBSERVER_H_
#define SHADOWLINE_SERVER_READ_OBSERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/ledger.h"
#include "diff/evidence/seal.h"
#include "diff/verdict/freshness.h"
#include "server/read/catalog_holder.h"
#include "server/read/comparer.h"
#include "server/read/finding.h"
#include "server/read/keeper.h"
#include "server/read/recogniser.h"
#include "server/read/tokens.h"
#include "shadowline/v1/observe.pb.h"

namespace shadowline::server {

class Observer {
 public:
  struct Options {
    // After a look was due.
    absl::Duration patience = absl::Seconds(30);
    // Reads that wait for a look.
    size_t reads_max = 10'000;
    // Callers that are asked to look again for one episode.
    size_t lookers_max = 3;
    // Keys whose last answer is remembered, and settled reads.
    size_t keys_max = 100'000;
    size_t settled_max = 100'000;
    // As diff::FreshnessCase::Options.
    int max_rounds = 5;
    // As Keeper's.
    std::string redaction_secret;
    std::optional<diff::Sealer> sealer;
  };

  struct Deps {
    const CatalogHolder* catalog = nullptr;
    const Tokens* tokens = nullptr;
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    diff::Ledger* ledger = nullptr;
    base::Metrics* metrics = nullptr;
    // Takes confirmed divergences, on any thread; must not block.
    std::function<void(diff::Divergence)> record;
  };

  Observer(Options options, Deps deps);
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  ~Observer();

  absl::StatusOr<shadowline::v1::Judgement> Observe(const shadowline::v1::ObservedRead& observation);

  // Sheds what is open. From then on Observe is kUnavailable.
  void Shutdown();

 private:
  struct Counters;
  struct Report;
  // One read that waits for a look.
  struct Read {
    uint64_t nonce;
    diff::Ledger::Ticket ticket;
    bool looks;                                       // Its caller was asked to look again,
    absl::Duration until = absl::InfiniteDuration();  // and is waited for until then, by the steady clock.
  };
  struct Episode {
    std::vector<Read> reads;
    // The present timer: when it is due, and which one it is.
    absl::Duration due = absl::InfiniteDuration();
    uint64_t turn = 0;
  };
  // What became of a read.
  struct Settled {
    shadowline::v1::Judgement::State state = shadowline::v1::Judgement::STATE_SETTLED;
    diff::Verdict verdict = diff::Verdict::kShed;
    std::string divergence = {};
  };
  // What an application's key held when it was reported last.
  struct Seen {
    std::string fill;
    absl::Time at;         // When it was here.
    bool changed = false;  // It held something else before.
  };

  absl::StatusOr<shadowline::v1::Judgement> Judge(const shadowline::v1::ObservedRead& observation);
  // What `observation` is about, from its token.
  absl::StatusOr<Report> ReadToken(const shadowline::v1::ObservedRead& observation) const;
  // What the candidate says, by the present catalog. kInvalidArgument: it is nothing that can be compared.
  absl::Status ReadPayload(const shadowline::v1::ObservedRead& observation,
                           std::shared_ptr<const cache::CompiledCatalog> catalog, Report* report) const;
  // Places the report on its line of time. kInvalidArgument: it cannot be as it says.
  absl::Status Place(const shadowline::v1::ObservedRead& observation, Report* report) const;
  // What this report's look saw; `comparison` is set where it compared. kInvalidArgument: the control is no answer.
  absl::StatusOr<diff::Look> LookOf(const shadowline::v1::ObservedRead& observation, Report* report,
                                    Compared* comparison);
  // Whose the answer is that was served, where both sides are payloads and `differ`.
  void Recognise(const std::string& control, bool differ, Report* report);
  Compared Compare(const Report& report, const diff::Answer& control, const diff::Answer& candidate);

  shadowline::v1::Judgement CountWithoutCandidate(const Report& report, bool missed);
  // Nobody judges this read.
  shadowline::v1::Judgement Shed(const Report& report, base::Counter* counter, absl::string_view why);
  shadowline::v1::Judgement Conclude(Report* report, const diff::FreshnessCase& rule, const diff::Step& step,
                                     const Compared& comparison);
  std::string TokenFor(const Report& report, const diff::FreshnessCase& rule, absl::Duration good_for) const;
  diff::Divergence DivergenceOf(const Report& report, const diff::FreshnessCase& rule, const diff::Step& step,
                                const Compared& comparison) const;
  static shadowline::v1::Judgement SettledAs(const Settled& settled, absl::string_view why);

  shadowline::v1::Judgement ShedNow(const Report& report, base::Counter* counter, absl::string_view why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  shadowline::v1::Judgement AskAgain(const Report& report, const diff::FreshnessCase& rule, const diff::Step& step)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As this read was answered when it was settled; nothing where it is not.
  std::optional<shadowline::v1::Judgement> AnswerOf(uint64_t nonce) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remember(uint64_t nonce, Settled settled) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the key of a first report held another answer before.
  bool NoteChange(const Report& report) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<diff::Ledger::Ticket> Sample(const Report& report) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The reported read, where it waits here; with `all`, or where it leaves nobody who looks, all of its episode.
  std::vector<Read> TakeOut(const Report& report, bool all) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Settle(Read* read, const diff::Episode& evidence, const Settled& settled) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // GiveUp comes then, or earlier.
  void WaitUntil(const std::string& id, absl::Duration until, Episode* episode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUp(const std::string& id, uint64_t turn);
  void Gauge() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const Deps deps_;
  const std::unique_ptr<Counters> counters_;
  const Keeper keeper_;
  const Announcer announcer_;
  Recogniser recogniser_;
  base::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::unique_ptr<Comparer>> comparers_ ABSL_GUARDED_BY(mutex_);  // That nobody compares with now.
  absl::flat_hash_map<std::string, Episode> episodes_ ABSL_GUARDED_BY(mutex_);
  size_t reads_ ABSL_GUARDED_BY(mutex_) = 0;  // In all episodes.
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, Seen> seen_ ABSL_GUARDED_BY(mutex_);  // By the hash of the key.
  // Two generations: when the younger is full, the older is forgotten.
  absl::flat_hash_map<uint64_t, Settled> settled_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Settled> settled_before_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_OBSERVER_H_
