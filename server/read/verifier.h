// Verifier judges sampled reads, off every caller's path. Each sampled read ends in exactly one verdict.
//
// Life of a sample
//   1. A reader hands over what it served (CACHE), or what the cache would have served beside what the database did
//      (SHADOW). It is counted as sampled, and gets a ticket that can only be settled once; a ticket that is dropped,
//      in whatever way, counts as shed.
//   2. On the verifier's executor both sides are compared. Where the control's side is missing it is read, within the
//      budget.
//   3. Equal: matched. Unequal is not wrong yet: an episode, one for each (key, fill), looks again as the freshness
//      rule says (diff/verdict/freshness.h), the candidate first and the control after it. Samples of the same fill
//      join the open episode. Of a captured endpoint the case also hears, as soon as the certifier has come to what the
//      control saw, since when that is the answer. Where one of them came from a near cache, that is the candidate as
//      long as it serves the fill, whatever the store holds: a near cache that missed an invalidation must not look
//      healed.
//   4. Before it is confirmed, the control is read twice in one snapshot. What the two say differently is noise, and is
//      taken out (diff/verdict/twin_check.h). If nothing is left, the episode is inconclusive; if what is left has not
//      differed for long enough, it goes on.
//   5. Confirmed: it is repaired and reported (reporter.h), and its reads are settled once that is recorded, so that no
//      count says confirmed before there is something to show for it.
//
// Somebody else's answer
//   An external cache can serve what is another tenant's, another viewer's or another question's. It is recognised by
//   the owner that the answer names, where the endpoint declares that, or by what the control has said lately to others
//   (recogniser.h). One that names another owner is confirmed by the first look; one that is recognised by what others
//   were told as soon as the other is known to have had it for a freshness bound, since data can move. Another tenant's
//   or identity's is unsafe.
//
// Proof by an earlier match
//   A control answer that equalled a fill, and whose statement was sent at time q, proves every read of that fill that
//   was answered by q + delta: the database held that value at q or later, so within delta before the reply, which is
//   all that the freshness bound asks. Such reads are settled without a query. For the same reason a read joins an
//   episode whose control is being asked only if it was answered by q + delta; a later one waits for the end of the
//   episode and is then judged by itself if that did not settle what was wrong with the fill.
//
// Ownership: borrows everything in Deps; each must outlive it. The ledger must outlive the executors.
// Threads:   Submit, Missed, Failed, Refused, SetReplicas and Shutdown from any thread; everything else happens on
//            `executor`, which store and filler belong to. The executor must have stopped when the verifier is
//            destroyed.
// Limits:    Options. What exceeds them is shed, and counted.
#ifndef SHADOWLINE_SERVER_READ_VERIFIER_H_
#define SHADOWLINE_SERVER_READ_VERIFIER_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/metrics.h"
#include "base/mutex.h"
#include "base/random.h"
#include "cache/certify/certifier.h"
#include "cache/envelope/envelope.h"
#include "cache/fill/filler.h"
#include "cache/invalidate/invalidator.h"
#include "cache/origin/control.h"
#include "cache/store.h"
#include "diff/compare/compare.h"
#include "diff/evidence/evidence.h"
#include "diff/evidence/ledger.h"
#include "diff/verdict/freshness.h"
#include "server/read/back_off.h"
#include "server/read/budget.h"
#include "server/read/comparer.h"
#include "server/read/noise_probe.h"
#include "server/read/recogniser.h"
#include "server/read/reporter.h"

namespace shadowline::server {

// A read that was drawn for verification.
struct Drawn {
  cache::Query query;
  std::string key;
  uint64_t window = 0;
  bool after_cutover = false;  // The target's mode is CACHE.
  diff::Inclusion inclusion;
};

// The control's answer for a sampled read. Times are Clock::Steady().
struct Truth {
  absl::StatusOr<cache::ControlAnswer> answer;
  absl::Duration asked_at;
  absl::Duration answered_at;
};

// The near cache that a read was served from. Looking again means to ask it first: what the store holds by then is not
// what its readers get. Thread-safe; outlives the verifier's executor.
class NearSource {
 public:
  virtual ~NearSource() = default;
  // `done`, on `reply_on`: is `fill` still what it serves for `key`? Dropped with the near cache's executor.
  virtual void StillServes(std::string key, std::string fill, base::Executor* reply_on,
                           absl::AnyInvocable<void(bool)> done) = 0;
  // Takes the answer out.
  virtual void Drop(std::string key) = 0;
};

// A sampled read: the candidate had an answer.
struct Sample {
  Drawn drawn;
  std::string fill;  // Id of the fill that was served, or would have been.
  cache::CachedAnswer served;
  absl::Duration candidate_at;  // Clock::Steady() before the candidate was asked.
  absl::Duration served_at;     // Clock::Steady() before the caller was answered.
  std::optional<Truth> truth;   // What the caller was answered in SHADOW.
  NearSource* near = nullptr;   // Where the answer came from a near cache.
  // What change capture knew about it when it was served; kUnknown where the endpoint is not captured.
  cache::Certificate certificate = cache::Certificate::kUnknown;
};

class Verifier {
 public:
  struct Options {
    // Queries per second that verification may add to the database in all of the fleet, and how many at once. A quarter
    // of the burst is kept for episodes that look again, another for samples before background fills, and half of that
    // for the uniform ones among them. Each replica takes its part of both, and less while the database is slow
    // (back_off.h).
    double queries_per_second = 200;
    double burst = 200;
    // Samples that wait or are open, and the bytes of their answers.
    size_t samples_max = 10'000;
    size_t bytes_max = 64 << 20;
    // Background fills under way.
    size_t fills_max = 64;
    // Longest use of an earlier match (delta, if that is less), and how many are remembered; as many keys of external
    // endpoints are.
    absl::Duration match_reuse = absl::Seconds(1);
    size_t matches_max = 100'000;
    // As diff::FreshnessCase::Options.
    int max_rounds = 5;
    // As Comparer's.
    std::string redaction_secret;
    // As Keeper's.
    std::optional<diff::Sealer> sealer;
  };

  struct Deps {
    cache::Store* store = nullptr;  // Belongs to `executor`.
    // The verification pool, apart from the callers'. A GatheringControl makes one statement of samples that are judged
    // together; any other asks for each by itself.
    cache::Control* control = nullptr;
    cache::TwinControl* twins = nullptr;
    diff::NoiseBook* noise = nullptr;
    cache::Filler* filler = nullptr;            // Over that store and control.
    cache::Invalidator* invalidator = nullptr;  // Over that store. Null: repairs only remove the entry.
    base::Executor* executor = nullptr;
    const base::Clock* clock = nullptr;
    base::Random* random = nullptr;               // Of `executor`.
    const cache::Certifier* certifier = nullptr;  // Null: nothing is certified.
    diff::Ledger* ledger = nullptr;
    base::Metrics* metrics = nullptr;
    // Hears of every control statement of this replica. Null: the database is never slow.
    const BackOff* back_off = nullptr;
    // Takes confirmed divergences, on `executor`; must not block.
    absl::AnyInvocable<void(diff::Divergence)> record;
  };

  Verifier(Options options, Deps deps);
  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;
  ~Verifier();

  // Latencies are counted of reads that were drawn whatever they are: the others' would not be the cache's.
  void Submit(Sample sample, absl::Duration candidate_latency);
  // The candidate had no answer. With `fill` the cache is filled in the background, if the budget allows it.
  void Missed(Drawn drawn, absl::Duration candidate_latency, bool fill);
  // The candidate could not be read.
  void Failed(const Drawn& drawn);
  // The reader has no room to read the candidate: shed.
  void Refused(const Drawn& drawn);

  // How much of the shares of strata (route.h) can be afforded: all while the budget is hardly used, none of it when
  // what is sampled uniformly needs it.
  uint32_t boost_ppm() const { return boost_ppm_.load(std::memory_order_relaxed); }

  // Replicas that share the budget: 1 until this was called, and then what it was told last.
  void SetReplicas(uint64_t replicas) { replicas_.store(std::max<uint64_t>(replicas, 1)); }

  // Ends verification: what is queued or open is shed, and so is all that is submitted from now on. `done` runs on the
  // executor once every divergence that was confirmed has been recorded.
  void Shutdown(absl::AnyInvocable<void()> done);

 private:
  struct Episode;
  struct Judgement;
  struct Counters;
  // What all held samples amount to. Shared with them: an executor may outlive the verifier with samples in its queue.
  struct Usage {
    std::atomic<size_t> samples{0};
    std::atomic<size_t> bytes{0};
  };
  // A sample with the ticket of its read; counts against the limits until it is destroyed.
  struct Held {
    Held(std::shared_ptr<Usage> counted_in, Sample from, diff::Ledger::Ticket read_ticket);
    ~Held();
    const std::shared_ptr<Usage> usage;
    const Sample sample;
    diff::Ledger::Ticket ticket;
    bool exercised = false;  // The fill came after a write to what it holds.
    bool looked = false;     // It was compared with a control answer of its own.
    bool compared = true;    // False: the declared rules ignore all that both sides say.
  };
  using HeldPtr = std::unique_ptr<Held>;
  // What an application's key held when it was seen last.
  struct Seen {
    uint64_t etag = 0;
    absl::Duration at;     // When it was here.
    bool changed = false;  // It held something else before.
  };
  // A fill that equalled the control.
  struct Match {
    // When that statement was sent; -InfiniteDuration: not known, so that it proves no other read.
    absl::Duration asked_at;
    diff::Verdict verdict;
    bool compared;
  };
  static size_t BytesOf(const Sample& sample);
  void Shed(const diff::EvidenceKey& key, base::Counter* why);

  void JudgeInbox();
  // A sample's place among those that are judged together: what they ask the control is one statement.
  struct Place {
    std::shared_ptr<cache::Gathering> gathering;
    size_t index;
  };
  void Judge(HeldPtr held, const Place& place = {});
  void NoteChange(Held* held);
  void JudgeBeside(const std::string& id, HeldPtr held);
  void JudgeAfter(const std::string& id, HeldPtr held, const Place& place);
  Episode* Find(const std::string& id);
  Episode* Open(const std::string& id, HeldPtr held, diff::FreshnessCase rule);
  void Join(Episode* episode, HeldPtr held);
  void LookAgain(const std::string& id, uint64_t turn);
  void LookIntoStore(const std::string& id, Episode* episode);
  void AskControl(const std::string& id, Episode* episode, const Place& place = {});
  void Advance(const std::string& id, Episode* episode, const diff::Step& step);
  // Before an episode is confirmed, as `step` has it.
  void CheckTwins(const std::string& id, Episode* episode, const diff::Step& step);
  void Checked(const std::string& id, Episode* episode, const diff::Step& step, absl::StatusOr<NoiseProbe::Pair> pair);
  void LookAgainIn(const std::string& id, Episode* episode, absl::Duration after);
  // What change capture knows by now of the last look.
  void LearnFromCapture(const std::string& id, uint64_t turn);
  // Of the sample's tags; absent where they are not captured.
  std::optional<cache::Standing> StandingOf(const Sample& sample) const;
  void Close(std::string id, const diff::Step& step);
  void Remember(const std::string& id, Match match);
  void ShedEpisode(const std::string& id, base::Counter* why);
  // The opener and those that joined it, by how it ended.
  void SettleAll(Episode* episode);
  // `held`: the sample whose fill the verdict is about; `ticket`: the read that is settled.
  void Settle(const Held* held, diff::Ledger::Ticket* ticket, diff::Verdict verdict);

  diff::FreshnessCase NewCase(const Sample& sample) const;
  // Completes `look` by what the control said about the sample.
  Judgement CompareInto(diff::Look* look, Held* held, const Truth& truth);
  // Whose the answer is that was served, where it is somebody else's.
  void Recognise(const Sample& sample, const Truth& truth, Judgement* judgement);
  // By when what the control said was committed and visible, where that can be known.
  absl::Time CommittedBy(const Sample& sample, const Truth& truth) const;
  void Keep(Episode* episode, Judgement judgement, const diff::Look& look);

  void Report(std::unique_ptr<Episode> closed);
  void Fill(Drawn drawn);
  // Takes so many queries' tokens out of the budget, if more than `reserve` of it would be left.
  bool Spend(double reserve, double queries = 1);
  void Gauge();
  void FinishShutdown();
  // The wall time of a steady moment. It never jumps, so that the freshness rule holds whatever the machine's clock
  // does.
  absl::Time At(absl::Duration steady) const { return wall_origin_ + steady; }

  const Options options_;
  Deps deps_;
  const absl::Time wall_origin_;
  const std::unique_ptr<Counters> counters_;
  const std::shared_ptr<Usage> usage_ = std::make_shared<Usage>();
  std::atomic<bool> stopping_{false};
  std::atomic<size_t> fills_{0};
  std::atomic<uint64_t> replicas_{1};
  std::atomic<uint32_t> boost_ppm_{1'000'000};
  base::Mutex inbox_mutex_;
  std::vector<HeldPtr> inbox_ ABSL_GUARDED_BY(inbox_mutex_);  // Not judged yet.

  // From here on the executor's alone.
  Budget budget_;
  Comparer comparer_;
  NoiseProbe probe_;
  Reporter reporter_;
  absl::flat_hash_map<std::string, std::unique_ptr<Episode>> episodes_;
  absl::flat_hash_map<std::string, Match> matches_;
  absl::flat_hash_map<uint64_t, Seen> seen_;  // By the hash of the key.
  Recogniser recogniser_;
  uint64_t turns_ = 0;
  absl::AnyInvocable<void()> shutdown_done_;
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_READ_VERIFIER_H_
