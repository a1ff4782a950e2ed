// Readiness is whether this replica may be sent reads: a set of named conditions, each met, or not met for a reason.
//
//   Readiness readiness({"database", "catalog", "flags"}, [&](bool ready) { health->SetServingStatus(ready); });
//   readiness.SetMet("database");
//   readiness.SetUnmet("database", "connection refused");     // from wherever it is noticed
//
// That Redis can be reached is a condition at the start alone, and for a second at most: without it reads are slower, not
// wrong.
//
// Threads: thread-safe. The observer is called by the thread whose change it is, without a lock, one call at a time;
// its last call always has what is true now.
#ifndef SHADOWLINE_SERVER_RPC_READINESS_H_
#define SHADOWLINE_SERVER_RPC_READINESS_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace shadowline::server {

class Readiness {
 public:
  // Every condition starts unmet: nothing was found out yet. `observer` hears of every change, and not of the start.
  explicit Readiness(const std::vector<std::string>& conditions, std::function<void(bool ready)> observer = nullptr);
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // A condition that was not named at the start is added.
  void SetMet(const std::string& condition);
  void SetUnmet(const std::string& condition, const std::string& reason);

  bool ready() const;
  // Each condition with its reason; empty where it is met.
  std::map<std::string, std::string> conditions() const;

 private:
  void Set(const std::string& condition, const std::string& reason);
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::function<void(bool ready)> observer_;
  mutable base::Mutex mutex_;
  std::map<std::string, std::string> reasons_ ABSL_GUARDED_BY(mutex_);
  bool told_ ABSL_GUARDED_BY(mutex_) = false;     // What the observer heard last.
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;  // A thread is in the observer, and looks again afterwards.
};

}  // namespace shadowline::server

#endif  // SHADOWLINE_SERVER_RPC_READINESS_H_
