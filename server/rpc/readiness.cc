#include "server/rpc/readiness.h"

#include <algorithm>
#include <utility>

namespace shadowline::server {

Readiness::Readiness(const std::vector<std::string>& conditions, std::function<void(bool ready)> observer)
    : observer_(std::move(observer)) {
  for (const std::string& condition : conditions) reasons_[condition] = "not known yet";
  told_ = conditions.empty();
}

void Readiness::SetMet(const std::string& condition) { Set(condition, ""); }

void Readiness::SetUnmet(const std::string& condition, const std::string& reason) {
  Set(condition, reason.empty() ? "unmet" : reason);
}

void Readiness::Set(const std::string& condition, const std::string& reason) {
  {
    base::MutexLock lock(&mutex_);
    reasons_[condition] = reason;
    if (telling_ || observer_ == nullptr) return;
    telling_ = true;
  }
  while (true) {
    bool ready;
    {
      base::MutexLock lock(&mutex_);
      ready = Ready();
      if (ready == told_) {
        telling_ = false;
        return;
      }
      told_ = ready;
    }
    observer_(ready);
  }
}

bool Readiness::Ready() const {
  return std::all_of(reasons_.begin(), reasons_.end(), [](const auto& entry) { return entry.second.empty(); });
}

bool Readiness::ready() const {
  base::MutexLock lock(&mutex_);
  return Ready();
}

std::map<std::string, std::string> Readiness::conditions() const {
  base::MutexLock lock(&mutex_);
  return reasons_;
}

}  // namespace shadowline::server
