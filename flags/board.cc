#include "flags/board.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace shadowline::flags {
namespace {

// No tenant or family holds a NUL: the catalog refuses it, and PostgreSQL cannot store it.
std::string IndexKey(absl::string_view tenant, absl::string_view family) {
  return absl::StrCat(tenant, absl::string_view("\0", 1), family);
}

}  // namespace

Snapshot::Snapshot(uint64_t revision, absl::flat_hash_set<std::string> tenants, Targets targets, Lives lives,
                   uint64_t catalog_revision)
    : revision_(revision),
      tenants_(std::move(tenants)),
      targets_(std::move(targets)),
      lives_(std::move(lives)),
      catalog_revision_(catalog_revision) {
  index_.reserve(targets_.size());
  for (const auto& [target, flag] : targets_) index_.emplace(IndexKey(target.second, target.first), &flag);
}

const Flag* Snapshot::Find(absl::string_view tenant, absl::string_view family) const {
  static const Flag* const kDatabase = new Flag();
  const auto found = index_.find(IndexKey(tenant, family));
  return found == index_.end() ? kDatabase : found->second;
}

Board::Board(const base::Clock* clock, absl::Duration lease) : clock_(clock), lease_(lease) {}

std::shared_ptr<const Snapshot> Board::Current() const {
  base::MutexLock lock(&mutex_);
  return current_;
}

bool Board::Leased() const {
  return absl::ToInt64Nanoseconds(clock_->Steady()) < leased_until_ns_.load(std::memory_order_acquire);
}

void Board::Publish(std::shared_ptr<const Snapshot> snapshot, absl::Duration asked_at) {
  const uint64_t revision = snapshot->revision();
  {
    base::MutexLock lock(&mutex_);
    if (current_ == nullptr || revision > current_->revision()) {
      current_ = std::move(snapshot);
      version_.fetch_add(1, std::memory_order_release);
    }
  }
  Renew(revision, asked_at);
}

void Board::Renew(uint64_t revision, absl::Duration asked_at) {
  base::MutexLock lock(&mutex_);
  if (current_ == nullptr || current_->revision() != revision) return;
  const int64_t until = absl::ToInt64Nanoseconds(asked_at + lease_);
  if (until > leased_until_ns_.load(std::memory_order_relaxed))
    leased_until_ns_.store(until, std::memory_order_release);
}

}  // namespace shadowline::flags
