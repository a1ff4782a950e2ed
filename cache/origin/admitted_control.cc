#include "cache/origin/admitted_control.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"

namespace shadowline::cache {
namespace {

std::string QuestionOf(const QuerySet& queries) {
  std::string question = absl::StrCat(queries.endpoint->name, "|", queries.endpoint->definition_id, "|",
                                      queries.tenant.size(), ":", queries.tenant, "|", queries.arguments.size());
  for (const Arguments& arguments : queries.arguments) {
    for (const auto& argument : arguments) {
      argument ? absl::StrAppend(&question, "|", argument->size(), ":", *argument)
               : absl::StrAppend(&question, "|null");
    }
  }
  return question;
}

// Under which its latency is known. Sets are told apart by size, to a power of two.
std::string StatementOf(const QuerySet& queries) {
  if (queries.arguments.size() == 1) return queries.endpoint->name;
  return absl::StrCat(queries.endpoint->name, "*", std::bit_ceil(queries.arguments.size()));
}

QuerySet AsSet(Query query) {
  QuerySet queries{std::move(query.catalog), query.endpoint, std::move(query.tenant), {}};
  queries.arguments.push_back(std::move(query.arguments));
  return queries;
}

Control::SetCallback AsSetCallback(Control::Callback done) {
  return [done = std::move(done)](absl::StatusOr<std::vector<ControlAnswer>> answers) mutable {
    if (!answers.ok()) return done(std::move(answers).status());
    done(std::move(answers->front()));
  };
}

}  // namespace

struct AdmittedControl::Caller {
  base::Executor* reply_on;
  absl::Duration since;     // When it came,
  absl::Duration deadline;  // and when it must be answered. Clock::Steady(), like all times here.
  SetCallback done;
  bool answered = false;
};

// Guarded by the mutex until it is sent; then `queries`, `callers` and `deadline` stay as they are, and `sent_at`
// belongs to whoever sends.
struct AdmittedControl::Run {
  enum class State { kParked, kInLine, kSent, kOver };

  QuerySet queries;
  std::string question;
  std::string statement;
  Priority priority;
  State state = State::kParked;
  absl::Duration since;  // In the present state; of kSent and kOver nobody asks.
  std::vector<CallerPtr> callers;
  absl::Duration deadline;
  absl::Duration sent_at;
  bool retried = false;

  bool Wanted() const {
    return std::any_of(callers.begin(), callers.end(), [](const CallerPtr& caller) { return !caller->answered; });
  }
};

// What is to be done when the lock has been released.
struct AdmittedControl::Outbox {
  struct Reply {
    base::Executor* reply_on;
    SetCallback done;
    absl::Status status;
  };
  struct Watch {
    RunPtr run;
    CallerPtr caller;
    absl::Duration delay;
  };

  absl::InlinedVector<RunPtr, 1> send;
  std::vector<Reply> replies;
  absl::InlinedVector<Watch, 1> watches;
};

AdmittedControl::AdmittedControl(Options options, Control* control, const base::Clock* clock, base::Metrics* metrics)
    : options_(std::move(options)),
      control_(control),
      clock_(clock),
      limit_gauge_(metrics->AddGauge("shadowline_admission_limit",
                                     "How many control queries may be at the database at once.",
                                     {{"pool", options_.name}})),
      running_gauge_(metrics->AddGauge("shadowline_admission_running", "Control queries at the database.",
                                       {{"pool", options_.name}})),
      waiting_gauge_(metrics->AddGauge("shadowline_admission_waiting", "Reads that wait to be sent to the database.",
                                       {{"pool", options_.name}})),
      shared_(metrics->AddCounter("shadowline_admission_shared_total",
                                  "Reads answered by another read's control query.", {{"pool", options_.name}})),
      full_(metrics->AddCounter("shadowline_admission_refused_total", "Reads that were not sent to the database.",
                                {{"pool", options_.name}, {"why", "full"}})),
      waited_(metrics->AddCounter("shadowline_admission_refused_total", "Reads that were not sent to the database.",
                                  {{"pool", options_.name}, {"why", "wait"}})),
      late_(metrics->AddCounter("shadowline_admission_refused_total", "Reads that were not sent to the database.",
                                {{"pool", options_.name}, {"why", "deadline"}})),
      retried_(metrics->AddCounter("shadowline_admission_retries_total",
                                   "Control queries that found the database unavailable.",
                                   {{"pool", options_.name}, {"outcome", "retried"}})),
      not_retried_(metrics->AddCounter("shadowline_admission_retries_total",
                                       "Control queries that found the database unavailable.",
                                       {{"pool", options_.name}, {"outcome", "passed_on"}})),
      limit_(options_.limit),
      retries_(options_.retry_burst) {}

void AdmittedControl::Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) {
  Admit(Priority::kCaller, AsSet(std::move(query)), timeout, reply_on, AsSetCallback(std::move(done)));
}

void AdmittedControl::LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) {
  Admit(Priority::kCaller, std::move(queries), timeout, reply_on, std::move(done));
}

void AdmittedControl::Background::Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) {
  control_->Admit(Priority::kBackground, AsSet(std::move(query)), timeout, reply_on, AsSetCallback(std::move(done)));
}

void AdmittedControl::Background::LoadSet(QuerySet queries, absl::Duration timeout, base::Executor* reply_on,
                                          SetCallback done) {
  control_->Admit(Priority::kBackground, std::move(queries), timeout, reply_on, std::move(done));
}

void AdmittedControl::Admit(Priority priority, QuerySet queries, absl::Duration timeout, base::Executor* reply_on,
                            SetCallback done) {
  const absl::Duration now = clock_->Steady();
  auto caller = std::make_shared<Caller>();
  caller->reply_on = reply_on;
  caller->since = now;
  caller->deadline = now + std::min(timeout, queries.endpoint->timeout);
  caller->done = std::move(done);
  std::string text = QuestionOf(queries);
  std::string statement = StatementOf(queries);
  Outbox outbox;
  {
    base::MutexLock lock(&mutex_);
    ++waiting_;
    const auto found = questions_.find(text);
    RunPtr run = found == questions_.end() ? nullptr : found->second.next;
    const bool alone = found == questions_.end();
    const bool at_once = alone && LineOf(priority).empty() && HasRoom(priority, now);
    if (!at_once && waiting_ > options_.callers_max) {
      Refuse(caller, Why::kFull, &outbox);
    } else if (!at_once && now + limit_.Best(statement) > caller->deadline) {
      Refuse(caller, Why::kDeadline, &outbox);
    } else {
      if (run == nullptr) {
        run = std::make_shared<Run>();
        run->queries = std::move(queries);
        run->question = std::move(text);
        run->statement = std::move(statement);
        run->priority = priority;
        run->since = now;
        questions_[run->question].next = run;
        run->callers.push_back(caller);
        if (at_once) {
          Launch(run, now, &outbox);
        } else if (alone) {
          Enqueue(run, now, &outbox);
          Pump(now, &outbox);
        }
      } else {
        run->callers.push_back(caller);
        if (priority < run->priority) Raise(run);
      }
      if (run->state == Run::State::kParked || run->state == Run::State::kInLine) {
        outbox.watches.push_back({run, caller, Due(*run, *caller) - now});
      }
    }
    Show(now);
  }
  Perform(std::move(outbox));
}

void AdmittedControl::Expire(const RunPtr& run, const CallerPtr& caller) {
  const absl::Duration now = clock_->Steady();
  Outbox outbox;
  {
    base::MutexLock lock(&mutex_);
    if (caller->answered) return;
    const bool too_late = now + limit_.Best(run->statement) >= caller->deadline;
    if (now >= Due(*run, *caller)) {
      switch (run->state) {
        case Run::State::kSent:
          caller->answered = true;
          outbox.replies.push_back({caller->reply_on, std::move(caller->done),
                                    absl::DeadlineExceededError(absl::StrCat(
                                        run->statement, ": the deadline passed while the database was asked"))});
          break;
        case Run::State::kParked:
          if (too_late) {
            Refuse(caller, Why::kDeadline, &outbox);
            if (!run->Wanted()) Forget(run);
          } else {
            Enqueue(run, now, &outbox);
            Pump(now, &outbox);
          }
          break;
        case Run::State::kInLine:
          Refuse(caller, too_late ? Why::kDeadline : Why::kWait, &outbox);
          if (!run->Wanted()) {
            LineOf(run->priority).Remove(run->queries.tenant, run);
            Forget(run);
          }
          break;
        case Run::State::kOver:
          break;
      }
    }
    if (!caller->answered) {
      outbox.watches.push_back({run, caller, std::max(Due(*run, *caller) - now, absl::ZeroDuration())});
    }
    Show(now);
  }
  Perform(std::move(outbox));
}

void AdmittedControl::Answer(const RunPtr& run, Answers answers) {
  const absl::Duration now = clock_->Steady();
  Outbox outbox;
  std::vector<CallerPtr> callers;
  bool again = false;
  {
    base::MutexLock lock(&mutex_);
    if (answers.ok()) {
      // The database's own time: that of a busy lane, which hears of the answer late, is no sign of congestion.
      const absl::Duration latency = answers->front().answered_at - answers->front().started_at;
      limit_.Sample(now, run->statement, std::max(latency, absl::ZeroDuration()), running_);
      retries_ = std::min(retries_ + options_.retry_share, options_.retry_burst);
    } else if (absl::IsDeadlineExceeded(answers.status())) {
      limit_.Sample(now, run->statement, now - run->sent_at, running_);
    } else if (absl::IsUnavailable(answers.status()) && !run->retried) {
      if (retries_ >= 1 && now + options_.retry_after + limit_.Best(run->statement) < run->deadline) {
        retries_ -= 1;
        run->retried = true;
        retried_->Add();
        again = true;
      } else {
        not_retried_->Add();
      }
    }
    if (!again) Finish(run, now, &callers, &outbox);
    Show(now);
  }
  if (again) {
    run->callers.front()->reply_on->PostAfter(options_.retry_after, [this, run] { Send(run); });
    return;
  }
  // The database first: it must not wait for what callers do with their answers.
  Perform(std::move(outbox));
  if (callers.size() > 1) shared_->Add(static_cast<double>(callers.size() - 1));
  for (const CallerPtr& caller : callers) {
    if (caller == run->callers.front()) continue;
    caller->reply_on->Post([done = std::move(caller->done), answers]() mutable { done(std::move(answers)); });
  }
  // This runs on the executor of the first.
  if (!callers.empty() && callers.front() == run->callers.front()) callers.front()->done(std::move(answers));
}

void AdmittedControl::Finish(const RunPtr& run, absl::Duration now, std::vector<CallerPtr>* callers, Outbox* outbox) {
  run->state = Run::State::kOver;
  for (const CallerPtr& caller : run->callers) {
    if (!std::exchange(caller->answered, true)) callers->push_back(caller);
  }
  --running_;
  if (run->priority == Priority::kBackground) --running_background_;
  const auto question = questions_.find(run->question);
  --question->second.sent;
  const RunPtr next = question->second.next;
  if (next == nullptr) {
    if (question->second.sent == 0) questions_.erase(question);
  } else if (next->state == Run::State::kParked) {
    Enqueue(next, now, outbox);
  }
  Pump(now, outbox);
}

void AdmittedControl::Perform(Outbox outbox) {
  for (const RunPtr& run : outbox.send) Send(run);
  for (Outbox::Reply& reply : outbox.replies) {
    reply.reply_on->Post([done = std::move(reply.done), status = std::move(reply.status)]() mutable { done(status); });
  }
  for (Outbox::Watch& watch : outbox.watches) {
    base::Executor* const executor = watch.caller->reply_on;
    executor->PostAfter(watch.delay,
                        [this, run = std::move(watch.run), caller = std::move(watch.caller)] { Expire(run, caller); });
  }
}

void AdmittedControl::Send(const RunPtr& run) {
  run->sent_at = clock_->Steady();
  const absl::Duration timeout = run->deadline - run->sent_at;
  base::Executor* const reply_on = run->callers.front()->reply_on;
  auto answered = [this, run](Answers answers) { Answer(run, std::move(answers)); };
  if (run->queries.arguments.size() > 1) return control_->LoadSet(run->queries, timeout, reply_on, std::move(answered));
  control_->Load(run->queries.At(0), timeout, reply_on,
                 [answered = std::move(answered)](absl::StatusOr<ControlAnswer> answer) mutable {
                   if (!answer.ok()) return answered(std::move(answer).status());
                   std::vector<ControlAnswer> answers;
                   answers.push_back(*std::move(answer));
                   answered(std::move(answers));
                 });
}

FairLine<AdmittedControl::RunPtr>& AdmittedControl::LineOf(Priority priority) {
  return priority == Priority::kCaller ? callers_ : behind_;
}

void AdmittedControl::Enqueue(const RunPtr& run, absl::Duration now, Outbox* outbox) {
  if (callers_.size() + behind_.size() >= options_.line_max) {
    if (behind_.empty() && run->priority == Priority::kBackground) return Drop(run, Why::kFull, outbox);
    Drop((behind_.empty() ? callers_ : behind_).PopOldestOfLongest(), Why::kFull, outbox);
  }
  if (callers_.empty()) calm_at_ = now;
  run->state = Run::State::kInLine;
  run->since = now;
  LineOf(run->priority).Push(run->queries.tenant, run);
}

void AdmittedControl::Raise(const RunPtr& run) {
  if (run->state == Run::State::kInLine) {
    behind_.Remove(run->queries.tenant, run);
    if (callers_.empty()) calm_at_ = clock_->Steady();
    callers_.Push(run->queries.tenant, run);
  }
  run->priority = Priority::kCaller;
}

bool AdmittedControl::HasRoom(Priority priority, absl::Duration now) const {
  const size_t limit = limit_.Limit(now);
  return running_ < limit && (priority == Priority::kCaller || running_background_ < std::max<size_t>(1, limit / 2));
}

void AdmittedControl::Pump(absl::Duration now, Outbox* outbox) {
  for (const Priority priority : {Priority::kCaller, Priority::kBackground}) {
    while (HasRoom(priority, now)) {
      const RunPtr run = Next(priority, now, outbox);
      if (run == nullptr) break;
      Launch(run, now, outbox);
    }
  }
}

AdmittedControl::RunPtr AdmittedControl::Next(Priority priority, absl::Duration now, Outbox* outbox) {
  FairLine<RunPtr>& line = LineOf(priority);
  const bool overloaded = priority == Priority::kCaller && now - calm_at_ > options_.calm;
  while (!line.empty()) {
    const RunPtr run = line.Pop(overloaded ? FairLine<RunPtr>::Take::kNewest : FairLine<RunPtr>::Take::kOldest);
    const absl::Duration best = limit_.Best(run->statement);
    if (now - run->since > (overloaded ? std::max(options_.wait_overloaded, best) : options_.wait_max)) {
      Drop(run, Why::kWait, outbox);
      continue;
    }
    for (const CallerPtr& caller : run->callers) {
      if (!caller->answered && now + best > caller->deadline) Refuse(caller, Why::kDeadline, outbox);
    }
    if (run->Wanted()) return run;
    Forget(run);
  }
  return nullptr;
}

void AdmittedControl::Launch(const RunPtr& run, absl::Duration now, Outbox* outbox) {
  std::erase_if(run->callers, [](const CallerPtr& caller) { return caller->answered; });
  waiting_ -= run->callers.size();
  run->deadline = run->callers.front()->deadline;
  for (const CallerPtr& caller : run->callers) run->deadline = std::max(run->deadline, caller->deadline);
  run->state = Run::State::kSent;
  Question& question = questions_[run->question];
  question.next = nullptr;  // From here on nobody joins it.
  ++question.sent;
  ++running_;
  if (run->priority == Priority::kBackground) ++running_background_;
  outbox->send.push_back(run);
}

void AdmittedControl::Refuse(const CallerPtr& caller, Why why, Outbox* outbox) {
  absl::string_view reason;
  switch (why) {
    case Why::kFull:
      full_->Add();
      reason = "the line before the database is full; retry with backoff";
      break;
    case Why::kWait:
      waited_->Add();
      reason = "the database is at its limit, and the wait was too long; retry with backoff";
      break;
    case Why::kDeadline:
      late_->Add();
      reason = "the deadline could not be met any more; the database was not asked";
      break;
  }
  --waiting_;
  caller->answered = true;
  outbox->replies.push_back({caller->reply_on, std::move(caller->done), absl::ResourceExhaustedError(reason)});
}

void AdmittedControl::Drop(const RunPtr& run, Why why, Outbox* outbox) {
  for (const CallerPtr& caller : run->callers) {
    if (!caller->answered) Refuse(caller, why, outbox);
  }
  Forget(run);
}

void AdmittedControl::Forget(const RunPtr& run) {
  run->state = Run::State::kOver;
  const auto question = questions_.find(run->question);
  question->second.next = nullptr;
  if (question->second.sent == 0) questions_.erase(question);
}

absl::Duration AdmittedControl::Due(const Run& run, const Caller& caller) const {
  if (run.state == Run::State::kSent) return caller.deadline;
  const absl::Duration since = run.state == Run::State::kParked ? run.since : std::max(run.since, caller.since);
  return std::min(since + options_.wait_max, caller.deadline - limit_.Best(run.statement));
}

void AdmittedControl::Show(absl::Duration now) {
  if (callers_.empty()) calm_at_ = now;
  limit_gauge_->Set(static_cast<double>(limit_.Limit(now)));
  running_gauge_->Set(static_cast<double>(running_));
  waiting_gauge_->Set(static_cast<double>(waiting_));
}

}  // namespace shadowline::cache
