#include "tests/verdicts/naive.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace shadowline::verdicts {
namespace {

using nlohmann::json;

const absl::Duration kBetweenRetries = absl::Seconds(50) * kRetryScale / 6;

bool Alike(const json& a, const json& b) {
  if (a.is_number() && b.is_number()) {
    const double x = a.get<double>(), y = b.get<double>();
    return std::abs(x - y) <= 1e-9 * std::max(std::abs(x), std::abs(y));
  }
  if (a.type() != b.type() || a.size() != b.size()) return false;
  if (a.is_object()) {
    return std::all_of(a.items().begin(), a.items().end(),
                       [&b](const auto& item) { return b.contains(item.key()) && Alike(item.value(), b[item.key()]); });
  }
  if (a.is_array()) {
    for (size_t i = 0; i < a.size(); ++i) {
      if (!Alike(a[i], b[i])) return false;
    }
    return true;
  }
  return a == b;
}

}  // namespace

std::optional<bool> LooksEqual(const Pair& pair) {
  if (!pair.cached.has_value() || !pair.control.has_value()) return std::nullopt;
  const json cached = json::parse(*pair.cached, nullptr, /*allow_exceptions=*/false);
  const json control = json::parse(*pair.control, nullptr, /*allow_exceptions=*/false);
  if (cached.is_discarded() || control.is_discarded() || cached.is_null() || control.is_null()) return std::nullopt;
  return Alike(cached, control);
}

void Naive::Observe(const std::string& key, const Pair& pair, const std::optional<std::string>& control_again,
                    const Again& again, absl::Duration now) {
  if (control_again.has_value() && pair.control.has_value()) {
    ++twice_read_;
    noisy_ += LooksEqual({control_again, pair.control}) == false;
  }
  const std::optional<bool> equal = LooksEqual(pair);
  if (!equal.has_value()) return;
  ++compared_;
  if (*equal) return;
  ++once_;
  reread_ += LooksEqual(again()) == false;
  retrying_.try_emplace(key, Retrying{again, *pair.control, 6, now + kBetweenRetries});
}

void Naive::Tend(absl::Duration now) {
  for (auto entry = retrying_.begin(); entry != retrying_.end();) {
    Retrying& retrying = entry->second;
    if (now < retrying.due) {
      ++entry;
      continue;
    }
    const Pair pair = retrying.again();
    const bool moved = LooksEqual({pair.control, retrying.control}) != true;
    const bool cleared = LooksEqual(pair) != false;
    retrying.due += kBetweenRetries;
    gave_up_ += moved;
    six_ += !moved && !cleared && retrying.left == 1;
    if (moved || cleared || --retrying.left == 0) {
      entry = retrying_.erase(entry);
    } else {
      ++entry;
    }
  }
}

json Naive::Verdicts(bool real) const {
  const auto verdict = [real](uint64_t alarms, json rest = json::object()) {
    rest["alarms"] = alarms;
    rest["verdict"] = real ? (alarms > 0 ? "caught" : "missed") : (alarms > 0 ? "cried wolf" : "quiet");
    return rest;
  };
  const double rate = compared_ == 0 ? 0 : static_cast<double>(once_) / static_cast<double>(compared_);
  const double noise = twice_read_ == 0 ? 0 : static_cast<double>(noisy_) / static_cast<double>(twice_read_);
  const bool above = rate > 1.2 * noise && rate - noise > 0.0003;
  return {{"once", verdict(once_)},
          {"reread", verdict(reread_)},
          {"six_retries", verdict(six_, {{"gave_up", gave_up_}})},
          {"noise_floor", verdict(above ? 1 : 0, {{"differ", rate}, {"noise", noise}})}};
}

}  // namespace shadowline::verdicts
