// The rules by which other tools tell a wrong cache from a right one, run beside Shadowline on the same reads. Each
// sees every read (none is lost to sampling, which is more than such tools usually see) and compares as an ordinary
// JSON library does: numbers as doubles, alike within 1e-9; pairs in which one side has no row, or is no JSON, are left
// out.
//
//   once          what differs is wrong
//   reread        what differs is read again at once, and is wrong if it still differs
//   six_retries   what differs is read six times more over 50 s; it is wrong if it differs each time, and given up if
//                 the database's answer changes meanwhile. One second of such a tool is kRetryScale here, as one of the
//                 applications' TTLs is.
//   noise_floor   the share of reads that differ, beside that by which two reads of the database differ: wrong if it is
//                 20 % above that, and by more than 0.03 % of the reads
//
// Threads: compatible.
#ifndef SHADOWLINE_TESTS_VERDICTS_NAIVE_H_
#define SHADOWLINE_TESTS_VERDICTS_NAIVE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace shadowline::verdicts {

inline constexpr double kRetryScale = 0.05;

// Both sides of a read. None: there is no such row, it was not cached, or the side could not be read.
struct Pair {
  std::optional<std::string> cached;
  std::optional<std::string> control;
};

// As an ordinary JSON library compares. None: there is nothing to compare.
std::optional<bool> LooksEqual(const Pair& pair);

class Naive {
 public:
  // Reads both sides of the read once more.
  using Again = std::function<Pair()>;

  // A read, and the control's answer to the same question read once more, where it was.
  void Observe(const std::string& key, const Pair& pair, const std::optional<std::string>& control_again,
               const Again& again, absl::Duration now);
  // Makes the retries that are due.
  void Tend(absl::Duration now);

  uint64_t compared() const { return compared_; }
  uint64_t differed() const { return once_; }
  // {"once": {"alarms": 3, "verdict": "missed"}, ...}: caught, missed, cried wolf or quiet. `real`: there was something
  // to find.
  nlohmann::json Verdicts(bool real) const;

 private:
  struct Retrying {
    Again again;
    std::string control;
    int left = 6;
    absl::Duration due;
  };

  uint64_t compared_ = 0;
  uint64_t once_ = 0;
  uint64_t reread_ = 0;
  uint64_t six_ = 0;
  uint64_t gave_up_ = 0;
  uint64_t twice_read_ = 0;
  uint64_t noisy_ = 0;
  std::map<std::string, Retrying> retrying_;
};

}  // namespace shadowline::verdicts

#endif  // SHADOWLINE_TESTS_VERDICTS_NAIVE_H_
