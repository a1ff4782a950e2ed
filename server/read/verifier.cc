#include "server/read/verifier.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/log.h"
#include "cache/origin/gathering_control.h"
#include "cache/origin/snapshot.h"
#include "diff/compare/instant.h"
#include "diff/verdict/noise.h"
#include "diff/verdict/owner.h"
#include "diff/verdict/twin_check.h"
#include "server/read/candidate.h"
#include "server/read/finding.h"
#include "server/read/recogniser.h"

namespace shadowline::server {
namespace {

// Samples are judged together, and what they ask the control is one statement, at most this late: a statement for each
// of them, and a waking of its thread and of the executor, cost the callers' processors four times as much. A write
// that comes in between opens an episode for nothing, so it is short beside any freshness bound.
constexpr absl::Duration kGather = absl::Milliseconds(25);
// Of its statement's timeouts, for how many a sample waits for the control.
constexpr int kPatience = 4;

using diff::Look;
using diff::Verdict;

// Shares of the budget that are left for what matters more: an open episode, then a sample, then a warm cache.
constexpr double kReserveOfSamples = 0.25;
constexpr double kReserveOfStrata = 0.375;
constexpr double kReserveOfFills = 0.5;
// How full the bucket is where strata get none of their shares, and where all.
constexpr double kNoBoost = 0.5;
constexpr double kFullBoost = 0.75;
// Somebody has to look whether the database is well again, however small a replica's part is.
constexpr double kLeastPerSecond = 1;

// How often an episode's control is read twice in vain, and how long after, before it is errored.
constexpr int kChecksFailedMost = 3;
constexpr absl::Duration kCheckRetry = absl::Milliseconds(200);

// By then the certifier has come to a snapshot that was taken now: it asks ten times a second.
constexpr absl::Duration kCertifierBehind = absl::Milliseconds(250);

// One fill of one key, with the very bytes it was seen with.
std::string EpisodeId(const Sample& sample) {
  return absl::StrCat(sample.drawn.key, absl::string_view("\0", 1), sample.fill, absl::Hex(sample.served.etag));
}

diff::EvidenceKey EvidenceKeyOf(const Drawn& drawn) {
  diff::EvidenceKey key;
  key.tenant = drawn.query.tenant;
  key.family = drawn.query.endpoint->family;
  key.endpoint = drawn.query.endpoint->name;
  key.window = drawn.window;
  key.catalog_revision = drawn.query.catalog->revision();
  return key;
}

bool SawAllOf(absl::string_view control_snapshot, absl::string_view fill_snapshot) {
  const auto control = cache::ParseSnapshot(control_snapshot);
  const auto fill = cache::ParseSnapshot(fill_snapshot);
  return control.ok() && fill.ok() && cache::SeesAllOf(*control, *fill);
}

// Places of the counters of what the budget did not allow: each stratum, and then
constexpr size_t kShedUniform = diff::kStrata;
constexpr size_t kShedEpisode = kShedUniform + 1;

// The most suspicious of its strata.
size_t ShedAs(const Drawn& drawn) {
  for (size_t i = 0; i < diff::kStrata && !drawn.inclusion.uniform; ++i) {
    if (drawn.inclusion.strata.Has(static_cast<diff::Stratum>(i))) return i;
  }
  return kShedUniform;
}

// An application can put anything under any key. What Shadowline fills says for which key it was filled.
bool MayBeAnothers(const cache::Endpoint& endpoint) { return endpoint.external.has_value(); }

// What is left of a comparison, with its values. Of differences at one place with one kind, all are left or none.
Compared Narrowed(const Compared& whole, const diff::Comparison& left) {
  Compared narrowed = {left, {}};
  if (whole.values.empty()) return narrowed;
  size_t at = 0;
  for (const diff::Difference& difference : left.differences) {
    while (whole.differences[at].pointer != difference.pointer || whole.differences[at].kind != difference.kind) ++at;
    narrowed.values.push_back(whole.values[at++]);
  }
  return narrowed;
}

cache::TagHashes HashesOf(const cache::Query& query) {
  return cache::HashesOf(*query.endpoint, query.tenant,
                         CandidateFences(*query.endpoint, query.tenant, query.arguments));
}

// A server that may be behind proves nothing about what is newer.
diff::Versions VersionsOf(const Sample& sample, const cache::ControlAnswer& control,
                          const diff::Comparison& difference) {
  const diff::Versions versions =
      diff::CompareVersions(sample.served.body, control.body, sample.drawn.query.endpoint->row_version, difference);
  return versions == diff::Versions::kNewer && control.standby ? diff::Versions::kUnknown : versions;
}

bool ByEquality(Verdict verdict) { return verdict == Verdict::kMatched || verdict == Verdict::kExcused; }

}  // namespace

struct Verifier::Counters {
  explicit Counters(base::Metrics* metrics)
      : samples(metrics->AddGauge("shadowline_verification_samples", "Sampled reads that wait for a verdict.")),
        bytes(metrics->AddGauge("shadowline_verification_bytes", "What sampled reads that wait for a verdict hold.")),
        episodes(metrics->AddGauge("shadowline_verification_episodes", "Episodes that are being judged.")),
        budget(metrics->AddGauge("shadowline_verification_budget_per_second",
                                 "Control queries that verification may add now.")),
        boost(metrics->AddGauge("shadowline_verification_boost", "Part of the strata's shares that can be afforded.")) {
    for (int i = 0; i < static_cast<int>(verdicts.size()); ++i) {
      verdicts[i] = metrics->AddCounter("shadowline_verdicts_total", "Verdicts on sampled reads.",
                                        {{"verdict", std::string(diff::VerdictName(static_cast<Verdict>(i)))}});
    }
    const auto by_outcome = [metrics](const char* name, const char* help, const char* outcome) {
      return metrics->AddCounter(name, help, {{"outcome", outcome}});
    };
    const auto compared = [metrics](const char* look) {
      return metrics->AddCounter("shadowline_verification_comparisons_total",
                                 "Control answers that sampled ones were compared with.", {{"look", look}});
    };
    compared_first = compared("first");
    compared_again = compared("again");
    constexpr char kQueries[] = "shadowline_verification_queries_total";
    constexpr char kQueriesHelp[] = "Control queries that verification has added.";
    queries_ok = by_outcome(kQueries, kQueriesHelp, "ok");
    queries_failed = by_outcome(kQueries, kQueriesHelp, "failed");
    constexpr char kFills[] = "shadowline_verification_fills_total";
    constexpr char kFillsHelp[] = "Background fills of keys that a shadow read had missed.";
    fills_done = by_outcome(kFills, kFillsHelp, "done");
    fills_failed = by_outcome(kFills, kFillsHelp, "failed");
    fills_refused = by_outcome(kFills, kFillsHelp, "refused");
    noise_episodes = metrics->AddCounter("shadowline_noise_episodes_total",
                                         "Episodes in which nothing differed but noise: inconclusive.");
    const auto shed = [metrics](const char* why) {
      return metrics->AddCounter("shadowline_verification_shed_total", "Sampled reads that were not judged, by cause.",
                                 {{"why", why}});
    };
    for (size_t i = 0; i < budget_shed.size(); ++i) {
      const absl::string_view of = i == kShedUniform   ? "uniform"
                                   : i == kShedEpisode ? "episode"
                                                       : diff::StratumName(static_cast<diff::Stratum>(i));
      budget_shed[i] = metrics->AddCounter("shadowline_verification_over_budget_total",
                                           "Sampled reads that were not judged for want of budget.",
                                           {{"sampled_as", std::string(of)}});
    }
    shed_queue = shed("queue");
    shed_budget = shed("budget");
    shed_reader = shed("reader");
    shed_stopping = shed("stopping");
  }

  std::array<base::Counter*, static_cast<int>(Verdict::kShed) + 1> verdicts;
  base::Gauge* samples;
  base::Gauge* bytes;
  base::Gauge* episodes;
  base::Gauge* budget;
  base::Gauge* boost;
  std::array<base::Counter*, kShedEpisode + 1> budget_shed;
  base::Counter* compared_first;
  base::Counter* compared_again;
  base::Counter* queries_ok;
  base::Counter* queries_failed;
  base::Counter* fills_done;
  base::Counter* fills_failed;
  base::Counter* fills_refused;
  base::Counter* noise_episodes;
  base::Counter* shed_queue;
  base::Counter* shed_budget;
  base::Counter* shed_reader;
  base::Counter* shed_stopping;
};

Verifier::Held::Held(std::shared_ptr<Usage> counted_in, Sample from, diff::Ledger::Ticket read_ticket)
    : usage(std::move(counted_in)), sample(std::move(from)), ticket(std::move(read_ticket)) {
  usage->samples.fetch_add(1);
  usage->bytes.fetch_add(BytesOf(sample));
}

Verifier::Held::~Held() {
  usage->samples.fetch_sub(1);
  usage->bytes.fetch_sub(BytesOf(sample));
}

size_t Verifier::BytesOf(const Sample& sample) {
  const bool has_truth = sample.truth.has_value() && sample.truth->answer.ok();
  return sizeof(Held) + sample.drawn.key.size() + sample.served.body.size() +
         (has_truth ? sample.truth->answer->body.size() : 0);
}

// What a control's answer says about a sample, beside whether it differs.
struct Verifier::Judgement {
  Compared difference;  // Without differences: there is none.
  bool control_found = true;
  absl::Time committed_by = absl::InfiniteFuture();
  uint64_t transaction = 0;  // From change capture.
  diff::Stranger stranger = diff::Stranger::kNobody;
  bool named = false;   // By the answer itself.
  bool proven = false;  // Whosever the answer was before, it is wrong here by now.
};

// One (key, fill) that is being judged.
struct Verifier::Episode {
  explicit Episode(HeldPtr first, diff::FreshnessCase rule_of_it)
      : opener(std::move(first)), rule(std::move(rule_of_it)), near(opener->sample.near) {}

  HeldPtr opener;                            // Its candidate is what is judged.
  std::vector<diff::Ledger::Ticket> joined;  // Later reads of the same fill.
  diff::FreshnessCase rule;
  uint64_t turn = 0;  // Which timer is the present one.
  bool looking = false;
  Look look;                                // Under way.
  std::optional<absl::Duration> asked_at;   // When the control was asked in the last look or in the one under way.
  Judgement last;                           // The last one that found a difference.
  diff::Step end;                           // What settled it.
  std::map<std::string, absl::Time> since;  // From when on a pattern differs, as far as it counts.
  int checks = 0;                           // Pairs that left it undecided,
  int checks_failed = 0;                    // and those that could not be read.
  std::vector<HeldPtr> late;                // Too late to be proven by the look under way.
  NearSource* near;                         // That a sample of the fill came from last.
};

Verifier::Verifier(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(std::move(deps)),
      wall_origin_(deps_.clock->Now() - deps_.clock->Steady()),
      counters_(std::make_unique<Counters>(deps_.metrics)),
      budget_(options_.queries_per_second, options_.burst),
      comparer_(options_.redaction_secret),
      probe_({.twins = deps_.twins,
              .book = deps_.noise,
              .comparer = &comparer_,
              .spend = [this](double reserve, double queries) { return Spend(reserve, queries); },
              .executor = deps_.executor,
              .clock = deps_.clock,
              .metrics = deps_.metrics}),
      reporter_(Keeper(options_.redaction_secret, options_.sealer), {.store = deps_.store,
                                                                     .invalidator = deps_.invalidator,
                                                                     .metrics = deps_.metrics,
                                                                     .record = std::move(deps_.record)}) {}

Verifier::~Verifier() = default;

// ---- What readers call, on their own threads ----

void Verifier::Submit(Sample sample, absl::Duration candidate_latency) {
  const diff::EvidenceKey key = EvidenceKeyOf(sample.drawn);
  const bool full =
      usage_->samples.load() >= options_.samples_max || usage_->bytes.load() + BytesOf(sample) > options_.bytes_max;
  const std::optional<absl::Duration> counted =
      sample.drawn.inclusion.uniform ? std::optional(candidate_latency) : std::nullopt;
  if (full || stopping_.load()) {
    if (counted.has_value()) deps_.ledger->CandidateLatency(key, *counted);
    return Shed(key, full ? counters_->shed_queue : counters_->shed_stopping);
  }
  std::optional<diff::Ledger::Ticket> ticket = deps_.ledger->Sampled(key, counted, sample.drawn.inclusion);
  if (!ticket.has_value()) return;  // The ledger is full, and has counted that.
  auto held = std::make_unique<Held>(usage_, std::move(sample), *std::move(ticket));
  size_t waiting;
  {
    base::MutexLock lock(&inbox_mutex_);
    inbox_.push_back(std::move(held));
    waiting = inbox_.size();
  }
  if (waiting == 1) deps_.executor->PostAfter(kGather, [this] { JudgeInbox(); });
  if (waiting == cache::QuerySet::kMost) deps_.executor->Post([this] { JudgeInbox(); });
}

void Verifier::JudgeInbox() {
  std::vector<HeldPtr> gathered;
  {
    base::MutexLock lock(&inbox_mutex_);
    gathered.swap(inbox_);
  }
  const auto gathering = std::make_shared<cache::Gathering>(gathered.size());
  for (size_t i = 0; i < gathered.size(); ++i) {
    Judge(std::move(gathered[i]), {gathering, i});
    gathering->Settle(i);
  }
}

void Verifier::Missed(Drawn drawn, absl::Duration candidate_latency, bool fill) {
  const diff::EvidenceKey key = EvidenceKeyOf(drawn);
  deps_.ledger->CandidateMiss(key);
  if (drawn.inclusion.uniform) deps_.ledger->CandidateLatency(key, candidate_latency);
  if (!fill) return;
  if (stopping_.load()) return counters_->fills_refused->Add();
  if (fills_.fetch_add(1) >= options_.fills_max) {
    fills_.fetch_sub(1);
    return counters_->fills_refused->Add();
  }
  deps_.executor->Post(
      [this, drawn = std::make_unique<Drawn>(std::move(drawn))]() mutable { Fill(std::move(*drawn)); });
}

void Verifier::Failed(const Drawn& drawn) { deps_.ledger->CandidateError(EvidenceKeyOf(drawn)); }

void Verifier::Refused(const Drawn& drawn) { Shed(EvidenceKeyOf(drawn), counters_->shed_reader); }

void Verifier::Shed(const diff::EvidenceKey& key, base::Counter* why) {
  deps_.ledger->Shed(key);
  why->Add();
  counters_->verdicts[static_cast<int>(Verdict::kShed)]->Add();
}

void Verifier::Shutdown(absl::AnyInvocable<void()> done) {
  stopping_.store(true);
  deps_.executor->Post([this, done = std::move(done)]() mutable {
    shutdown_done_ = std::move(done);
    JudgeInbox();
    probe_.Stop();
    std::vector<std::string> open;
    for (const auto& [id, episode] : episodes_) open.push_back(id);
    for (const std::string& id : open) ShedEpisode(id, counters_->shed_stopping);
    FinishShutdown();
  });
}

void Verifier::FinishShutdown() {
  if (shutdown_done_ != nullptr && reporter_.idle()) std::exchange(shutdown_done_, nullptr)();
}

// ---- Judging, on the executor ----

void Verifier::Judge(HeldPtr held, const Place& place) {
  if (stopping_.load()) {
    counters_->shed_stopping->Add();
    return Settle(held.get(), &held->ticket, Verdict::kShed);
  }
  NoteChange(held.get());
  const cache::Query& query = held->sample.drawn.query;
  if (query.endpoint->noise_ppm > 0 && deps_.random->Below(1'000'000) < query.endpoint->noise_ppm) {
    probe_.Measure(query, kReserveOfFills);
  }
  const std::string id = EpisodeId(held->sample);
  held->sample.truth.has_value() ? JudgeBeside(id, std::move(held)) : JudgeAfter(id, std::move(held), place);
  Gauge();
}

// Whether an application's value came after a write, nothing in it tells. That it came after another answer under the
// same key does.
void Verifier::NoteChange(Held* held) {
  const Sample& sample = held->sample;
  held->exercised = sample.served.after_fence;
  if (!sample.drawn.query.endpoint->external.has_value()) return;
  // Forgotten as a whole where they are many: fewer episodes count as exercised then.
  if (seen_.size() >= options_.matches_max) seen_.clear();
  auto [entry, first] = seen_.try_emplace(base::Hash64(sample.drawn.key));
  Seen& seen = entry->second;
  if (first || (seen.etag != sample.served.etag && seen.at <= sample.candidate_at)) {
    seen = {sample.served.etag, sample.served_at, !first};
  }
  held->exercised = seen.changed && seen.etag == sample.served.etag;
}

// SHADOW: the control was read beside the candidate, so the first look is here already.
void Verifier::JudgeBeside(const std::string& id, HeldPtr held) {
  const Truth& truth = *held->sample.truth;
  Look look;
  look.candidate_at = At(held->sample.candidate_at);
  look.control_after_candidate = false;
  Judgement judgement = CompareInto(&look, held.get(), truth);
  diff::FreshnessCase rule = NewCase(held->sample);
  const diff::Step step = rule.Add(look);
  Episode* open = Find(id);
  const bool confirmed = step.verdict == Verdict::kConfirmed;
  if (step.verdict.has_value() && !confirmed) {
    // The read is settled by its own control. What that says about an open episode of the same fill is heard there,
    // too.
    if (open != nullptr && !open->looking && look.control != Look::Control::kUnknown) {
      open->asked_at = truth.asked_at;
      if (const diff::Step heard = open->rule.Add(look); heard.verdict.has_value()) Close(id, heard);
    }
    if (ByEquality(*step.verdict)) Remember(id, {-absl::InfiniteDuration(), *step.verdict, held->compared});
    return Settle(held.get(), &held->ticket, *step.verdict);
  }
  if (open != nullptr) {
    Join(open, std::move(held));
    if (!confirmed || open->looking) return;
    open->rule.Add(look);
  } else {
    open = Open(id, std::move(held), std::move(rule));
  }
  Keep(open, std::move(judgement), look);
  Advance(id, open, step);
}

// CACHE: the candidate was served, and the control is read now.
void Verifier::JudgeAfter(const std::string& id, HeldPtr held, const Place& place) {
  const Sample& sample = held->sample;
  if (auto match = matches_.find(id); match != matches_.end()) {
    const absl::Duration reach = std::min(sample.drawn.query.endpoint->freshness, options_.match_reuse);
    if (sample.served_at <= match->second.asked_at + reach) {
      held->compared = match->second.compared;
      return Settle(held.get(), &held->ticket, match->second.verdict);
    }
  }
  if (Episode* open = Find(id); open != nullptr) return Join(open, std::move(held));
  if (!Spend(sample.drawn.inclusion.uniform ? kReserveOfSamples : kReserveOfStrata)) {
    counters_->shed_budget->Add();
    counters_->budget_shed[ShedAs(sample.drawn)]->Add();
    return Settle(held.get(), &held->ticket, Verdict::kShed);
  }
  diff::FreshnessCase rule = NewCase(sample);
  Look look;
  look.candidate_at = At(sample.candidate_at);
  Episode* episode = Open(id, std::move(held), std::move(rule));
  episode->look = look;
  AskControl(id, episode, place);
}

Verifier::Episode* Verifier::Find(const std::string& id) {
  auto found = episodes_.find(id);
  return found == episodes_.end() ? nullptr : found->second.get();
}

Verifier::Episode* Verifier::Open(const std::string& id, HeldPtr held, diff::FreshnessCase rule) {
  return (episodes_[id] = std::make_unique<Episode>(std::move(held), std::move(rule))).get();
}

void Verifier::Join(Episode* episode, HeldPtr held) {
  if (held->sample.near != nullptr) episode->near = held->sample.near;
  const absl::Duration freshness = held->sample.drawn.query.endpoint->freshness;
  const bool own_truth = held->sample.truth.has_value();
  if (!own_truth && episode->looking && episode->asked_at.has_value() &&
      held->sample.served_at > *episode->asked_at + freshness) {
    episode->late.push_back(std::move(held));
  } else {
    episode->joined.push_back(std::move(held->ticket));
  }
}

void Verifier::LookAgain(const std::string& id, uint64_t turn) {
  Episode* episode = Find(id);
  if (episode == nullptr || episode->turn != turn) return;
  if (!Spend(/*reserve=*/0)) {
    counters_->budget_shed[kShedEpisode]->Add(1 + static_cast<double>(episode->joined.size() + episode->late.size()));
    return ShedEpisode(id, counters_->shed_budget);
  }
  episode->looking = true;
  episode->asked_at.reset();
  episode->look = Look();
  // The time before the question: the fill was still served then, or later.
  episode->look.candidate_at = At(deps_.clock->Steady());
  if (episode->near == nullptr) return LookIntoStore(id, episode);
  const Sample& sample = episode->opener->sample;
  episode->near->StillServes(sample.drawn.key, sample.fill, deps_.executor, [this, id](bool serves) {
    Episode* open = Find(id);
    if (open == nullptr) return;
    serves ? AskControl(id, open) : LookIntoStore(id, open);
  });
}

void Verifier::LookIntoStore(const std::string& id, Episode* episode) {
  const Drawn& drawn = episode->opener->sample.drawn;
  const cache::Query& query = drawn.query;
  const auto looked = [this, id](absl::StatusOr<cache::Found> found) {
    Episode* open = Find(id);
    if (open == nullptr) return;
    const Sample& sample = open->opener->sample;
    if (!found.ok()) {
      open->look.candidate = Look::Candidate::kUnknown;
    } else if (!DecodeCandidate(*sample.drawn.query.endpoint, sample.drawn.key, &*found).ok() ||
               found->slot.fill != sample.fill) {
      open->look.candidate = Look::Candidate::kReplaced;
      // The fill is gone after it differed: what the database says now adds nothing.
      if (open->last.difference.differences_total > 0) {
        open->look.control_at = open->look.candidate_at;
        open->looking = false;
        return Advance(id, open, open->rule.Add(open->look));
      }
    }
    AskControl(id, open);
  };
  ReadCandidate(deps_.store, *query.endpoint, query.tenant, query.arguments, drawn.key,
                CandidateFences(*query.endpoint, query.tenant, query.arguments), looked);
}

void Verifier::AskControl(const std::string& id, Episode* episode, const Place& place) {
  cache::Query query = episode->opener->sample.drawn.query;
  query.gathering = place.gathering;
  query.place = place.index;
  // Each statement has the endpoint's timeout. A set that was too much for it is cut up, and nobody waits here.
  const absl::Duration patience = kPatience * query.endpoint->timeout;
  const absl::Duration asked_at = deps_.clock->Steady();
  episode->looking = true;
  episode->asked_at = asked_at;
  deps_.control->Load(std::move(query), patience, deps_.executor,
                      [this, id, asked_at](absl::StatusOr<cache::ControlAnswer> answer) {
                        (answer.ok() ? counters_->queries_ok : counters_->queries_failed)->Add();
                        Episode* open = Find(id);
                        if (open == nullptr) return;
                        const Truth truth{std::move(answer), asked_at, deps_.clock->Steady()};
                        Keep(open, CompareInto(&open->look, open->opener.get(), truth), open->look);
                        open->looking = false;
                        Advance(id, open, open->rule.Add(open->look));
                      });
}

void Verifier::Advance(const std::string& id, Episode* episode, const diff::Step& step) {
  // No reading of the control makes somebody else's answer this one's.
  if (step.verdict == Verdict::kConfirmed && step.proof != diff::Proof::kAtOnce) return CheckTwins(id, episode, step);
  if (step.verdict.has_value()) return Close(id, step);
  LookAgainIn(id, episode, step.look_again_in);
  const Sample& sample = episode->opener->sample;
  if (step.look_again_in <= kCertifierBehind || deps_.certifier == nullptr) return;
  if (!sample.drawn.query.endpoint->captured) return;
  deps_.executor->PostAfter(kCertifierBehind, [this, id, turn = episode->turn] { LearnFromCapture(id, turn); });
}

void Verifier::LearnFromCapture(const std::string& id, uint64_t turn) {
  Episode* episode = Find(id);
  if (episode == nullptr || episode->turn != turn || episode->looking) return;
  const Sample& sample = episode->opener->sample;
  const std::optional<cache::Standing> standing = StandingOf(sample);
  // Where nothing was written, the answer changed by itself, and nobody knows when.
  if (!standing.has_value() || standing->certificate != cache::Certificate::kOutdated) return;
  const cache::Query& query = sample.drawn.query;
  const std::optional<absl::Duration> since = deps_.certifier->UnchangedSince(
      cache::CaptureMapHash(*query.catalog), HashesOf(query), episode->rule.looks().back().snapshot);
  if (!since.has_value()) return;
  const diff::Step step = episode->rule.Learn(At(*since));
  if (!step.verdict.has_value() && step.look_again_in > kCertifierBehind) return;  // The timer stays.
  episode->last.committed_by = At(*since);
  episode->last.transaction = standing->newest;
  Advance(id, episode, step);
}

std::optional<cache::Standing> Verifier::StandingOf(const Sample& sample) const {
  const cache::Query& query = sample.drawn.query;
  if (deps_.certifier == nullptr || !query.endpoint->captured) return std::nullopt;
  return deps_.certifier->Of(cache::CaptureMapHash(*query.catalog), HashesOf(query), sample.served.snapshot);
}

void Verifier::LookAgainIn(const std::string& id, Episode* episode, absl::Duration after) {
  // The next look begins after these reads, so that it can prove them.
  for (HeldPtr& late : std::exchange(episode->late, {})) episode->joined.push_back(std::move(late->ticket));
  episode->turn = ++turns_;
  deps_.executor->PostAfter(after, [this, id, turn = episode->turn] { LookAgain(id, turn); });
}

// ---- Noise ----

void Verifier::CheckTwins(const std::string& id, Episode* episode, const diff::Step& step) {
  episode->looking = true;
  episode->turn = ++turns_;
  probe_.Check(episode->opener->sample.drawn.query,
               [this, id, step, turn = episode->turn](absl::StatusOr<NoiseProbe::Pair> pair) {
                 Episode* open = Find(id);
                 if (open == nullptr || open->turn != turn) return;
                 open->looking = false;
                 Checked(id, open, step, std::move(pair));
               });
}

void Verifier::Checked(const std::string& id, Episode* episode, const diff::Step& step,
                       absl::StatusOr<NoiseProbe::Pair> pair) {
  const auto close = [&](Verdict verdict) {
    diff::Step end = step;
    end.verdict = verdict;
    Close(id, end);
  };
  const Sample& sample = episode->opener->sample;
  const cache::Query& query = sample.drawn.query;
  if (!pair.ok()) {
    if (++episode->checks_failed > kChecksFailedMost) {
      base::Log(base::Level::kWarning, "twin_read_failed",
                {{"endpoint", query.endpoint->name},
                 {"status", pair.status().ToString()},
                 {"effect", "a difference was not confirmed, since nobody knows whether it is noise"}});
      return close(Verdict::kErrored);
    }
    episode->turn = ++turns_;
    return deps_.executor->PostAfter(kCheckRetry, [this, id, step, turn = episode->turn] {
      if (Episode* open = Find(id); open != nullptr && open->turn == turn) CheckTwins(id, open, step);
    });
  }
  const diff::Answer served = {sample.served.found, sample.served.body};
  const auto& [first, second] = pair->answers;
  // Where a place is noisy, the fill itself may hold a slip of it. One that another reading equalled does not.
  const bool repeated = matches_.contains(id);
  const diff::NoiseCounts noise = deps_.noise->Counts(NoiseKeyOf(query));
  const Compared of_first = comparer_.Compare(query, {first.found, first.body}, served);
  const diff::TwinCheck check(of_first, comparer_.Compare(query, {second.found, second.body}, served), pair->between,
                              [&](absl::string_view pattern) { return !repeated && diff::IsNoisy(noise, pattern); });
  if (check.left().patterns.empty()) {
    // Where nothing differs any more, the database has gone back to what was served.
    if (!of_first.patterns.empty()) counters_->noise_episodes->Add();
    return close(Verdict::kInconclusive);
  }
  const Look& last = episode->rule.looks().back();
  const absl::Duration delta = query.endpoint->freshness;
  // Where there is noise, it may have been all that differed until now. What was committed long ago was not.
  const bool young = step.proof == diff::Proof::kByObservation && noise.differed > 0 &&
                     !check.OldEnough(episode->since, last.candidate_at - delta);
  // What is left may be a write's that came since.
  const bool moved = step.proof == diff::Proof::kByVersion && VersionsOf(sample, first, check.left()) != last.versions;
  if (young || moved) {
    if (++episode->checks > options_.max_rounds) return close(Verdict::kInconclusive);
    return LookAgainIn(id, episode, delta);
  }
  episode->last.difference = Narrowed(of_first, check.left());
  episode->last.control_found = first.found;
  close(Verdict::kConfirmed);
}

void Verifier::Close(std::string id, const diff::Step& step) {
  std::unique_ptr<Episode> episode = std::move(episodes_.extract(id).mapped());
  const Verdict verdict = *step.verdict;
  episode->end = step;
  std::vector<HeldPtr> again;
  if (ByEquality(verdict)) {
    Remember(id, {*episode->asked_at, verdict, episode->opener->compared});
    again = std::move(episode->late);
  } else {
    for (HeldPtr& late : episode->late) episode->joined.push_back(std::move(late->ticket));
  }
  // Counted once the divergence is recorded: a process that dies in between has lost these reads, not their proof.
  if (verdict == Verdict::kConfirmed) {
    Report(std::move(episode));
  } else {
    SettleAll(episode.get());
    episode.reset();
  }
  for (HeldPtr& late : again) Judge(std::move(late));
  Gauge();
}

void Verifier::SettleAll(Episode* episode) {
  Held* opener = episode->opener.get();
  const Verdict verdict = *episode->end.verdict;
  Settle(opener, &opener->ticket, verdict);
  for (diff::Ledger::Ticket& ticket : episode->joined) Settle(opener, &ticket, verdict);
}

void Verifier::Remember(const std::string& id, Match match) {
  // Only a saving, so that it may be forgotten as a whole.
  if (matches_.size() >= options_.matches_max) matches_.clear();
  const auto [entry, added] = matches_.try_emplace(id, match);
  if (!added && match.asked_at > entry->second.asked_at) entry->second = match;
}

void Verifier::ShedEpisode(const std::string& id, base::Counter* why) {
  why->Add(1 + static_cast<double>(Find(id)->joined.size() + Find(id)->late.size()));
  diff::Step shed;
  shed.verdict = Verdict::kShed;
  Close(id, shed);
}

void Verifier::Settle(const Held* held, diff::Ledger::Ticket* ticket, Verdict verdict) {
  const Sample& sample = held->sample;
  // What was drawn because it is suspicious adds nothing to what was found right, else windows would be clean the
  // sooner for it (docs/sampling.md). Nor does what the declared rules left nothing of to compare.
  if (held->compared && (ByEquality(verdict) || verdict == Verdict::kHealed) && ticket->inclusion().uniform) {
    deps_.ledger->Verified(ticket->key(), {.id = base::Hash64(absl::StrCat(sample.drawn.key, sample.fill)),
                                           .key = base::Hash64(sample.drawn.key),
                                           .exercised = held->exercised});
  }
  ticket->Settle(verdict);
  counters_->verdicts[static_cast<int>(verdict)]->Add();
}

// ---- Comparing ----

diff::FreshnessCase Verifier::NewCase(const Sample& sample) const {
  diff::FreshnessCase::Options options;
  options.delta = sample.drawn.query.endpoint->freshness;
  options.max_rounds = options_.max_rounds;
  return diff::FreshnessCase(options, At(sample.served_at));
}

Verifier::Judgement Verifier::CompareInto(Look* look, Held* held, const Truth& truth) {
  const Sample& sample = held->sample;
  Judgement judgement;
  look->control_at = At(truth.answered_at);
  look->control = Look::Control::kUnknown;
  if (!truth.answer.ok()) return judgement;
  look->snapshot = truth.answer->snapshot;
  const cache::Query& query = sample.drawn.query;
  // Which snapshot an application loaded from is not known. But it had loaded by the time its value was here.
  look->control_after_fill = query.endpoint->external.has_value()
                                 ? truth.asked_at >= sample.served_at
                                 : SawAllOf(truth.answer->snapshot, sample.served.snapshot);
  Compared result =
      comparer_.Compare(query, {truth.answer->found, truth.answer->body}, {sample.served.found, sample.served.body});
  held->compared = result.compared;
  (std::exchange(held->looked, true) ? counters_->compared_again : counters_->compared_first)->Add();
  switch (result.verdict) {
    case diff::Comparison::Verdict::kEqual:
      look->control = Look::Control::kEqual;
      break;
    case diff::Comparison::Verdict::kExcused:
      look->control = Look::Control::kExcused;
      break;
    case diff::Comparison::Verdict::kDiffer:
      look->control = Look::Control::kDiffers;
      look->versions = VersionsOf(sample, *truth.answer, result);
      judgement.difference = std::move(result);
      judgement.control_found = truth.answer->found;
      judgement.committed_by = look->committed_by = CommittedBy(sample, truth);
      Recognise(sample, truth, &judgement);
      look->never_right = judgement.named || judgement.proven ||
                          (!judgement.difference.differences.empty() &&
                           judgement.difference.differences[0].kind == diff::DifferenceKind::kShape);
      break;
    case diff::Comparison::Verdict::kError:
      break;
  }
  // What the control says is somebody's answer from now on, and was nobody's when this sample was served.
  if (MayBeAnothers(*query.endpoint) && truth.answer->found) {
    recogniser_.Heard(QuestionOf(query), truth.answer->body, deps_.clock->Steady());
  }
  return judgement;
}

void Verifier::Recognise(const Sample& sample, const Truth& truth, Judgement* judgement) {
  const cache::Query& query = sample.drawn.query;
  if (!MayBeAnothers(*query.endpoint) || !sample.served.found) return;
  const Recogniser::Recognised recognised = recogniser_.Recognise(
      *query.endpoint, query.tenant, QuestionOf(query), sample.served.body, truth.answer->body, deps_.clock->Steady());
  judgement->stranger = recognised.stranger;
  judgement->named = recognised.named;
  // Data that moved from here to there may still be served for as long as the bound allows.
  judgement->proven = judgement->stranger != diff::Stranger::kNobody &&
                      recognised.since <= sample.candidate_at - query.endpoint->freshness;
}

absl::Time Verifier::CommittedBy(const Sample& sample, const Truth& truth) const {
  const std::string& pointer = sample.drawn.query.endpoint->committed_at;
  if (pointer.empty() || !truth.answer->found || truth.answer->database_clock == absl::InfinitePast()) {
    return absl::InfiniteFuture();
  }
  const std::set<std::string> texts = diff::TextsAt(truth.answer->body, pointer);
  if (texts.size() != 1) return absl::InfiniteFuture();
  const std::optional<diff::Instant> instant = diff::Instant::Parse(*texts.begin());
  const std::optional<absl::Time> committed_at = instant.has_value() ? instant->ToTime() : std::nullopt;
  if (!committed_at.has_value() || *committed_at > truth.answer->database_clock) return absl::InfiniteFuture();
  // Both by the database's clock, which had come to its time before the answer was here: no two clocks are compared.
  return At(truth.answered_at) - (truth.answer->database_clock - *committed_at);
}

void Verifier::Keep(Episode* episode, Judgement judgement, const Look& look) {
  if (look.control != Look::Control::kDiffers) return;
  const std::vector<std::string>& patterns = judgement.difference.patterns;
  if (look.control_after_fill) {
    // A place that says again what was served begins anew.
    std::erase_if(episode->since, [&](const auto& differed) {
      return std::none_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
        return diff::IsAtOrBelow(pattern, differed.first) || diff::IsAtOrBelow(differed.first, pattern);
      });
    });
    for (const std::string& pattern : patterns) episode->since.try_emplace(pattern, look.control_at);
  }
  episode->last = std::move(judgement);
}

// ---- What is wrong ----

void Verifier::Report(std::unique_ptr<Episode> closed) {
  const Episode& episode = *closed;
  const Sample& sample = episode.opener->sample;
  const cache::Endpoint& endpoint = *sample.drawn.query.endpoint;
  const Judgement& last = episode.last;
  Finding finding{
      .query = sample.drawn.query,
      .evidence = episode.opener->ticket.key(),
      .id = absl::BytesToHexString(
          base::Digest128(absl::StrCat(EpisodeId(sample), absl::string_view("\0", 1), sample.drawn.window))),
      .key = sample.drawn.key,
      .fill = sample.fill,
      .loaded_at = endpoint.external.has_value() ? std::nullopt : std::optional(sample.served.loaded_at),
      .difference = last.difference,
      .rule = episode.rule,
      .proof = episode.end.proof,
      .control_found = last.control_found,
      .candidate_found = sample.served.found,
      .stranger = last.stranger,
      .named = last.named,
      .noise = diff::NoiseEvidence(deps_.noise->Counts(NoiseKeyOf(sample.drawn.query)), last.difference.patterns),
      .reads = 1 + episode.joined.size(),
      .after_cutover = sample.drawn.after_cutover,
      .confirmed_at = At(deps_.clock->Steady())};
  if (finding.proof == diff::Proof::kByCommit) {
    finding.committed_by = last.committed_by;
    finding.transaction = last.transaction;
  }
  if (const std::optional<cache::Standing> standing = StandingOf(sample);
      standing.has_value() && standing->certificate != cache::Certificate::kUnknown) {
    finding.captured = {.any = standing->certificate == cache::Certificate::kOutdated,
                        .transaction = standing->newest,
                        .at = standing->committed_at};
  }
  NearSource* const near = episode.near;
  const std::string key = sample.drawn.key;
  reporter_.Report(std::move(finding), [this, closed = std::move(closed)]() mutable {
    SettleAll(closed.get());
    closed.reset();
    Gauge();
    FinishShutdown();
  });
  // Near caches hear of the repair; should the one that served it have stopped listening, it is told.
  if (near != nullptr) near->Drop(key);
}

// ---- Warming the cache for shadow reads ----

void Verifier::Fill(Drawn drawn) {
  if (stopping_.load() || !Spend(kReserveOfFills)) {
    fills_.fetch_sub(1);
    return counters_->fills_refused->Add();
  }
  const absl::Duration timeout = drawn.query.endpoint->timeout;
  std::vector<std::string> fence_keys =
      CandidateFences(*drawn.query.endpoint, drawn.query.tenant, drawn.query.arguments);
  // What the reader saw of the fences is old by now.
  cache::Miss miss{std::move(drawn.query), std::move(drawn.key), std::move(fence_keys), {.complete = false}};
  deps_.filler->Fill(std::move(miss), timeout, [this](absl::StatusOr<cache::Filled> filled) {
    fills_.fetch_sub(1);
    (filled.ok() ? counters_->fills_done : counters_->fills_failed)->Add();
  });
}

bool Verifier::Spend(double reserve, double queries) {
  const double share = options_.queries_per_second / static_cast<double>(replicas_.load());
  const double factor = deps_.back_off == nullptr ? 1 : deps_.back_off->Factor();
  const double rate = std::max(share * factor, std::min(share, kLeastPerSecond));
  const absl::Duration now = deps_.clock->Steady();
  budget_.SetRate(now, rate);
  counters_->budget->Set(rate);
  const bool taken = budget_.Take(now, reserve, queries);
  const double boost = std::clamp((budget_.level() - kNoBoost) / (kFullBoost - kNoBoost), 0.0, 1.0);
  boost_ppm_.store(static_cast<uint32_t>(boost * 1e6), std::memory_order_relaxed);
  counters_->boost->Set(boost);
  return taken;
}

void Verifier::Gauge() {
  counters_->samples->Set(static_cast<double>(usage_->samples.load()));
  counters_->bytes->Set(static_cast<double>(usage_->bytes.load()));
  counters_->episodes->Set(static_cast<double>(episodes_.size()));
}

}  // namespace shadowline::server
