#include "server/read/observer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "cache/origin/control.h"
#include "diff/compare/compare.h"
#include "diff/verdict/cause.h"

namespace shadowline::server {
namespace {

namespace v1 = shadowline::v1;
using diff::Verdict;

constexpr size_t kJsonBytesMax = 1 << 20;
constexpr size_t kDigestBytesMax = 64;
constexpr size_t kVersionBytesMax = 128;
constexpr size_t kTokenBytesMax = 4096;
// Of a caller's durations: nothing that is reported took longer.
constexpr absl::Duration kDurationMax = absl::Hours(48);
// What a caller's clock may go faster than this replica's while it waits.
constexpr absl::Duration kClockSlack = absl::Milliseconds(2);

absl::Status CheckDuration(absl::string_view field, int64_t us) {
  if (us < 0 || absl::Microseconds(us) > kDurationMax) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": out of range; expected microseconds, at most 48 hours"));
  }
  return absl::OkStatus();
}

absl::Status CheckAnswer(absl::string_view side, const v1::ObservedAnswer& answer, bool is_candidate) {
  const auto refuse = [side](absl::string_view field, absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(side, ".", field, ": ", what));
  };
  switch (answer.outcome()) {
    case v1::OBSERVED_OUTCOME_FOUND:
      if (answer.content_case() == v1::ObservedAnswer::CONTENT_NOT_SET) {
        return refuse("json", "missing; an answer that was found is said as json, or as a digest");
      }
      break;
    case v1::OBSERVED_OUTCOME_MISS:
      if (!is_candidate)
        return refuse("outcome", "only a cache can have no answer; expected FOUND, NOT_FOUND or FAILED");
      [[fallthrough]];
    case v1::OBSERVED_OUTCOME_NOT_FOUND:
    case v1::OBSERVED_OUTCOME_FAILED:
      if (answer.content_case() != v1::ObservedAnswer::CONTENT_NOT_SET) {
        return refuse("outcome", "there is an answer beside it; expected FOUND, or no json and no digest");
      }
      break;
    default:
      return refuse("outcome", "missing; expected FOUND, NOT_FOUND, MISS or FAILED");
  }
  if (answer.json().size() > kJsonBytesMax) return refuse("json", "longer than 1 MiB; report digests instead");
  if (answer.has_digest() && (answer.digest().empty() || answer.digest().size() > kDigestBytesMax)) {
    return refuse("digest", "expected 1 to 64 bytes");
  }
  if (!is_candidate && !answer.version().empty()) return refuse("version", "only the candidate has one; remove it");
  if (answer.version().size() > kVersionBytesMax) return refuse("version", "longer than 128 bytes");
  RETURN_IF_ERROR(CheckDuration(absl::StrCat(side, ".began_us_ago"), answer.began_us_ago()));
  RETURN_IF_ERROR(CheckDuration(absl::StrCat(side, ".took_us"), answer.took_us()));
  if (answer.took_us() > answer.began_us_ago()) {
    return refuse("took_us", "more than began_us_ago: the read would end after this call was made");
  }
  return absl::OkStatus();
}

absl::Status CheckShape(const v1::ObservedRead& observation) {
  const bool again = observation.token_case() == v1::ObservedRead::kEpisode;
  if (observation.token_case() == v1::ObservedRead::TOKEN_NOT_SET) {
    return absl::InvalidArgumentError(
        "decision: missing; expected that of DecideResponse, or the episode of a Judgement");
  }
  if (observation.decision().size() > kTokenBytesMax || observation.episode().size() > kTokenBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(again ? "episode" : "decision", ": longer than any that was given"));
  }
  if (observation.has_candidate()) RETURN_IF_ERROR(CheckAnswer("candidate", observation.candidate(), true));
  if (observation.has_control()) RETURN_IF_ERROR(CheckAnswer("control", observation.control(), false));
  const v1::ObservedAnswer::ContentCase one = observation.candidate().content_case();
  const v1::ObservedAnswer::ContentCase other = observation.control().content_case();
  const v1::ObservedAnswer::ContentCase none = v1::ObservedAnswer::CONTENT_NOT_SET;
  if (one != none && other != none && one != other) {
    return absl::InvalidArgumentError("control: a digest cannot be compared with json; report both sides alike");
  }
  if (observation.served() == v1::SOURCE_NEAR_CACHE || !v1::Source_IsValid(observation.served())) {
    return absl::InvalidArgumentError("served: expected SOURCE_DATABASE or SOURCE_CACHE");
  }
  RETURN_IF_ERROR(CheckDuration("waited_us", observation.waited_us()));
  if (again && observation.waited_us() == 0) {
    return absl::InvalidArgumentError(
        "waited_us: missing; expected how long after the reply that asked for this look its first read began");
  }
  if (again && !observation.has_candidate() && !observation.has_control()) {
    return absl::InvalidArgumentError("candidate: missing, and so is the control; a look reads both sides");
  }
  return absl::OkStatus();
}

bool Answered(const v1::ObservedAnswer& answer) {
  return answer.outcome() == v1::OBSERVED_OUTCOME_FOUND || answer.outcome() == v1::OBSERVED_OUTCOME_NOT_FOUND;
}

// A digest is compared as the JSON text of its hexadecimal digits.
std::string BodyOf(const v1::ObservedAnswer& answer) {
  return answer.has_digest() ? absl::StrCat("\"", absl::BytesToHexString(answer.digest()), "\"") : answer.json();
}

// What tells this fill from another, as of an external cache: what it says, and its version.
std::string FillOf(const v1::ObservedAnswer& candidate) {
  return base::Digest128(absl::StrCat(candidate.outcome(), "|", candidate.has_digest() ? "digest" : "json", "|",
                                      candidate.version().size(), ":", candidate.version(), "|", candidate.json(),
                                      candidate.digest()));
}

absl::Time TimeOf(int64_t us) { return absl::FromUnixMicros(us); }
int64_t MicrosOf(absl::Time time) { return absl::ToUnixMicros(time); }

diff::Look ToLook(const v1::TokenLook& from) {
  diff::Look look;
  look.candidate_at = TimeOf(from.candidate_at_us());
  look.control_at = TimeOf(from.control_at_us());
  look.candidate = static_cast<diff::Look::Candidate>(from.candidate());
  look.control = static_cast<diff::Look::Control>(from.control());
  look.control_after_fill = from.control_after_fill();
  return look;
}

v1::TokenLook FromLook(const diff::Look& from) {
  v1::TokenLook look;
  look.set_candidate_at_us(MicrosOf(from.candidate_at));
  look.set_control_at_us(MicrosOf(from.control_at));
  look.set_candidate(static_cast<uint32_t>(from.candidate));
  look.set_control(static_cast<uint32_t>(from.control));
  look.set_control_after_fill(from.control_after_fill);
  return look;
}

bool OfTheFill(Verdict verdict) { return verdict == Verdict::kHealed || verdict == Verdict::kConfirmed; }
bool FoundRight(Verdict verdict) {
  return verdict == Verdict::kMatched || verdict == Verdict::kExcused || verdict == Verdict::kHealed;
}

}  // namespace

// One report, its token read. The times are on its line.
struct Observer::Report {
  bool first = true;
  v1::EpisodeToken token;  // Of a first report: its decision, and what is new.
  cache::Query query;      // Without arguments: nobody here reads anything.
  diff::EvidenceKey evidence;
  std::string id;  // Of its episode.
  absl::Time candidate_at;
  absl::Time candidate_here;
  absl::Time control_asked;
  absl::Time control_here;
  absl::Duration candidate_latency;
  bool control_found = true;
  bool candidate_found = true;
  Recogniser::Recognised recognised;

  uint64_t nonce() const { return token.decision().nonce(); }
  diff::Episode Evidence() const {
    return {.id = base::Hash64(absl::StrCat(token.decision().key(), token.fill())),
            .key = base::Hash64(token.decision().key()),
            .exercised = token.exercised()};
  }
  // Of the fill, so that whoever confirms it again, here or on another replica, reports the same divergence.
  std::string DivergenceId() const {
    const absl::string_view nul("\0", 1);
    return absl::BytesToHexString(
        base::Digest128(absl::StrCat(token.decision().key(), nul, token.fill(), nul, token.decision().window())));
  }
};

struct Observer::Counters {
  explicit Counters(base::Metrics* metrics)
      : episodes(metrics->AddGauge("shadowline_observed_episodes", "Observed (key, fill) pairs that wait for a look.")),
        reads(metrics->AddGauge("shadowline_observed_reads", "Observed reads that wait for a look.")),
        given_up(metrics->AddCounter("shadowline_observed_given_up_total",
                                     "Observed reads whose callers did not look again in time.")),
        against_flag(metrics->AddCounter("shadowline_observed_against_flag_total",
                                         "Observed reads that were served from the cache against their decision.")) {
    for (int i = 0; i < static_cast<int>(verdicts.size()); ++i) {
      verdicts[i] = metrics->AddCounter("shadowline_verdicts_total", "Verdicts on sampled reads.",
                                        {{"verdict", std::string(diff::VerdictName(static_cast<Verdict>(i)))}});
    }
    const auto report = [metrics](const char* outcome) {
      return metrics->AddCounter("shadowline_observed_reports_total", "Reports of observed reads, by their answer.",
                                 {{"outcome", outcome}});
    };
    look_again = report("look_again");
    joined = report("joined");
    no_candidate = report("no_candidate");
    repeated = report("repeated");
    refused = report("refused");
    const auto shed = [metrics](const char* why) {
      return metrics->AddCounter("shadowline_verification_shed_total", "Sampled reads that were not judged, by cause.",
                                 {{"why", why}});
    };
    shed_queue = shed("queue");
    shed_reader = shed("reader");
    shed_catalog = shed("catalog");
    shed_stopping = shed("stopping");
  }

  base::Gauge* episodes;
  base::Gauge* reads;
  base::Counter* given_up;
  base::Counter* against_flag;
  std::array<base::Counter*, static_cast<int>(Verdict::kShed) + 1> verdicts;
  base::Counter* look_again;
  base::Counter* joined;
  base::Counter* no_candidate;
  base::Counter* repeated;
  base::Counter* refused;
  base::Counter* shed_queue;
  base::Counter* shed_reader;
  base::Counter* shed_catalog;
  base::Counter* shed_stopping;
};

Observer::Observer(Options options, Deps deps)
    : options_(std::move(options)),
      deps_(std::move(deps)),
      counters_(std::make_unique<Counters>(deps_.metrics)),
      announcer_(deps_.metrics) {}

Observer::~Observer() = default;

absl::StatusOr<v1::Judgement> Observer::Observe(const v1::ObservedRead& observation) {
  absl::StatusOr<v1::Judgement> judged = Judge(observation);
  if (!judged.ok()) counters_->refused->Add();
  return judged;
}

absl::StatusOr<v1::Judgement> Observer::Judge(const v1::ObservedRead& observation) {
  RETURN_IF_ERROR(CheckShape(observation));
  ASSIGN_OR_RETURN(Report report, ReadToken(observation));
  {
    base::MutexLock lock(&mutex_);
    if (stopping_) return absl::UnavailableError("this replica is shutting down; retry through another one");
    if (std::optional<v1::Judgement> known = AnswerOf(report.nonce())) {
      counters_->repeated->Add();
      return *std::move(known);
    }
  }
  const char* const token = report.first ? "decision" : "episode";
  RETURN_IF_ERROR(base::Annotate(deps_.tokens->CheckAge(report.token.issue()), token));
  RETURN_IF_ERROR(Place(observation, &report));
  const v1::DecisionToken& decision = report.token.decision();
  if (report.first && observation.served() == v1::SOURCE_CACHE && !decision.from_cache()) {
    counters_->against_flag->Add();
  }

  const v1::ObservedAnswer& candidate = observation.candidate();
  if (report.first && observation.has_candidate() && !Answered(candidate)) {
    return CountWithoutCandidate(report, candidate.outcome() == v1::OBSERVED_OUTCOME_MISS);
  }
  if (report.first && !(observation.has_candidate() && observation.has_control())) {
    return Shed(report, counters_->shed_reader, "one side was not read");
  }
  const std::shared_ptr<const cache::CompiledCatalog> catalog = deps_.catalog->Current();
  if (catalog == nullptr) return absl::UnavailableError("this replica has no catalog yet; retry with backoff");
  // Under other rules it would be another verdict, and evidence of another revision counts for nothing.
  report.query = {catalog, catalog->Find(decision.endpoint()), decision.tenant(), {}};
  if (catalog->revision() != decision.catalog_revision() || report.query.endpoint == nullptr) {
    return Shed(report, counters_->shed_catalog, "the catalog has changed since the decision");
  }

  diff::Comparison comparison;
  ASSIGN_OR_RETURN(const diff::Look look, LookOf(observation, &report, &comparison));
  diff::FreshnessCase rule({.delta = report.query.endpoint->freshness, .max_rounds = options_.max_rounds},
                           TimeOf(report.token.served_at_us()));
  for (const v1::TokenLook& before : report.token.looks()) rule.Add(ToLook(before));
  diff::Step step = rule.Add(look);
  if (!step.verdict.has_value() && look.candidate == diff::Look::Candidate::kReplaced) {
    step.verdict = Verdict::kErrored;
    step.why = "the answer was replaced before the database had said anything about it";
  }
  return Conclude(&report, rule, step, comparison);
}

// ---- What was reported ----

absl::StatusOr<Observer::Report> Observer::ReadToken(const v1::ObservedRead& observation) const {
  Report report;
  report.first = observation.token_case() == v1::ObservedRead::kDecision;
  if (report.first) {
    absl::StatusOr<v1::DecisionToken> decision = deps_.tokens->Unseal<v1::DecisionToken>(observation.decision());
    if (!decision.ok()) return base::Annotate(decision.status(), "decision");
    *report.token.mutable_issue() = decision->issue();
    *report.token.mutable_decision() = *std::move(decision);
  } else {
    absl::StatusOr<v1::EpisodeToken> episode = deps_.tokens->Unseal<v1::EpisodeToken>(observation.episode());
    if (!episode.ok()) return base::Annotate(episode.status(), "episode");
    report.token = *std::move(episode);
  }
  const v1::DecisionToken& decision = report.token.decision();
  report.evidence.tenant = decision.tenant();
  report.evidence.endpoint = decision.endpoint();
  report.evidence.family = decision.endpoint().substr(0, decision.endpoint().find('/'));
  report.evidence.window = decision.window();
  report.evidence.catalog_revision = decision.catalog_revision();
  return report;
}

absl::Status Observer::Place(const v1::ObservedRead& observation, Report* report) const {
  const v1::ObservedAnswer& candidate = observation.candidate();
  const v1::ObservedAnswer& control = observation.control();
  const absl::Duration candidate_ago = absl::Microseconds(candidate.began_us_ago());
  const absl::Duration control_ago = absl::Microseconds(control.began_us_ago());
  const absl::Duration waited = absl::Microseconds(observation.waited_us());
  const absl::Duration longest = std::max(candidate_ago, control_ago);
  // What the caller says happened after a token was given cannot have taken longer than that is ago. Mistaken units
  // would make proofs.
  const std::optional<absl::Duration> elapsed = deps_.tokens->Elapsed(report->token.issue());
  if (elapsed.has_value() && waited + longest > *elapsed + *elapsed / 1000 + kClockSlack) {
    return absl::InvalidArgumentError(
        report->first ? "candidate.began_us_ago: before the decision was made; both sides are read after it"
                      : "waited_us: with began_us_ago more than the time since the episode was given");
  }
  const absl::Time reported_at =
      report->first ? deps_.clock->Now() : TimeOf(report->token.reported_at_us()) + waited + longest;
  report->candidate_at = reported_at - candidate_ago;
  report->candidate_latency = absl::Microseconds(candidate.took_us());
  report->candidate_here = report->candidate_at + report->candidate_latency;
  report->control_asked = reported_at - control_ago;
  report->control_here = report->control_asked + absl::Microseconds(control.took_us());
  report->token.set_reported_at_us(MicrosOf(reported_at));
  report->control_found = control.outcome() == v1::OBSERVED_OUTCOME_FOUND;
  report->candidate_found = candidate.outcome() == v1::OBSERVED_OUTCOME_FOUND;

  const v1::ObservedAnswer::ContentCase content =
      observation.candidate().content_case() != v1::ObservedAnswer::CONTENT_NOT_SET ? candidate.content_case()
                                                                                    : control.content_case();
  if (content != v1::ObservedAnswer::CONTENT_NOT_SET) {
    const bool digests = content == v1::ObservedAnswer::kDigest;
    if (report->token.has_digests() && report->token.digests() != digests) {
      return absl::InvalidArgumentError("candidate: json and digests cannot be compared; report as the first time");
    }
    report->token.set_digests(digests);
  }
  if (report->first) {
    report->token.set_served_at_us(MicrosOf(report->candidate_here));
    if (Answered(candidate)) report->token.set_fill(FillOf(candidate));
  }
  const v1::DecisionToken& decision = report->token.decision();
  const absl::string_view nul("\0", 1);
  report->id =
      absl::StrCat(decision.key(), nul, decision.window(), nul, decision.catalog_revision(), nul, report->token.fill());
  return absl::OkStatus();
}

absl::StatusOr<diff::Look> Observer::LookOf(const v1::ObservedRead& observation, Report* report,
                                            diff::Comparison* comparison) {
  const v1::ObservedAnswer& candidate = observation.candidate();
  const v1::ObservedAnswer& control = observation.control();
  diff::Look look;
  look.candidate_at = report->candidate_at;
  look.control_at = report->control_here;
  // Which state the application loaded is not known. But it had loaded it by the time its answer was here.
  look.control_after_fill = report->control_asked >= TimeOf(report->token.served_at_us());
  look.control_after_candidate = report->control_asked >= report->candidate_here;
  if (!observation.has_candidate() || candidate.outcome() == v1::OBSERVED_OUTCOME_FAILED) {
    look.candidate = diff::Look::Candidate::kUnknown;
    look.candidate_at = report->control_here;
    return look;  // What the control is to be compared with is not here.
  }
  if (!Answered(candidate) || FillOf(candidate) != report->token.fill()) {
    look.candidate = diff::Look::Candidate::kReplaced;
    return look;
  }
  if (!observation.has_control() || !Answered(control)) {
    look.control_at = report->candidate_here;
    return look;
  }
  const std::string control_body = BodyOf(control);
  *comparison = Compare(*report, {control.outcome() == v1::OBSERVED_OUTCOME_FOUND, control_body},
                        {candidate.outcome() == v1::OBSERVED_OUTCOME_FOUND, BodyOf(candidate)});
  switch (comparison->verdict) {
    case diff::Comparison::Verdict::kEqual:
      look.control = diff::Look::Control::kEqual;
      break;
    case diff::Comparison::Verdict::kExcused:
      look.control = diff::Look::Control::kExcused;
      break;
    case diff::Comparison::Verdict::kDiffer:
      look.control = diff::Look::Control::kDiffers;
      break;
    case diff::Comparison::Verdict::kError:
      RETURN_IF_ERROR(base::Annotate(diff::CheckJson(control_body), "control.json"));
      break;
  }
  const bool differ = look.control == diff::Look::Control::kDiffers;
  if (differ && !report->token.digests()) {
    look.versions =
        diff::CompareVersions(candidate.json(), control.json(), report->query.endpoint->row_version, *comparison);
  }
  Recognise(observation, differ, report);
  // The candidate was read after the token was given. Data that moved to the other may be served for as long as the
  // bound allows; another replica's clock does not say when it was heard.
  const std::optional<absl::Duration> elapsed = deps_.tokens->Elapsed(report->token.issue());
  const Recogniser::Recognised& recognised = report->recognised;
  const bool proven = elapsed.has_value() && recognised.stranger != diff::Stranger::kNobody &&
                      recognised.since <= deps_.clock->Steady() - *elapsed - report->query.endpoint->freshness;
  look.never_right =
      differ && (recognised.named || proven ||
                 (!comparison->differences.empty() && comparison->differences[0].kind == diff::DifferenceKind::kShape));
  return look;
}

void Observer::Recognise(const v1::ObservedRead& observation, bool differ, Report* report) {
  const v1::DecisionToken& decision = report->token.decision();
  const diff::Question question{.endpoint = base::Hash64(decision.endpoint()),
                                .tenant = base::Hash64(decision.tenant()),
                                .identity = decision.identity(),
                                .parameters = decision.parameters()};
  const absl::Duration now = deps_.clock->Steady();
  if (differ && observation.candidate().has_json()) {
    report->recognised = recogniser_.Recognise(*report->query.endpoint, decision.tenant(), question,
                                               observation.candidate().json(), observation.control().json(), now);
  }
  if (observation.control().has_json()) recogniser_.Heard(question, observation.control().json(), now);
}

diff::Comparison Observer::Compare(const Report& report, const diff::Answer& control, const diff::Answer& candidate) {
  std::unique_ptr<Comparer> comparer;
  {
    base::MutexLock lock(&mutex_);
    if (!comparers_.empty()) {
      comparer = std::move(comparers_.back());
      comparers_.pop_back();
    }
  }
  if (comparer == nullptr) comparer = std::make_unique<Comparer>(options_.redaction_secret);
  diff::Comparison comparison = comparer->Compare(report.query, control, candidate);
  base::MutexLock lock(&mutex_);
  comparers_.push_back(std::move(comparer));
  return comparison;
}

// ---- What becomes of it ----

v1::Judgement Observer::CountWithoutCandidate(const Report& report, bool missed) {
  base::MutexLock lock(&mutex_);
  if (std::optional<v1::Judgement> known = AnswerOf(report.nonce())) return *std::move(known);
  if (missed) {
    deps_.ledger->CandidateMiss(report.evidence);
    deps_.ledger->CandidateLatency(report.evidence, report.candidate_latency);
  } else {
    deps_.ledger->CandidateError(report.evidence);
  }
  counters_->no_candidate->Add();
  Remember(report.nonce(), {.state = v1::Judgement::STATE_NO_CANDIDATE});
  v1::Judgement judgement;
  judgement.set_state(v1::Judgement::STATE_NO_CANDIDATE);
  judgement.set_why(missed ? "the cache had no answer" : "the cache could not be read");
  return judgement;
}

v1::Judgement Observer::Shed(const Report& report, base::Counter* counter, absl::string_view why) {
  base::MutexLock lock(&mutex_);
  if (std::optional<v1::Judgement> known = AnswerOf(report.nonce())) return *std::move(known);
  return ShedNow(report, counter, why);
}

v1::Judgement Observer::ShedNow(const Report& report, base::Counter* counter, absl::string_view why) {
  const Settled settled{.state = v1::Judgement::STATE_SETTLED, .verdict = Verdict::kShed};
  counter->Add();
  std::vector<Read> reads = TakeOut(report, /*all=*/false);
  for (Read& read : reads) Settle(&read, {}, settled);
  if (reads.empty()) {
    deps_.ledger->Shed(report.evidence);
    counters_->verdicts[static_cast<int>(Verdict::kShed)]->Add();
    Remember(report.nonce(), settled);
  }
  Gauge();
  return SettledAs(settled, why);
}

v1::Judgement Observer::Conclude(Report* report, const diff::FreshnessCase& rule, const diff::Step& step,
                                 const diff::Comparison& comparison) {
  std::optional<diff::Divergence> divergence;
  v1::Judgement judgement;
  {
    base::MutexLock lock(&mutex_);
    // Meanwhile: another try of this very report, or another looker.
    if (std::optional<v1::Judgement> known = AnswerOf(report->nonce())) {
      counters_->repeated->Add();
      return *std::move(known);
    }
    if (stopping_) return ShedNow(*report, counters_->shed_stopping, "this replica is shutting down");
    if (report->first) report->token.set_exercised(NoteChange(*report));
    if (!step.verdict.has_value()) return AskAgain(*report, rule, step);

    Settled settled{.state = v1::Judgement::STATE_SETTLED, .verdict = *step.verdict};
    std::vector<Read> reads = TakeOut(*report, /*all=*/OfTheFill(settled.verdict));
    if (std::none_of(reads.begin(), reads.end(), [&](const Read& read) { return read.nonce == report->nonce(); })) {
      std::optional<diff::Ledger::Ticket> ticket = Sample(*report);
      // The ledger has no room, and has counted that.
      if (!ticket.has_value() && reads.empty()) {
        settled.verdict = Verdict::kShed;
        Remember(report->nonce(), settled);
        return SettledAs(settled, "the ledger has no room");
      }
      if (ticket.has_value()) reads.push_back({report->nonce(), *std::move(ticket), true});
    }
    if (settled.verdict == Verdict::kConfirmed) {
      settled.divergence = report->DivergenceId();
      divergence = DivergenceOf(*report, rule, step, comparison);
      divergence->evidence = reads.front().ticket.key();
      divergence->reads_affected = reads.size();
    }
    for (Read& read : reads) Settle(&read, report->Evidence(), settled);
    Gauge();
    judgement = SettledAs(settled, step.why);
  }
  if (divergence.has_value()) {
    announcer_.Announce(*divergence);
    deps_.record(*std::move(divergence));
  }
  return judgement;
}

v1::Judgement Observer::AskAgain(const Report& report, const diff::FreshnessCase& rule, const diff::Step& step) {
  auto found = episodes_.find(report.id);
  Read* read = nullptr;
  if (found != episodes_.end()) {
    for (Read& waiting : found->second.reads) {
      if (waiting.nonce == report.nonce()) read = &waiting;
    }
  }
  if (read == nullptr) {
    if (reads_ >= options_.reads_max)
      return ShedNow(report, counters_->shed_queue, "no room for it to wait for a look");
    std::optional<diff::Ledger::Ticket> ticket = Sample(report);
    if (!ticket.has_value()) {
      const Settled settled{.state = v1::Judgement::STATE_SETTLED, .verdict = Verdict::kShed};
      Remember(report.nonce(), settled);
      return SettledAs(settled, "the ledger has no room");
    }
    if (found == episodes_.end()) found = episodes_.try_emplace(report.id).first;
    std::vector<Read>& reads = found->second.reads;
    const auto lookers = std::count_if(reads.begin(), reads.end(), [](const Read& one) { return one.looks; });
    // A caller that has looked again already goes on.
    const bool looks = !report.first || static_cast<size_t>(lookers) < options_.lookers_max;
    reads.push_back({report.nonce(), *std::move(ticket), looks});
    read = &reads.back();
    ++reads_;
    Gauge();
  }
  v1::Judgement judgement;
  if (!read->looks) {
    counters_->joined->Add();
    judgement.set_state(v1::Judgement::STATE_JOINED);
    judgement.set_why("others who saw this answer look again");
    return judgement;
  }
  const absl::Duration good_for = step.look_again_in + options_.patience;
  read->until = deps_.clock->Steady() + good_for;
  WaitUntil(report.id, read->until, &found->second);
  counters_->look_again->Add();
  judgement.set_state(v1::Judgement::STATE_LOOK_AGAIN);
  judgement.set_why(step.why);
  judgement.set_look_again_in_us(absl::ToInt64Microseconds(step.look_again_in));
  judgement.set_episode(TokenFor(report, rule, good_for));
  judgement.set_good_for_us(absl::ToInt64Microseconds(good_for));
  return judgement;
}

std::string Observer::TokenFor(const Report& report, const diff::FreshnessCase& rule, absl::Duration good_for) const {
  v1::EpisodeToken token = report.token;
  *token.mutable_issue() = deps_.tokens->Issue(good_for);
  token.mutable_decision()->clear_issue();
  token.clear_looks();
  for (const diff::Look& look : rule.looks()) *token.add_looks() = FromLook(look);
  return deps_.tokens->Seal(token);
}

diff::Divergence Observer::DivergenceOf(const Report& report, const diff::FreshnessCase& rule, const diff::Step& step,
                                        const diff::Comparison& comparison) const {
  const Finding finding{.query = report.query,
                        .id = report.DivergenceId(),
                        .key = report.token.decision().key(),
                        .fill = report.token.fill(),
                        .difference = {comparison, {}},
                        .rule = rule,
                        .proof = step.proof,
                        .control_found = report.control_found,
                        .candidate_found = report.candidate_found,
                        .stranger = report.recognised.stranger,
                        .named = report.recognised.named,
                        .after_cutover = report.token.decision().after_cutover(),
                        .confirmed_at = deps_.clock->Now()};
  diff::Divergence divergence = server::DivergenceOf(finding);
  const diff::Cause cause = diff::ProbableCause(CauseInputsOf(finding));
  divergence.cause = cause.name;
  divergence.cause_evidence = cause.evidence;
  return divergence;
}

void Observer::WaitUntil(const std::string& id, absl::Duration until, Episode* episode) {
  if (until >= episode->due) return;
  episode->due = until;
  episode->turn = ++turns_;
  deps_.executor->PostAfter(until - deps_.clock->Steady(), [this, id, turn = episode->turn] { GiveUp(id, turn); });
}

void Observer::GiveUp(const std::string& id, uint64_t turn) {
  base::MutexLock lock(&mutex_);
  const auto episode = episodes_.find(id);
  if (episode == episodes_.end() || episode->second.turn != turn) return;
  const absl::Duration now = deps_.clock->Steady();
  std::vector<Read>& reads = episode->second.reads;
  absl::Duration next = absl::InfiniteDuration();
  for (const Read& read : reads) {
    if (read.looks && read.until > now) next = std::min(next, read.until);
  }
  const bool nobody_looks = next == absl::InfiniteDuration();
  const auto over = [&](const Read& read) { return nobody_looks || (read.looks && read.until <= now); };
  std::vector<Read> given_up;
  for (Read& read : reads) {
    if (over(read)) given_up.push_back(std::move(read));
  }
  if (nobody_looks) {
    episodes_.erase(episode);
  } else {
    std::erase_if(reads, over);
    episode->second.due = absl::InfiniteDuration();
    WaitUntil(id, next, &episode->second);
  }
  reads_ -= given_up.size();
  counters_->given_up->Add(static_cast<double>(given_up.size()));
  for (Read& read : given_up) {
    Settle(&read, {}, {.state = v1::Judgement::STATE_SETTLED, .verdict = Verdict::kInconclusive});
  }
  Gauge();
}

void Observer::Shutdown() {
  base::MutexLock lock(&mutex_);
  stopping_ = true;
  for (auto& [id, episode] : episodes_) {
    for (Read& read : episode.reads) {
      counters_->shed_stopping->Add();
      Settle(&read, {}, {.state = v1::Judgement::STATE_SETTLED, .verdict = Verdict::kShed});
    }
  }
  episodes_.clear();
  reads_ = 0;
  Gauge();
}

// ---- Under the lock ----

std::optional<v1::Judgement> Observer::AnswerOf(uint64_t nonce) const {
  for (const auto* settled : {&settled_, &settled_before_}) {
    if (const auto found = settled->find(nonce); found != settled->end()) {
      return SettledAs(found->second, "reported before");
    }
  }
  return std::nullopt;
}

v1::Judgement Observer::SettledAs(const Settled& settled, absl::string_view why) {
  v1::Judgement judgement;
  judgement.set_state(settled.state);
  if (settled.state == v1::Judgement::STATE_SETTLED) {
    judgement.set_verdict(std::string(diff::VerdictName(settled.verdict)));
    judgement.set_divergence(settled.divergence);
  }
  judgement.set_why(std::string(why));
  return judgement;
}

void Observer::Remember(uint64_t nonce, Settled settled) {
  if (settled_.size() >= options_.settled_max / 2) {
    settled_before_ = std::move(settled_);
    settled_.clear();
  }
  settled_.insert_or_assign(nonce, std::move(settled));
}

bool Observer::NoteChange(const Report& report) {
  // Forgotten as a whole where they are many: fewer episodes count as exercised then.
  if (seen_.size() >= options_.keys_max) seen_.clear();
  auto [entry, first] = seen_.try_emplace(base::Hash64(report.token.decision().key()));
  Seen& seen = entry->second;
  if (first || (seen.fill != report.token.fill() && seen.at <= report.candidate_at)) {
    seen = {report.token.fill(), report.candidate_here, !first};
  }
  return seen.changed && seen.fill == report.token.fill();
}

std::optional<diff::Ledger::Ticket> Observer::Sample(const Report& report) {
  return deps_.ledger->Sampled(report.evidence, report.first ? std::optional(report.candidate_latency) : std::nullopt,
                               {.ppm = report.token.decision().sample_ppm()});
}

std::vector<Observer::Read> Observer::TakeOut(const Report& report, bool all) {
  std::vector<Read> taken;
  const auto episode = episodes_.find(report.id);
  if (episode == episodes_.end()) return taken;
  std::vector<Read>& reads = episode->second.reads;
  const auto own = [&](const Read& read) { return read.nonce == report.nonce(); };
  const auto looks = [](const Read& read) { return read.looks; };
  // Nobody would look after those who stay.
  const bool was_looked_after = std::any_of(reads.begin(), reads.end(), own);
  all = all || (was_looked_after &&
                std::none_of(reads.begin(), reads.end(), [&](const Read& read) { return looks(read) && !own(read); }));
  for (Read& read : reads) {
    if (all || own(read)) taken.push_back(std::move(read));
  }
  if (all) {
    episodes_.erase(episode);
  } else {
    std::erase_if(reads, own);
  }
  reads_ -= taken.size();
  return taken;
}

void Observer::Settle(Read* read, const diff::Episode& evidence, const Settled& settled) {
  if (FoundRight(settled.verdict)) deps_.ledger->Verified(read->ticket.key(), evidence);
  read->ticket.Settle(settled.verdict);
  counters_->verdicts[static_cast<int>(settled.verdict)]->Add();
  Remember(read->nonce, settled);
}

void Observer::Gauge() {
  counters_->episodes->Set(static_cast<double>(episodes_.size()));
  counters_->reads->Set(static_cast<double>(reads_));
}

}  // namespace shadowline::server
