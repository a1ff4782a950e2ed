#include "cache/origin/gathering_control.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace shadowline::cache {
namespace {

constexpr absl::Duration kLimitedFor = absl::Minutes(1);
// More statements than that have a limit: they are found out anew.
constexpr size_t kLimitsMost = 1000;

bool BelongTogether(const Query& a, const Query& b) {
  if (a.endpoint != b.endpoint || a.tenant != b.tenant) return false;
  for (size_t i = 0; i < a.arguments.size(); ++i) {
    if (a.endpoint->parameters[i].identity && a.arguments[i] != b.arguments[i]) return false;
  }
  return true;
}

}  // namespace

void Gathering::Settle(size_t place) {
  if (!settled_[place]) --left_;
  settled_[place] = true;
  if (left_ == 0 && send_) std::exchange(send_, nullptr)();
}

GatheringControl::GatheringControl(Options options, Control* control, base::Executor* executor,
                                   const base::Clock* clock, base::Metrics* metrics)
    : options_(std::move(options)),
      control_(control),
      executor_(executor),
      clock_(clock),
      saved_(metrics->AddCounter("shadowline_batch_statements_saved_total",
                                 "Control statements that were not run because another one answered their read, too.",
                                 {{"pool", options_.pool}})) {}

void GatheringControl::Load(Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) {
  if (query.gathering == nullptr) return control_->Load(std::move(query), timeout, reply_on, std::move(done));
  const std::shared_ptr<Gathering> gathering = std::exchange(query.gathering, nullptr);
  const size_t place = query.place;
  waiting_[gathering].push_back({std::move(query), clock_->Steady() + timeout, std::move(done)});
  if (!gathering->send_) {
    gathering->send_ = [this, waiting = std::weak_ptr(gathering)] {
      Send(std::move(waiting_.extract(waiting.lock()).mapped()));
    };
    executor_->PostAfter(options_.wait_max, [gathering] {
      if (gathering->send_) std::exchange(gathering->send_, nullptr)();
    });
  }
  gathering->Settle(place);
}

void GatheringControl::Send(Loads loads) {
  // In the order of their first reads.
  std::vector<Loads> sets;
  for (Waiting& load : loads) {
    const auto fits = [&](const Loads& set) {
      return BelongTogether(set.front().query, load.query) && set.size() < Most(load.query.endpoint->statement_id);
    };
    auto set = std::find_if(sets.begin(), sets.end(), fits);
    if (set == sets.end()) set = sets.emplace(sets.end());
    set->push_back(std::move(load));
  }
  for (Loads& set : sets) SendSet(std::move(set));
}

void GatheringControl::SendSet(Loads loads) {
  const absl::Duration now = clock_->Steady();
  if (loads.size() == 1) {
    Waiting& load = loads.front();
    return control_->Load(std::move(load.query), load.due - now, executor_, std::move(load.done));
  }
  const Query& first = loads.front().query;
  QuerySet queries{first.catalog, first.endpoint, first.tenant, {}};
  absl::Duration due = loads.front().due;
  for (const Waiting& load : loads) {
    queries.arguments.push_back(load.query.arguments);
    due = std::max(due, load.due);
  }
  control_->LoadSet(std::move(queries), due - now, executor_,
                    [this, loads = std::move(loads)](absl::StatusOr<std::vector<ControlAnswer>> answers) mutable {
                      if (!answers.ok()) return Failed(std::move(loads), answers.status());
                      saved_->Add(static_cast<double>(loads.size() - 1));
                      for (size_t i = 0; i < loads.size(); ++i) loads[i].done(std::move((*answers)[i]));
                    });
}

void GatheringControl::Failed(Loads loads, const absl::Status& status) {
  const std::string& statement = loads.front().query.endpoint->statement_id;
  const absl::Duration now = clock_->Steady();
  size_t size = 0;  // Of the sets that are tried next; 0: none.
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kInternal:
      size = (loads.size() + 1) / 2;
      break;
    case absl::StatusCode::kDeadlineExceeded:
      // Its callers' deadlines say nothing about the statement.
      if (now >= loads.front().due) break;
      [[fallthrough]];
    case absl::StatusCode::kUnimplemented:
      size = 1;
      if (limits_.size() >= kLimitsMost) limits_.clear();
      limits_[statement] = {status.code() == absl::StatusCode::kUnimplemented ? 1 : (loads.size() + 1) / 2,
                            now + kLimitedFor};
      break;
    default:
      break;
  }
  Loads next;
  for (Waiting& load : loads) {
    if (size == 0) {
      load.done(status);
    } else if (load.due <= now) {
      // What the set failed with may be another one's.
      load.done(absl::DeadlineExceededError(
          absl::StrCat(load.query.endpoint->name, ": the deadline passed while the database was asked")));
    } else {
      next.push_back(std::move(load));
      if (next.size() == size) SendSet(std::exchange(next, {}));
    }
  }
  if (!next.empty()) SendSet(std::move(next));
}

size_t GatheringControl::Most(const std::string& statement) {
  const auto limit = limits_.find(statement);
  if (limit == limits_.end()) return QuerySet::kMost;
  if (clock_->Steady() < limit->second.until) return limit->second.most;
  limits_.erase(limit);
  return QuerySet::kMost;
}

}  // namespace shadowline::cache
