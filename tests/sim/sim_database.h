// A versioned database in memory, and a Control that reads it: virtual latency, injected faults, and a history that
// says which values a reply may have.
//
//   SimDatabase database(world.clock());
//   SimControl control({}, &database, world.executor(), world.clock(), world.random());
//   database.Write(RowKey("pricing/quote", "acme", {"42"}), R"({"price":1})");
//   ...
//   database.ValuesBetween(row, reply_time - delta, reply_time)   // what a reply within delta may say
//
// Transactions that are still open when a statement takes its snapshot are invisible to it and named in it, as
// PostgreSQL does.
//
// Threads: one, like everything in the simulation.
#ifndef SHADOWLINE_TESTS_SIM_SIM_DATABASE_H_
#define SHADOWLINE_TESTS_SIM_SIM_DATABASE_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/executor.h"
#include "base/random.h"
#include "cache/origin/control.h"
#include "cache/origin/snapshot.h"
#include "cache/origin/twin_control.h"

namespace shadowline::sim {

// Names the answer to one question, without ambiguity: each part is preceded by its length.
inline std::string RowKey(absl::string_view endpoint, absl::string_view tenant,
                          const std::vector<std::optional<std::string>>& arguments) {
  std::string key = absl::StrCat(endpoint, "|", tenant.size(), ":", tenant);
  for (const auto& argument : arguments) {
    argument ? absl::StrAppend(&key, "|", argument->size(), ":", *argument) : absl::StrAppend(&key, "|null");
  }
  return key;
}

class SimDatabase {
 public:
  // nullopt: the row does not exist.
  using Value = std::optional<std::string>;

  struct Reading {
    Value value;
    std::string snapshot;
  };

  explicit SimDatabase(const base::Clock* clock) : clock_(clock) {}

  // A transaction of its own, committed at once. Returns its id.
  uint64_t Write(const std::string& row, Value value) {
    const uint64_t transaction = Begin();
    Write(transaction, row, std::move(value));
    Commit(transaction);
    return transaction;
  }

  uint64_t Begin() {
    open_[next_transaction_];
    return next_transaction_++;
  }
  void Write(uint64_t transaction, const std::string& row, Value value) {
    open_.at(transaction)[row] = std::move(value);
  }
  // Visible from now on.
  void Commit(uint64_t transaction) {
    for (auto& [row, value] : open_.at(transaction)) rows_[row].push_back({clock_->Now(), std::move(value)});
    open_.erase(transaction);
  }
  void Rollback(uint64_t transaction) { open_.erase(transaction); }

  // What a statement that begins now sees.
  Reading Read(const std::string& row) const {
    cache::DatabaseSnapshot snapshot{.xmin = next_transaction_, .xmax = next_transaction_, .in_progress = {}};
    for (const auto& [transaction, writes] : open_) snapshot.in_progress.push_back(transaction);
    if (!open_.empty()) snapshot.xmin = open_.begin()->first;
    const auto found = rows_.find(row);
    return {found == rows_.end() ? std::nullopt : found->second.back().value, snapshot.ToString()};
  }

  // Every value that `row` held at some moment of [from, to].
  std::set<Value> ValuesBetween(const std::string& row, absl::Time from, absl::Time to) const {
    std::set<Value> values;
    Value before;  // The row did not exist.
    const auto found = rows_.find(row);
    if (found != rows_.end()) {
      for (const Version& version : found->second) {
        if (version.at > to) break;
        // The version that a write at this very instant replaces was held at that instant, too.
        if (version.at >= from) values.insert(before);
        before = version.value;
      }
    }
    values.insert(before);
    return values;
  }

  bool HeldBetween(const std::string& row, const Value& value, absl::Time from, absl::Time to) const {
    return ValuesBetween(row, from, to).contains(value);
  }

 private:
  struct Version {
    absl::Time at;
    Value value;
  };

  const base::Clock* const clock_;
  uint64_t next_transaction_ = 1000;
  std::map<uint64_t, std::map<std::string, Value>> open_;
  std::map<std::string, std::vector<Version>> rows_;
};

class SimControl final : public cache::Control, public cache::TwinControl {
 public:
  struct Options {
    // Uniform between the two. The snapshot is taken somewhere in between, so that what is loaded can be stale on
    // arrival.
    absl::Duration latency_min = absl::Milliseconds(1);
    absl::Duration latency_max = absl::Milliseconds(5);
    // This share of loads takes `slow_latency` instead.
    double slow_share = 0;
    absl::Duration slow_latency = absl::Seconds(1);
    // This share of loads fails with `error`.
    double error_share = 0;
    absl::Status error = absl::InternalError("injected");
    // Loads that may be under way at once, then kResourceExhausted.
    size_t queue_limit = 1 << 20;
    // What a statement that is not deterministic makes of a row: called once for each answer.
    std::function<std::string(std::string)> noise = nullptr;
    bool standby = false;  // As ControlAnswer::standby.
    // Hears how each load that reached the database went, as PostgresControl's does.
    std::function<void(absl::string_view statement, absl::Duration took, const absl::Status& status)> ran = nullptr;
  };

  SimControl(Options options, const SimDatabase* database, base::Executor* executor, const base::Clock* clock,
             base::Random* random)
      : options_(std::move(options)), database_(database), executor_(executor), clock_(clock), random_(random) {}

  // May be changed at any time; loads that are under way keep what they drew.
  Options& options() { return options_; }

  // While set, every load takes until its deadline.
  void Hang(bool hang) { hang_ = hang; }
  // While not OK, every load fails with it at once.
  void FailAll(absl::Status status) { fail_all_ = std::move(status); }
  // The next load fails with it; further calls are for the loads after that one.
  void FailNext(absl::Status status) { fail_next_.push_back(std::move(status)); }
  // Every statement that is asked for the answer to these arguments fails with it.
  void FailArguments(const cache::Arguments& arguments, absl::Status status) {
    fail_arguments_[arguments] = std::move(status);
  }

  // Statements that reached the database.
  uint64_t queries() const { return queries_; }
  size_t under_way() const { return under_way_; }

  void Load(cache::Query query, absl::Duration timeout, base::Executor* reply_on, Callback done) override {
    cache::QuerySet queries{std::move(query.catalog), query.endpoint, std::move(query.tenant), {}};
    queries.arguments.push_back(std::move(query.arguments));
    LoadSet(std::move(queries), timeout, reply_on, [done = std::move(done)](Answers answers) mutable {
      answers.ok() ? done(std::move(answers->front())) : done(answers.status());
    });
  }

  // Takes as long as a single load.
  void LoadSet(cache::QuerySet queries, absl::Duration timeout, base::Executor* reply_on, SetCallback done) override {
    timeout = std::min(timeout, queries.endpoint->timeout);
    Start(std::move(queries), timeout, 1, reply_on, std::move(done));
  }

  // Takes as long as a single load, too.
  void LoadTwice(cache::Query query, absl::Duration timeout, base::Executor* reply_on, TwinsCallback done) override {
    timeout = std::min(timeout, 2 * query.endpoint->timeout);
    cache::QuerySet queries{std::move(query.catalog), query.endpoint, std::move(query.tenant), {}};
    queries.arguments.push_back(std::move(query.arguments));
    Start(std::move(queries), timeout, 2, reply_on, [done = std::move(done)](Answers answers) mutable {
      if (!answers.ok()) return done(answers.status());
      done(cache::Twins(std::move(answers->at(0)), std::move(answers->at(1))));
    });
  }

 private:
  using Answers = absl::StatusOr<std::vector<cache::ControlAnswer>>;

  // Answers each read `times` times, all at one snapshot.
  void Start(cache::QuerySet queries, absl::Duration timeout, int times, base::Executor* reply_on, SetCallback done) {
    if (!fail_all_.ok()) return Reply(absl::ZeroDuration(), fail_all_, reply_on, std::move(done));
    if (under_way_ >= options_.queue_limit) {
      return Reply(absl::ZeroDuration(), absl::ResourceExhaustedError("the database queue is full"), reply_on,
                   std::move(done));
    }
    absl::Status fault;
    if (!fail_next_.empty()) {
      fault = std::move(fail_next_.front());
      fail_next_.pop_front();
    } else if (random_->Unit() < options_.error_share) {
      fault = options_.error;
    }
    for (const cache::Arguments& arguments : queries.arguments) {
      if (const auto failing = fail_arguments_.find(arguments); failing != fail_arguments_.end())
        fault = failing->second;
    }
    queries_ += times;
    const absl::Duration latency = DrawLatency();
    if (options_.ran != nullptr) {
      const bool late = hang_ || latency > timeout;
      const absl::Duration took = late ? timeout : latency;
      executor_->PostAfter(took, [this, name = queries.endpoint->name, took, late, fault] {
        options_.ran(name, took, late ? absl::DeadlineExceededError("late") : fault);
      });
    }
    if (hang_ || latency > timeout) {
      return Reply(std::max(timeout, absl::ZeroDuration()),
                   absl::DeadlineExceededError(
                       absl::StrCat(queries.endpoint->name, ": no answer within ", absl::FormatDuration(timeout))),
                   reply_on, std::move(done));
    }
    if (!fault.ok()) return Reply(latency, std::move(fault), reply_on, std::move(done));

    ++under_way_;
    const absl::Duration until_snapshot = latency * random_->Unit();
    executor_->PostAfter(until_snapshot, [this, queries = std::move(queries), times, started_at = clock_->Now(),
                                          rest = latency - until_snapshot, reply_on, done = std::move(done)]() mutable {
      std::vector<cache::ControlAnswer> answers;
      for (const cache::Arguments& arguments : queries.arguments) {
        const SimDatabase::Reading reading = database_->Read(RowKey(queries.endpoint->name, queries.tenant, arguments));
        for (int time = 0; time < times; ++time) {
          cache::ControlAnswer& answer = answers.emplace_back();
          answer.found = reading.value.has_value();
          answer.body = reading.value.value_or("");
          if (answer.found && options_.noise != nullptr) answer.body = options_.noise(std::move(answer.body));
          answer.snapshot = reading.snapshot;
          answer.standby = options_.standby;
          answer.started_at = started_at;
          answer.answered_at = clock_->Now() + rest;
          if (!queries.endpoint->committed_at.empty()) answer.database_clock = clock_->Now();
        }
      }
      --under_way_;
      Reply(rest, std::move(answers), reply_on, std::move(done));
    });
  }

  absl::Duration DrawLatency() {
    if (random_->Unit() < options_.slow_share) return options_.slow_latency;
    return options_.latency_min + (options_.latency_max - options_.latency_min) * random_->Unit();
  }

  void Reply(absl::Duration after, Answers result, base::Executor* reply_on, SetCallback done) {
    ++under_way_;
    executor_->PostAfter(after, [this, result = std::move(result), reply_on, done = std::move(done)]() mutable {
      --under_way_;
      reply_on->Post([result = std::move(result), done = std::move(done)]() mutable { done(std::move(result)); });
    });
  }

  Options options_;
  const SimDatabase* const database_;
  base::Executor* const executor_;
  const base::Clock* const clock_;
  base::Random* const random_;
  bool hang_ = false;
  absl::Status fail_all_;
  std::deque<absl::Status> fail_next_;
  std::map<cache::Arguments, absl::Status> fail_arguments_;
  uint64_t queries_ = 0;
  size_t under_way_ = 0;
};

}  // namespace shadowline::sim

#endif  // SHADOWLINE_TESTS_SIM_SIM_DATABASE_H_
